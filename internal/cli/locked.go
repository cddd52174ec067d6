package cli

import (
	"context"
	"slices"

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

// lockClasses lists the commands of each class. A command that is missing stops.
var lockClasses = [...][]string{
	stops: {
		"setup", "add", "import", "remove", "rotate", "mfa enroll", "mfa replace", "mfa set", "mfa remove",
		"keyring test", "keyring migrate",
	},
	asks: {
		"forward", "login", "exec", "shell", "export", "publish", "console",
		"token eks", "token rds", "token codeartifact", "token docker",
		"allow", "elevate", "accounts list", "accounts check",
	},
	works: {
		"deny", "lock", "unlock", "logout", "unpublish", "forward list", "forward close", "log who", "log verify",
		"status", "doctor", "explain", "version", "help", "completion",
		// The error of unlock about a keyring that does not answer refers to this command.
		"keyring list",
		// These change only files, and get from the daemon what they need from AWS.
		"config get", "config set", "config unset", "config list",
		"list", "profiles list", "profiles show", "profiles alias", "profiles link", "profiles unlink",
		"profiles generate", "profiles sync", "profiles trust",
		"policy trust", "policy group", "policy self-service", "policy read-only",
		"service install", "service uninstall", "service status", "service restart", "service stop",
		"daemon",
	},
}

// guard makes a command and its subcommands fail while Broker is locked, if their class is stops, in a shell with a
// door, if they need more than a door, and with arguments, if they take none.
func (p *program) guard(c *cli.Command, name string) {
	for _, sub := range c.Subcommands {
		p.guard(sub, name+" "+sub.Name)
	}
	goesOn := slices.Contains(lockClasses[asks], name) || slices.Contains(lockClasses[works], name)
	do, refused := c.Action, len(c.Subcommands) == 0 && !goesOn
	c.Action = func(ctx *cli.Context) error {
		if p.paths.Door != "" && !slices.Contains(throughDoor, name) {
			return p.notThroughDoor()
		}
		if refused {
			if err := p.refuseLocked(ctx.Context); err != nil {
				return err
			}
		}
		if c.ArgsUsage == "" {
			if err := none(ctx); err != nil {
				return err
			}
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
