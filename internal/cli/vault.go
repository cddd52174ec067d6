package cli

import (
	"github.com/urfave/cli/v2"

	"broker/internal/vault/process"
)

// vaultCommand is the process that reads the keyring; only the broker itself starts it.
func (p *program) vaultCommand() *cli.Command {
	return &cli.Command{
		Name:   "vault",
		Hidden: true,
		Action: func(*cli.Context) error {
			if code := process.Main(p.stdin, p.stdout); code != 0 {
				return exitError(code)
			}
			return nil
		},
	}
}
