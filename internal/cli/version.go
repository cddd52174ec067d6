package cli

import (
	"github.com/urfave/cli/v2"

	"broker/internal/version"
)

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			p.printVersion()
			return nil
		},
	}
}

func (p *program) printVersion() { p.say("broker %s", version.String()) }

func (p *program) helpCommand() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "show what a command does",
		ArgsUsage: "[COMMAND]",
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return cli.ShowAppHelp(c.Lineage()[1])
			}
			return c.App.RunContext(c.Context, append(append([]string{"broker"}, c.Args().Slice()...), "--help"))
		},
	}
}
