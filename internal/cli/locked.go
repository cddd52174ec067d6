package cli

import (
	"context"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/lockfile"
)

// whileLocked is what a command does while Broker is locked.
type whileLocked int

const (
	stops whileLocked = iota // needs the keyring; refused before it prompts or writes
	asks                     // asks the daemon, which refuses and records the request
	works                    // hands out nothing and needs no item of the keyring
)

// lockClasses has an entry for each command. A command without an entry stops.
var lockClasses = map[string]whileLocked{
	"setup": stops, "add": stops, "import": stops, "remove": stops,
	"rotate": stops, "mfa enroll": stops, "mfa replace": stops, "mfa set": stops, "mfa remove": stops,
	"keyring test": stops, "keyring migrate": stops,

	"login": asks, "exec": asks, "shell": asks, "export": asks, "publish": asks, "console": asks,
	"allow": asks, "elevate": asks, "accounts list": asks, "accounts check": asks,

	"deny": works, "lock": works, "unlock": works, "logout": works, "unpublish": works,
	"log who": works, "log verify": works,
	"status": works, "doctor": works, "explain": works, "version": works, "help": works, "completion": works,
	// The error of unlock about a keyring that does not answer refers to this command.
	"keyring list": works,
	// These change only files, and get from the daemon what they need from AWS.
	"config get": works, "config set": works, "config unset": works, "config list": works, "profiles trust": works,
	"list": works, "profiles list": works, "profiles show": works, "profiles alias": works,
	"profiles link": works, "profiles unlink": works, "profiles generate": works, "profiles sync": works,
	"policy trust": works, "policy group": works, "policy self-service": works, "policy read-only": works,
	"service install": works, "service uninstall": works, "service status": works, "service restart": works,
	"service stop": works,
	"daemon":       works,
}

// guard makes a command and its subcommands fail while Broker is locked, if their class is stops.
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

// lockWritten returns a fault.Locked if a lock is in the state directory, or nil.
func (p *program) lockWritten() error { return lockfile.Find(p.paths.State).Refuse() }

// refuseLocked returns a fault.Locked while Broker is locked. A lock that could not be written is known only to the
// running daemon.
func (p *program) refuseLocked(ctx context.Context) error {
	if err := p.lockWritten(); err != nil {
		return err
	}
	if status, err := p.client.Status(ctx); err == nil && status.Locked {
		return fault.New(fault.Locked, "Broker is locked").WithHint("broker unlock")
	}
	return nil
}
