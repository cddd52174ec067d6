package cli

import (
	"bytes"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/profiles"
)

func (p *program) aliasCommand() *cli.Command {
	return &cli.Command{
		Name:  "alias",
		Usage: "list, set or remove short names of profiles",
		UsageText: "broker profiles alias prod product_prod_paul\n" +
			"broker profiles alias --remove prod",
		ArgsUsage: "[SHORT NAME]",
		Description: "SHORT is the name that you want to type. NAME is a profile or source, or a part of its name\n" +
			"that is unique. Without arguments the command lists all aliases.",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "remove", Usage: "remove the alias SHORT"},
		},
		BashComplete: p.completeAlias,
		Action: func(c *cli.Context) error {
			args := c.Args().Slice()
			switch {
			case c.Bool("remove") && len(args) == 1:
				return p.removeAlias(args[0])
			case c.Bool("remove"):
				return fault.New(fault.Usage, "alias --remove needs the alias to remove").
					WithHint("broker profiles alias --remove SHORT")
			case len(args) == 0:
				return p.listAliases(c.Bool("json"))
			case len(args) == 2:
				return p.setAlias(args[0], args[1])
			}
			return fault.New(fault.Usage, "alias needs a short name and a profile").WithHint("broker profiles alias SHORT NAME")
		},
	}
}

// aliasJSON is one alias in `broker profiles alias --json`.
type aliasJSON struct {
	Alias   string `json:"alias"`
	Profile string `json:"profile"`
	Origin  string `json:"origin"`
	Problem string `json:"problem,omitempty"`
}

func (p *program) listAliases(asJSON bool) error {
	set, err := p.set()
	if err != nil {
		return err
	}
	list := set.Aliases()
	if asJSON {
		out := make([]aliasJSON, 0, len(list))
		for _, a := range list {
			out = append(out, aliasJSON{a.Name, a.Target, a.Origin.String(), a.Problem})
		}
		return p.printJSON(out)
	}
	if len(list) == 0 {
		p.warn([]string{"there are no aliases yet; broker profiles alias SHORT NAME"})
		return nil
	}
	w := p.table("ALIAS", "PROFILE")
	var problems []string
	for _, a := range list {
		w.row(a.Name, a.Target)
		if a.Problem != "" {
			problems = append(problems, a.Problem)
		}
	}
	return p.printTable(w, problems)
}

// setAlias creates an alias, or changes the profile of an existing one.
func (p *program) setAlias(short, typed string) error {
	set, err := p.set()
	if err != nil {
		return err
	}
	if err := set.CheckAlias(short); err != nil {
		return err
	}
	name, err := set.Find(typed)
	if err != nil {
		return err
	}
	was := ""
	for _, a := range set.Aliases() {
		if a.Name == short && a.Target != name {
			was = ", no longer for " + fault.Line(a.Target)
		}
	}
	err = p.editRegistry(func(src []byte) ([]byte, error) {
		return profiles.SetSection(src, profiles.SectionAlias, "", []profiles.KeyValue{{Key: short, Value: name}})
	})
	if err != nil {
		return err
	}
	p.say("%s stands for %s%s", fault.Line(short), fault.Line(name), was)
	return nil
}

func (p *program) removeAlias(short string) error {
	removed := false
	err := p.editRegistry(func(src []byte) ([]byte, error) {
		dst, err := profiles.RemoveKeys(src, profiles.SectionAlias, "", short)
		removed = err == nil && !bytes.Equal(src, dst)
		return dst, err
	})
	switch {
	case err != nil:
		return err
	case !removed:
		return fault.New(fault.NotFound, "there is no alias %q", short).WithHint("broker profiles alias")
	}
	p.say("%s: removed the alias", fault.Line(short))
	return nil
}
