package cli

import (
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/wire"
)

func (p *program) publishCommand() *cli.Command {
	return &cli.Command{
		Name:  "publish",
		Usage: "keep the session of a profile in the AWS credentials file",
		UsageText: "broker publish prod\n" +
			"broker publish prod --for 2h",
		ArgsUsage: "PROFILE…",
		Description: "The daemon renews the session before it expires. The session is removed after the time of --for, by\n" +
			"`broker unpublish`, while Broker is locked or the source is logged out, and when the daemon ends. A daemon that\n" +
			"is killed leaves it there until the next one starts. With `publish = true` in the registry's [profile NAME],\n" +
			"Broker publishes the profile by itself.",
		Flags:        []cli.Flag{spanFlag("for", "keep it there this long, such as `2h`", 8*time.Hour)},
		BashComplete: p.completeManyProfiles,
		Action:       p.publish,
	}
}

func (p *program) publish(c *cli.Context) error {
	switch {
	case !c.Args().Present():
		return fault.New(fault.Usage, "publish needs a profile").WithHint("broker publish PROFILE")
	case spanOf(c, "for") <= 0:
		return fault.New(fault.Usage, "--for needs a duration such as 8h").WithHint("broker publish --help")
	}
	names, err := p.findAll(c.Args().Slice())
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		resp, err := p.ask(c.Context, wire.Request{Verb: wire.Publish, Profile: name, For: spanOf(c, "for")})
		if err != nil {
			failed = append(failed, err)
			continue
		}
		p.warn(resp.Warnings)
		if resp.Status == nil {
			return fault.New(fault.Unreachable, "the daemon's answer does not say what is published")
		}
		for _, e := range resp.Status.Published {
			until, long := "the daemon ends or is locked", "until then"
			if e.Until != nil {
				until, long = e.Until.Local().
					Format(time.DateTime),
					"for "+profiles.FormatDuration(
						time.Until(*e.Until).Round(time.Minute),
					)
			}
			p.say("%s: published until %s", fault.Line(e.Profile), until)
			p.warn([]string{"credentials of " + e.Profile + " are in " + e.File + " " + long + ", where each of your programs can read them; `broker unpublish` removes them"})
		}
	}
	return p.first(failed)
}

// findAll returns the exact names of what a person typed, each once.
func (p *program) findAll(typed []string) ([]string, error) {
	set, err := p.set()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, t := range typed {
		name, err := set.Find(t)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}
