package cli

import (
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/mfa"
	"broker/internal/secret"
	"broker/internal/wire"
)

func (p *program) loginCommand() *cli.Command {
	return &cli.Command{
		Name:      "login",
		Usage:     "open the MFA session of a profile or source now",
		ArgsUsage: "PROFILE|SOURCE",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "code", Usage: "the six digits that the MFA device shows", DefaultText: "none"},
		},
		BashComplete: p.completeProfiles,
		Action: func(c *cli.Context) error {
			typed, err := one(c, "profile")
			if err != nil {
				return err
			}
			name, err := p.find(typed)
			if err != nil {
				return err
			}
			var code secret.String
			if c.IsSet("code") {
				if code, err = mfa.ParseCode(c.String("code")); err != nil {
					return err
				}
			}
			resp, err := p.ask(c.Context, wire.Request{Verb: wire.Login, Profile: name, Code: code})
			if err != nil {
				return err
			}
			p.warn(resp.Warnings)
			for _, s := range resp.Status.Sessions {
				p.say("%s: logged in until %s", s.Source, s.Expires.Local().Format(time.DateTime))
			}
			return nil
		},
	}
}
