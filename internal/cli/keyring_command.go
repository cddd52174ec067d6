package cli

import "github.com/urfave/cli/v2"

func (p *program) keyringCommand() *cli.Command {
	return &cli.Command{
		Name:  "keyring",
		Usage: "list, test and migrate keyrings",
		UsageText: "broker keyring list\n" +
			"broker keyring migrate --to pass",
		Subcommands: []*cli.Command{
			p.keyringListCommand(),
			p.keyringTryCommand(),
			p.keyringMigrateCommand(),
		},
	}
}
