package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/vault"
)

func (p *program) keyringMigrateCommand() *cli.Command {
	return &cli.Command{
		Name:      "migrate",
		Usage:     "copy all keys to another keyring and switch to it",
		UsageText: "broker keyring migrate --to pass",
		Description: "Copies each key and reads it back, then changes the settings, then asks whether to delete the old keys.\n" +
			"If it is interrupted, the keyring in use still holds every key, and you can run the same command again.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "copy the keys to `BACKEND`"},
			&cli.StringFlag{Name: "from", Usage: "copy the keys from `BACKEND` (default: the keyring in use)"},
			&cli.BoolFlag{Name: "overwrite", Usage: "replace keys that the other keyring already holds for the same sources"},
			&cli.BoolFlag{Name: "delete-old", Usage: "delete the old keys without asking"},
			&cli.BoolFlag{Name: "keep-old", Usage: "keep the old keys without asking"},
		},
		Action: p.keyringMigrate,
	}
}

func (p *program) keyringMigrate(c *cli.Context) error {
	ctx, to := c.Context, c.String("to")
	switch {
	case to == "":
		return fault.New(fault.Usage, "migrate needs the keyring to copy to, one of %s", strings.Join(vault.Backends(), ", ")).WithHint("broker keyring migrate --to BACKEND")
	case c.Bool("delete-old") && c.Bool("keep-old"):
		return fault.New(fault.Usage, "--delete-old and --keep-old cannot be given together").WithHint("broker keyring migrate --help")
	}
	set, err := p.set()
	if err != nil {
		return err
	}
	from := c.String("from")
	if from == "" {
		ring, err := p.openKeyring(ctx, set)
		if err != nil {
			return err
		}
		from = ring.backend
	}
	for _, name := range []string{from, to} {
		if err := vault.CheckBackend(name); err != nil {
			return err
		}
	}
	if from == to {
		return fault.New(fault.Usage, "the keys are in the keyring %s already", to).WithHint("broker keyring list")
	}
	if note := vault.Note(to); note != "" {
		p.warn([]string{to + " is " + note})
	}

	ring := p.keyringOf(to)
	ring.file = from == vault.File || to == vault.File
	ring.makes = to == vault.File
	var copied vault.Copied
	key, err := ring.attempt(ctx, func() error {
		copied, err = ring.Migrate(ctx, from, to, c.Bool("overwrite"))
		return err
	})
	if err != nil {
		return err
	}
	for _, source := range set.Sources() {
		if !slices.Contains(copied.Sources, source.Name) {
			p.warn([]string{fmt.Sprintf("there is no key of source %q in %s", source.Name, from)})
		}
	}
	if err := p.chooseKeyring(to); err != nil {
		return err
	}
	if to == vault.File {
		p.tellKey(ctx, key)
	}
	// Copy again what another command stored while the settings named the old keyring.
	if _, err := ring.Migrate(ctx, from, to, false); err != nil {
		again := fault.Hintf("broker keyring migrate --from %s --to %s", from, to)
		switch {
		case errors.Is(err, vault.ErrExists):
			again += " --overwrite"
		case fault.Is(err, fault.Locked):
			again = fault.Hintf("broker unlock && %s", again)
		}
		return fault.New(fault.Of(err).Kind, "%s is in use now, but what was stored in %s meanwhile was not copied: %w", to, from, err).WithHint("%s", again)
	}
	p.say("copied %s from %s to %s, which is in use now", plural(len(copied.Sources), "key"), from, to)
	return p.offerToDelete(ctx, c, ring, from, to)
}

// offerToDelete deletes the old keys after confirmation.
func (p *program) offerToDelete(ctx context.Context, c *cli.Context, ring *keyring, from, to string) error {
	again := fault.Hintf("broker keyring migrate --from %s --to %s --delete-old", from, to)
	if !c.Bool("delete-old") {
		if c.Bool("keep-old") || !hasTerminal() {
			p.say("the old keys are still in %s; to delete them: %s", from, again)
			return nil
		}
		if err := p.confirm(ctx, "Delete the old keys from "+from+"?"); err != nil {
			p.say("the old keys are still in %s; to delete them: %s", from, again)
			return nil
		}
	}
	left, err := ring.Clear(ctx, from, to)
	if fault.Is(err, fault.Locked) {
		again = fault.Hintf("broker unlock && %s", again)
	}
	if err != nil {
		return fault.New(fault.Of(err).Kind, "%s is in use, but the old keys in %s were not all deleted: %w", to, from, err).WithHint("%s", again)
	}
	for _, name := range left {
		p.warn([]string{from + " and " + to + " hold different keys of " + name + "; the one in " + from + " was kept"})
	}
	p.say("deleted the old keys from %s", from)
	return nil
}
