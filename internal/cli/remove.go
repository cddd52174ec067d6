package cli

import (
	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/wire"
)

func (p *program) removeCommand() *cli.Command {
	return &cli.Command{
		Name:      "remove",
		Usage:     "delete a source from the keyring, and its sessions",
		ArgsUsage: "SOURCE",
		Flags:     []cli.Flag{&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"}},
		Action: func(c *cli.Context) error {
			name, err := one(c, "source")
			if err != nil {
				return err
			}
			set, err := p.set()
			if err != nil {
				return err
			}
			// A part of the name will do where the whole one is asked about before anything is done.
			find := set.FindSource
			if c.Bool("yes") {
				find = func(typed string) (profiles.Source, error) { return exactSource(set, typed) }
			}
			source, notFound := find(name)
			registered := notFound == nil
			if registered {
				name = source.Name
			}
			// One whose section is lost or broken may still be in the keyring.
			what := name
			if registered {
				what += " (" + secret.Tail(source.AccessKeyID) + ")"
			}
			ring, err := p.openKeyring(c.Context, set)
			if err != nil {
				return err
			}
			if !registered {
				if err := ring.with(c.Context, func() error { _, err := ring.Describe(c.Context, name); return err }); fault.Is(err, fault.NotFound) {
					return notFound
				} else if err != nil {
					return err
				}
			}
			if !c.Bool("yes") {
				if err := p.confirm(c.Context, "Delete "+what+" from the keyring? The secret key cannot be got back."); err != nil {
					return err
				}
			}
			err = ring.with(c.Context, func() error { return ring.Remove(c.Context, name) })
			// One that an interrupted remove took out of the keyring already is removed to its end.
			if err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
			err = p.editRegistry(func(src []byte) ([]byte, error) {
				return profiles.RemoveSection(src, profiles.SectionSource, name)
			})
			if err != nil {
				return err
			}
			quiet := p.client
			quiet.NoStart = true
			_, _ = quiet.Do(c.Context, wire.Request{Verb: wire.Logout, Profile: name})
			p.say("removed %s; its access key is still active in AWS", name)
			return nil
		},
	}
}
