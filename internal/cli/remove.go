package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/wire"
)

func (p *program) removeCommand() *cli.Command {
	return &cli.Command{
		Name:      "remove",
		Usage:     "delete a source with its key and its sessions",
		UsageText: "broker remove security",
		ArgsUsage: "SOURCE",
		Description: "Also deletes the sealed copy of the key that `broker import --undo` would restore. The access key\n" +
			"stays active in AWS.",
		BashComplete: p.completeSources,
		Flags:        []cli.Flag{&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"}},
		Action: func(c *cli.Context) error {
			name, err := one(c, "source")
			if err != nil {
				return err
			}
			return p.remove(c.Context, name, c.Bool("yes"))
		},
	}
}

func (p *program) remove(ctx context.Context, name string, yes bool) error {
	set, err := p.set()
	if err != nil {
		return err
	}
	// A part of the name is enough if the full name is confirmed before anything is deleted.
	find := set.FindSource
	if yes {
		find = func(typed string) (profiles.Source, error) { return exactSource(set, typed) }
	}
	source, notFound := find(name)
	registered := notFound == nil
	what := name
	var ids []string // of the key, as the registry and the keyring know it
	if registered {
		name = source.Name
		what = name + " (" + secret.Tail(source.AccessKeyID) + ")"
		ids = append(ids, source.AccessKeyID)
	}
	ring, err := p.openKeyring(ctx, set)
	if err != nil {
		return err
	}
	err = ring.with(ctx, func() error {
		info, err := ring.Describe(ctx, name)
		ids = append(ids, info.AccessKeyID)
		return err
	})
	switch {
	case err == nil:
	case fault.Is(err, fault.NotFound) && !registered:
		return notFound
	case fault.Is(err, fault.NotFound), registered && fault.Is(err, fault.Keyring):
		// An interrupted remove already deleted it from the keyring, or it is damaged. Finish the removal.
	default:
		return err
	}
	sealed := &importing{p: p, set: set, ring: ring}
	all, err := sealed.sealed(ctx)
	if err != nil {
		return err
	}
	left, files := profiles.WithoutKeys(all, slices.DeleteFunc(ids, func(id string) bool { return id == "" }))
	if !yes {
		question := "Delete " + what + " from the keyring?"
		if len(files) > 0 {
			question = "Delete " + what + " from the keyring, and the sealed copy that broker import --undo would write into " +
				fault.Line(strings.Join(files, ", ")) + "?"
		}
		if err := p.confirm(ctx, question+" The secret key cannot be recovered."); err != nil {
			return err
		}
	}
	// Delete the copy first: after an interruption the source still exists and can be removed again.
	if len(files) > 0 {
		if err := sealed.write(ctx, left); err != nil {
			return err
		}
		p.say("deleted the sealed copy of its key, which an undo of the import would have written into %s",
			fault.Line(strings.Join(files, ", ")))
	}
	err = ring.with(ctx, func() error { return ring.Remove(ctx, name) })
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	err = p.editRegistry(func(src []byte) ([]byte, error) {
		return profiles.RemoveSection(src, profiles.SectionSource, name)
	})
	if err != nil {
		return err
	}
	quiet := p.client
	quiet.NoStart = true
	_, _ = quiet.Do(ctx, wire.Request{Verb: wire.Logout, Profile: name})
	p.say("removed %s; its access key is still active in AWS", name)
	return nil
}
