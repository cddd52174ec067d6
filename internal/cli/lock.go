package cli

import (
	"context"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/wire"
)

func (p *program) lockCommand() *cli.Command {
	return &cli.Command{
		Name:  "lock",
		Usage: "drop every session and give out nothing until unlocked",
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			if _, err := p.client.Do(c.Context, wire.Request{Verb: wire.Lock}); err != nil {
				return err
			}
			p.say("locked")
			return nil
		},
	}
}

func (p *program) unlockCommand() *cli.Command {
	return &cli.Command{
		Name:  "unlock",
		Usage: "end lock; asks for the passphrase of a file keyring",
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			_, err := p.client.Do(c.Context, wire.Request{Verb: wire.Unlock})
			if fault.Is(err, fault.KeyringLocked) && hasTerminal() {
				err = p.unlockDaemon(c.Context)
			}
			if err != nil {
				return err
			}
			p.say("unlocked")
			return nil
		},
	}
}

// passphraseTries is how often a passphrase is asked for before we give up.
const passphraseTries = 3

// unlockDaemon asks for the passphrase of the file keyring and gives it to the daemon, which keeps it until lock.
func (p *program) unlockDaemon(ctx context.Context) error {
	t, err := openTerminal()
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }()
	for try := 1; ; try++ {
		pass, err := t.hidden(ctx, "Passphrase of the keyring: ")
		if err != nil {
			return err
		}
		_, err = p.client.Do(ctx, wire.Request{Verb: wire.Unlock, Passphrase: pass})
		if !fault.Is(err, fault.KeyringLocked) || try == passphraseTries {
			return err
		}
		p.warn([]string{err.Error()})
	}
}
