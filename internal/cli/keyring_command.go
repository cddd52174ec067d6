package cli

import "github.com/urfave/cli/v2"

func (p *program) keyringCommand() *cli.Command {
	return &cli.Command{
		Name:  "keyring",
		Usage: "list and test the keyrings, move the keys to another",
		UsageText: "broker keyring list\n" +
			"broker keyring migrate --to pass",
		Subcommands: []*cli.Command{
			p.keyringListCommand(),
			p.keyringTryCommand(),
			p.keyringMigrateCommand(),
		},
	}
}
