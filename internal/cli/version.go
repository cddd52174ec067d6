package cli

import (
	"github.com/urfave/cli/v2"

	"broker/internal/version"
)

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{
		Name:      "version",
		Usage:     "print the version",
		UsageText: "broker version\nbroker version --json",
		Flags:     []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if c.Bool("json") {
				return p.printJSON(version.Get())
			}
			p.printVersion()
			return nil
		},
	}
}

func (p *program) printVersion() { p.say("broker %s", version.String()) }
