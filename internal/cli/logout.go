package cli

import (
	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/wire"
)

func (p *program) logoutCommand() *cli.Command {
	return &cli.Command{
		Name:      "logout",
		Usage:     "forget the sessions of a source, or of all",
		ArgsUsage: "[SOURCE]",
		Action: func(c *cli.Context) error {
			if c.Args().Len() > 1 {
				return fault.New(fault.Usage, "logout wants one source or none").WithHint("broker logout SOURCE")
			}
			source := c.Args().First()
			if source != "" {
				set, err := p.set()
				if err != nil {
					return err
				}
				if _, ok := set.Source(source); !ok {
					return noSource(source)
				}
			}
			// With no daemon running one is started: the keyring may keep a session.
			resp, err := p.ask(c.Context, wire.Request{Verb: wire.Logout, Profile: source})
			if err != nil {
				return err
			}
			p.say("forgot %d sessions; AWS honours those given out until they end", resp.Count)
			return nil
		},
	}
}

func noSource(name string) error {
	return fault.New(fault.NotFound, "there is no source %q", name).WithHint("broker profiles list")
}
