package cli

import (
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"broker/internal/vault"
)

func (p *program) keyringCommand() *cli.Command {
	return &cli.Command{
		Name:  "keyring",
		Usage: "the keyrings of this machine: list and test them, move the keys to another one",
		Subcommands: []*cli.Command{
			p.keyringListCommand(),
			p.keyringTryCommand(),
			p.keyringMigrateCommand(),
		},
	}
}

// completeBackends prints the keyring backends where one belongs: behind one of the flags, and as the argument if the
// command takes one.
func (p *program) completeBackends(argument bool, flags ...string) cli.BashCompleteFunc {
	return func(c *cli.Context) {
		n := len(os.Args) - 2
		behind := n > 0 && slices.Contains(flags, os.Args[n])
		if !behind && (p.completeFlags(c) || !argument || c.NArg() > 0) {
			return
		}
		for _, name := range vault.Backends() {
			p.complete(name)
		}
	}
}
