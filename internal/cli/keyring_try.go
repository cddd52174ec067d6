package cli

import (
	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/vault"
)

func (p *program) keyringTryCommand() *cli.Command {
	return &cli.Command{
		Name:  "test",
		Usage: "test whether a keyring can store, read and delete an item",
		UsageText: "broker keyring test\n" +
			"broker keyring test pass",
		ArgsUsage: "[BACKEND]",
		Description: "Writes an item, reads it back, replaces it and removes it, in BACKEND or the keyring in use. It may\n" +
			"ask for the password of a locked keyring. It touches no key.",
		BashComplete: p.completeFrom(vault.Backends()),
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return fault.New(fault.Usage, "test takes at most one keyring").WithHint("broker keyring test BACKEND")
			}
			set, err := p.set()
			if err != nil {
				return err
			}
			backend := c.Args().First()
			if backend == "" {
				ring, err := p.openKeyring(c.Context, set)
				if err != nil {
					return err
				}
				backend = ring.backend
			}
			if err := vault.CheckBackend(backend); err != nil {
				return err
			}
			ring := p.keyringOf(backend)
			if _, err := ring.attempt(c.Context, func() error { return ring.Try(c.Context, backend) }); err != nil {
				return err
			}
			p.say("%s works: an item was written, read back, replaced and removed", backend)
			if note := vault.Note(backend); note != "" {
				p.warn([]string{backend + " is " + note})
			}
			return nil
		},
	}
}
