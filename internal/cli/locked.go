package cli

import (
	"context"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/latch"
)

// What a command does while the broker is locked.
type whileLocked int

const (
	stops whileLocked = iota // it needs the keyring, and is refused before anything is asked of anybody, or written
	asks                     // the daemon is asked for what it gives, refuses, and records that
	works                    // it gives out nothing, and needs no item of the keyring
)

// lockClasses says that of every command. One that is not here stops.
var lockClasses = map[string]whileLocked{
	"setup": stops, "add": stops, "import": stops, "remove": stops,
	"mfa set": stops, "mfa remove": stops,
	"keyring test": stops, "keyring migrate": stops,

	"login": asks, "exec": asks, "shell": asks, "export": asks, "publish": asks, "console": asks,

	"lock": works, "unlock": works, "logout": works, "unpublish": works,
	"status": works, "explain": works, "version": works, "help": works, "completion": works,
	// What unlock says of a keyring that does not answer leads here.
	"keyring list": works,
	// Files alone; what they need of AWS they ask the daemon for.
	"config get": works, "config set": works, "config unset": works, "config list": works, "profiles trust": works,
	"list": works, "profiles list": works, "profiles show": works, "profiles alias": works,
	"profiles link": works, "profiles unlink": works, "profiles generate": works, "profiles sync": works,
	"service install": works, "service uninstall": works, "service status": works, "service restart": works,
	"service stop": works,
	"daemon":       works,
}

// guard has a command and those below it refused while the broker is locked, if they stop then.
func (p *program) guard(c *cli.Command, name string) {
	for _, sub := range c.Subcommands {
		p.guard(sub, name+" "+sub.Name)
	}
	if len(c.Subcommands) > 0 || lockClasses[name] != stops {
		return
	}
	do := c.Action
	c.Action = func(ctx *cli.Context) error {
		if err := p.refuseLocked(ctx.Context); err != nil {
			return err
		}
		return do(ctx)
	}
}

// lockWritten returns the fault.Locked of a lock that is written down, or nil.
func (p *program) lockWritten() error { return latch.Find(p.paths.State).Refuse() }

// refuseLocked returns a fault.Locked while the broker is locked. Where that could not be written down, a running
// daemon knows.
func (p *program) refuseLocked(ctx context.Context) error {
	if err := p.lockWritten(); err != nil {
		return err
	}
	if status, err := p.client.Status(ctx); err == nil && status.Locked {
		return fault.New(fault.Locked, "the broker is locked").WithHint("broker unlock")
	}
	return nil
}
