package cli

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/session"
)

func (p *program) trustCommand() *cli.Command {
	return &cli.Command{
		Name:  "trust",
		Usage: "trust what an AWS file, or the file of a directory, says",
		UsageText: "broker profiles trust local\n" +
			"broker profiles trust --directory\n" +
			"broker profiles trust --list",
		ArgsUsage: "PROFILE… | --directory [DIRECTORY…]",
		Description: "Shows the source, roles and endpoints of the profile, with the lines that need your approval, then asks.\n" +
			"With --directory, shows which profiles and accounts belong to a directory by its file .broker. Without a\n" +
			"DIRECTORY, it is the nearest one with such a file: the working directory or one above it. Your approval is\n" +
			"stored in the registry as a hash. It ends when anything that was shown changes.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "directory", Usage: "trust the file .broker of a directory"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
			&cli.BoolFlag{Name: "list", Usage: "list the trusted profiles and directories"},
			&cli.BoolFlag{Name: "remove", Usage: "stop trusting these profiles or directories"},
			jsonFlag(),
		},
		BashComplete: p.completeManyProfiles,
		Action: func(c *cli.Context) error {
			names, one, remove := c.Args().Slice(), p.trust, p.removeTrust
			if c.Bool("directory") && !c.Bool("list") {
				var err error
				if names, err = directories(names); err != nil {
					return err
				}
				one, remove = p.trustDirectory, p.removeDirectories
			}
			switch {
			case c.Bool("list") && !c.Bool("remove"):
				if err := none(c); err != nil {
					return err
				}
				return p.listTrust(c.Bool("json"))
			case c.Bool("list") || len(names) == 0:
				return fault.New(fault.Usage, "trust needs the name of a profile").WithHint("broker profiles trust PROFILE")
			case c.Bool("remove"):
				return remove(names)
			}
			for _, name := range names {
				if err := one(c.Context, name, c.Bool("yes")); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (p *program) trust(ctx context.Context, typed string, yes bool) error {
	set, err := p.set()
	if err != nil {
		return err
	}
	name, err := set.Find(typed)
	if info, statErr := os.Stat(typed); err != nil && statErr == nil && info.IsDir() {
		return fault.Of(err).WithHint("broker profiles trust %s --directory", typed)
	}
	if err != nil {
		return err
	}
	t, err := set.Trust(name)
	if err != nil {
		return err
	}
	if t.State == profiles.TrustNotNeeded {
		p.say("%s: nothing in it needs your trust", fault.Line(name))
		return nil
	}
	settings, err := set.Settings()
	if err != nil {
		return err
	}
	listener, err := p.showTrust(ctx, t, settings)
	if err != nil {
		return err
	}
	section := t.TrustSection(listener)
	if t.State == profiles.Trusted && slices.Equal(section, set.TrustEntry(name)) {
		p.say("%s is trusted already", fault.Line(name))
		return nil
	}
	if err := p.keepTrust(ctx, yes, profiles.SectionTrust, name, section); err != nil {
		return err
	}
	p.say("%s is trusted until any of that changes", fault.Line(name))
	return nil
}

// keepTrust asks, unless yes is set, and writes the section of the registry that stores the answer.
func (p *program) keepTrust(ctx context.Context, yes bool, kind, name string, section []profiles.KeyValue) error {
	if !yes {
		if err := p.confirm(ctx, "Trust all of it?"); err != nil {
			return err
		}
	}
	return p.editRegistry(func(src []byte) ([]byte, error) {
		src, err := profiles.RemoveSection(src, kind, name)
		if err != nil {
			return nil, err
		}
		return profiles.SetSection(src, kind, name, section)
	})
}

// showTrust prints what a confirmation covers: the calls of the profile, with the address that each call goes to.
// It returns which other user listens at the plain-http endpoints.
func (p *program) showTrust(
	ctx context.Context, t profiles.Trust, settings profiles.Settings,
) (listener string, err error) {
	plan, err := session.NewPlan(t.Chain, session.Defaults{
		SessionDuration: settings.SessionDuration, STSEndpoint: settings.STSEndpoint,
	})
	if err != nil {
		return "", err
	}
	w := p.table()
	row := func(what, value string) {
		if value != "" {
			w.row(what, value)
		}
	}
	row("profile", t.Chain.Profile)
	source := t.Chain.Source
	row("source", source.Name)
	row("  portal", source.StartURL)
	row("  login", source.ARN)
	row("  token file", source.TokenFile)
	row("  program", source.Command)
	if a := t.Chain.Assignment; a != nil {
		row("  account", a.AccountID)
		row("  permission set", a.RoleName)
	}
	for _, s := range plan.Steps {
		if s.RoleARN != "" {
			row("role", s.RoleARN)
			row("  account", strings.SplitN(s.RoleARN, ":", 6)[4])
			row("  external id", s.ExternalID)
		}
		row("  mfa device", s.MFASerial)
		where, who := endpointOf(&s), ""
		if settings.STSEndpoint != "" && s.Endpoint.URL != "" {
			where += ", by sts_endpoint in " + settings.Origins["sts_endpoint"].String()
		}
		if s.Endpoint.URL != "" && s.Endpoint.Listener == "" {
			who = listenerAt(ctx, s.Endpoint.URL)
		}
		switch who {
		case "", strconv.Itoa(os.Geteuid()):
		case profiles.AnyListener:
			where += ", where a program of an unknown user listens"
		case "0":
			where += ", where root listens"
		default:
			where += ", where uid " + who + " listens"
		}
		if who == strconv.Itoa(os.Geteuid()) {
			who = ""
		}
		if who != "" && listener != "" && who != listener {
			return "", fault.New(fault.Failed, "the endpoints of %q belong to programs of two other users", t.Chain.Profile)
		}
		listener = max(listener, who)
		row("  endpoint", where)
	}
	for _, v := range slices.Concat(t.Claims, t.Limits) {
		row("from "+v.Origin.String(), v.Key+" = "+v.Text)
	}
	return listener, w.print()
}

// trustJSON is one profile or directory in `broker profiles trust --list --json`.
type trustJSON struct {
	Profile   string `json:"profile,omitempty"`
	Directory string `json:"directory,omitempty"`
	State     string `json:"state"`
	Origin    string `json:"origin"`
	Problem   string `json:"problem,omitempty"`
}

// setProblem says why the state is not known.
func (t *trustJSON) setProblem(err error) {
	if err != nil {
		t.State, t.Problem = "unknown", fault.Line(err.Error())
	}
}

func (p *program) listTrust(asJSON bool) error {
	set, err := p.set()
	if err != nil {
		return err
	}
	out := []trustJSON{}
	for _, name := range set.TrustEntries() {
		t, err := set.Trust(name)
		one := trustJSON{Profile: name, State: t.State, Origin: t.Origin.String()}
		one.setProblem(err)
		out = append(out, one)
	}
	for _, d := range set.TrustedDirectories() {
		one := trustJSON{Directory: d.Path, State: d.State, Origin: d.Origin.String()}
		one.setProblem(d.Err)
		out = append(out, one)
	}
	if asJSON {
		return p.printJSON(out)
	}
	if len(out) == 0 {
		p.warn([]string{"no profile or directory is trusted yet"})
		return nil
	}
	w := p.table("TRUSTED", "STATE", "FROM")
	var problems []string
	for _, t := range out {
		name := cmp.Or(t.Profile, t.Directory)
		w.row(name, t.State, t.Origin)
		if t.Problem != "" {
			problems = append(problems, under(name, t.Problem))
		}
	}
	return p.printTable(w, problems)
}

func (p *program) removeTrust(typed []string) error {
	set, err := p.set()
	if err != nil {
		return err
	}
	var names []string
	for _, name := range typed {
		if found, err := set.Find(name); err == nil && !slices.Contains(set.TrustEntries(), name) {
			name = found
		}
		if !slices.Contains(set.TrustEntries(), name) {
			return fault.New(fault.NotFound, "%q was not trusted", name).WithHint("broker profiles trust --list")
		}
		names = append(names, name)
	}
	return p.dropTrust(profiles.SectionTrust, names)
}

// dropTrust removes sections of the registry that store a confirmation.
func (p *program) dropTrust(kind string, names []string) error {
	err := p.editRegistry(func(src []byte) (dst []byte, err error) {
		for _, name := range names {
			if src, err = profiles.RemoveSection(src, kind, name); err != nil {
				return nil, err
			}
		}
		return src, nil
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		p.say("%s is no longer trusted", fault.Line(name))
	}
	return nil
}
