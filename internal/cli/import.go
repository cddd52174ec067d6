package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/foreign"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/vault"
)

func (p *program) importCommand() *cli.Command {
	return &cli.Command{
		Name:  "import",
		Usage: "move long-lived keys from the AWS files into the keyring",
		UsageText: "broker import\n" +
			"broker import --from aws-vault --dry-run\n" +
			"broker import --undo",
		ArgsUsage: "[PROFILE…]",
		Description: "Lists every key that it finds and asks. Then it stores each key in the keyring, checks it with\n" +
			"GetCallerIdentity, finds its MFA device, and only then removes the key from the file. A sealed copy of what it\n" +
			"removed stays in the keyring: --undo restores it, and --forget deletes it. You can stop the import and run it\n" +
			"again at any point.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "keep", Usage: "store the keys, but leave the files unchanged"},
			&cli.StringFlag{Name: "from", Usage: "import the keys of `TOOL` and its settings in the AWS config: " + foreign.Names()},
			&cli.BoolFlag{Name: "dry-run", Usage: "with --from: show what would change, and write nothing"},
			&cli.StringFlag{Name: "as", Usage: "store the key of the one PROFILE as the source `NAME`"},
			&cli.BoolFlag{Name: "undo", Usage: "restore the keys in the files"},
			&cli.BoolFlag{Name: "forget", Usage: "delete the sealed copy that --undo restores"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
		},
		Action: func(c *cli.Context) error {
			undo, forget := c.Bool("undo"), c.Bool("forget")
			switch {
			case undo && forget, (undo || forget) && (c.Bool("keep") || c.IsSet("as") || c.Args().Present()):
				return fault.New(fault.Usage, "--undo and --forget can be combined with --yes only").WithHint("broker import --help")
			case c.IsSet("as") && c.Args().Len() != 1:
				return fault.New(fault.Usage, "--as needs exactly one profile").WithHint("broker import PROFILE --as NAME")
			case c.IsSet("from") && (undo || forget || c.IsSet("as")):
				return fault.New(fault.Usage, "--from can be combined with names, --keep, --dry-run and --yes only").WithHint("broker import --help")
			case c.Bool("dry-run") && !c.IsSet("from"):
				return fault.New(fault.Usage, "--dry-run needs --from").WithHint("broker import --from aws-vault --dry-run")
			}
			set, settings, err := p.settings()
			if err != nil {
				return err
			}
			i := &importing{p: p, set: set, settings: settings, tool: foreign.Tool(c.String("from")), keep: c.Bool("keep"),
				yes: c.Bool("yes")}
			switch {
			case undo:
				return i.undo(c.Context)
			case forget:
				return i.forget(c.Context)
			case c.IsSet("from"):
				return i.from(c.Context, c.Args().Slice(), c.Bool("dry-run"))
			}
			return i.run(c.Context, c.Args().Slice(), c.String("as"))
		},
	}
}

// importing is one run of `broker import`.
type importing struct {
	p        *program
	set      *profiles.Set
	settings profiles.Settings
	ring     *keyring
	tool     foreign.Tool // of --from, or empty
	keep     bool
	yes      bool
	login    string // the session of IAM Identity Center to log in to after --from; may be empty
}

// found is a key with the source that it becomes.
type found struct {
	profiles.Plain
	source string          // name of the source
	role   bool            // AWS tools use a role for the profile, and not this key
	kept   bool            // the registry defines the profile, and keeps that definition
	own    bool            // the profile is the source_profile of other profiles
	taken  profiles.Source // an existing source of that name with another key
}

func (i *importing) run(ctx context.Context, names []string, as string) error {
	plain, left, err := profiles.PlainKeys(i.p.files())
	if err != nil {
		return err
	}
	for _, w := range left {
		if i.tool != "" { // temporary keys may be removed below
			i.p.warn([]string{w.String()})
			continue
		}
		i.p.warn([]string{w.String() + "; it was left alone"})
	}
	plain, err = chosen(plain, names)
	if err != nil {
		return err
	}
	if len(plain) == 0 {
		i.p.say("%s and %s hold no long-lived key", i.p.paths.Credentials, i.p.paths.Config)
		i.others(nil)
		return nil
	}
	keys := i.sources(plain, as)
	if err := i.p.samePrincipals(keys); err != nil {
		return err
	}
	if err := i.show(ctx, keys); err != nil {
		return err
	}
	if i.ring, err = i.p.openKeyring(ctx, i.set); err != nil {
		return err
	}
	i.ring.makes = true
	if err := i.p.offerShell(ctx, i.settings, i.ring.backend, i.yes); err != nil {
		return err
	}
	var stored []found
	var failed []error
	for _, key := range keys {
		if err := i.p.explainRoute(i.store(ctx, key)); err != nil {
			f := fault.Of(err)
			switch {
			case f.Kind == fault.Denied: // AWS rejects the key, so it can be deleted
				f = f.WithHint("vi +%d %s", key.Origin.Line, key.Origin.File)
			case f.Hint == "":
				f = f.WithHint("broker import %s", key.Profile)
			}
			failed = append(failed, fault.New(f.Kind, "%s was left in %s: %w", key.Profile, key.Origin.File, err).WithHint("%s", f.Hint))
			if ctx.Err() != nil || f.Kind == fault.NotConfirmed || f.Kind == fault.Locked {
				break
			}
			continue
		}
		stored = append(stored, key)
	}
	if !i.keep {
		failed = append(failed, i.takeOut(ctx, stored)...)
	}
	i.others(stored)
	if len(stored) > 0 && len(failed) == 0 && i.tool == "" && !i.p.within {
		i.p.say("next: broker profiles link --all")
	}
	return i.p.first(failed)
}

// chosen returns the keys of the profiles in names, or all keys without names.
func chosen(plain []profiles.Plain, names []string) ([]profiles.Plain, error) {
	if len(names) == 0 {
		return plain, nil
	}
	var some []profiles.Plain
	for _, name := range names {
		before := len(some)
		for _, key := range plain {
			if key.Profile == name {
				some = append(some, key)
			}
		}
		if len(some) == before {
			return nil, fault.New(fault.NotFound, "profile %q has no long-lived key in the AWS files", name).WithHint("broker import")
		}
	}
	return some, nil
}

// sources names the source of each key after its profile. If a key is under several names, it takes the name in the
// registry, or else the one that is not "default".
func (i *importing) sources(plain []profiles.Plain, as string) []found {
	names := map[string]string{} // by key id
	for _, src := range i.set.Sources() {
		names[src.AccessKeyID] = src.Name
	}
	for _, roles := range []bool{false, true} { // prefer names of profiles without a role
		for _, key := range plain {
			if role, _ := i.set.HasRole(key.Profile); role != roles {
				continue
			}
			switch name := names[key.AccessKeyID]; {
			case as != "":
				names[key.AccessKeyID] = as
			case name == "", name == "default":
				names[key.AccessKeyID] = i.tool.SourceName(key.Profile)
			}
		}
	}
	var keys []found
	for _, key := range plain {
		f := found{Plain: key, source: names[key.AccessKeyID]}
		if f.role, f.own = i.set.HasRole(key.Profile); f.role && f.own && as == "" {
			f.source = i.tool.SourceName(key.Profile) // other profiles name it as their source_profile
		}
		f.kept = i.set.Defines(key.Profile)
		for _, name := range []string{f.source, i.tool.SourceName(f.Profile)} {
			if src, ok := i.set.Source(name); ok && src.AccessKeyID != key.AccessKeyID {
				f.taken = src
			}
		}
		keys = append(keys, f)
	}
	return keys
}

// show lists the keys that were found, and asks for confirmation.
func (i *importing) show(ctx context.Context, keys []found) error {
	if i.yes {
		return nil
	}
	t, err := i.p.openTerminal()
	if err != nil {
		return i.p.noTerminal("there is no terminal to ask on; confirm the move of " + plural(len(keys), "key") + " with --yes")
	}
	defer func() { _ = t.Close() }()
	w := newTable(t, columns(t), "PROFILE", "KEY", "SOURCE", "FILE")
	for _, key := range keys {
		w.row(key.Profile, secret.Tail(key.AccessKeyID), key.source, key.Origin.String())
	}
	if err := w.print(); err != nil {
		return err
	}
	what := "Move them into the keyring, and out of the files?"
	if i.keep {
		what = "Store them in the keyring? The files stay as they are."
	}
	return i.p.confirm(ctx, what)
}

// store puts one key into the keyring, and its section into the registry.
func (i *importing) store(ctx context.Context, key found) error {
	if err := profiles.CheckSource(key.source, ""); err != nil {
		return err
	}
	if key.taken.Name != "" {
		return fault.New(fault.Failed, "source %q holds the key %s, and this one is %s; a key is never overwritten", key.taken.Name, secret.Tail(key.taken.AccessKeyID), secret.Tail(key.AccessKeyID)).
			WithHint("broker remove %s", key.taken.Name)
	}
	if err := profiles.CheckKey(key.AccessKeyID, key.Secret, false); err != nil {
		return err
	}
	known, exists := i.set.Source(key.source)
	e := i.keyEndpoint(known, key.Profile, key.MFASerial)
	var who vault.Identity
	err := i.ring.with(ctx, func() (err error) {
		who, err = i.ring.Put(ctx, vault.Key{Name: key.source, AccessKeyID: key.AccessKeyID, Secret: key.Secret,
			Replace: exists, KeepSeed: true}, e, true)
		return err
	})
	if errors.Is(err, vault.ErrExists) {
		return fault.New(fault.Failed, "the keyring holds another key for %s already; a key is never overwritten", key.source).
			WithHint("broker import %s --as NAME", key.Profile)
	}
	if err != nil {
		return err
	}
	return i.register(ctx, key, who, e)
}

// register writes the section of a key to the registry. The key is in the keyring by now, and was checked at e.
func (i *importing) register(ctx context.Context, key found, who vault.Identity, e profiles.Endpoint) error {
	if err := i.ring.keep(); err != nil {
		return err
	}
	i.p.say("stored the key %s as %s in %s; it belongs to %s", secret.Tail(key.AccessKeyID), key.source, i.ring.backend, fault.Line(who.ARN))
	known, _ := i.set.Source(key.source)
	section := append([]profiles.KeyValue{{Key: "access_key_id", Value: key.AccessKeyID}}, keepsRegion(known, e)...)
	if known.MFASerial == "" {
		device, err := i.device(ctx, key.source, cmp.Or(key.MFASerial, i.set.DeviceOf(key.Profile)), e, true, true)
		if err != nil {
			return err
		}
		if device != "" {
			section = append(section, profiles.KeyValue{Key: "mfa_serial", Value: device})
		}
		i.p.sayDevice(key.source, device)
	}
	chain, err := i.set.Resolve(key.Profile)
	if key.kept && (err != nil || len(chain.Roles) > 0 || chain.Source.AccessKeyID != key.AccessKeyID) {
		i.p.say("profile %s stays as it is in %s, and does not use this key", fault.Line(key.Profile), i.p.paths.Registry)
	}
	return i.p.editRegistry(func(src []byte) ([]byte, error) { return key.register(src, section) })
}

// register returns the registry with the sections of a key.
func (key found) register(registry []byte, section []profiles.KeyValue) ([]byte, error) {
	registry, err := profiles.SetSection(registry, profiles.SectionSource, key.source, section)
	if err != nil || key.source == key.Profile || key.role || key.kept {
		return registry, err
	}
	// The profile that had the key keeps working under its own name.
	return profiles.SetSection(registry, profiles.SectionProfile, key.Profile,
		[]profiles.KeyValue{{Key: "source_profile", Value: key.source}})
}

// samePrincipals checks that every profile leads to the same principal before and after the import. It changes
// nothing.
func (p *program) samePrincipals(keys []found) error {
	docs, err := p.readDocuments()
	if err != nil {
		return err
	}
	defer clear(docs[profiles.CredentialsDocument])
	next, err := imported(docs, keys)
	if err != nil {
		return err
	}
	return profiles.SamePrincipals(p.files(), docs, next)
}

// imported returns the files as they will be after these keys are moved, without the keys that are refused.
func imported(docs profiles.Documents, keys []found) (_ profiles.Documents, err error) {
	var plain []profiles.Plain
	for _, key := range keys {
		if key.taken.Name != "" {
			continue
		}
		plain = append(plain, key.Plain)
		section := []profiles.KeyValue{{Key: "access_key_id", Value: key.AccessKeyID}}
		docs[profiles.RegistryDocument], err = key.register(docs[profiles.RegistryDocument], section)
		if err != nil {
			return docs, err
		}
	}
	return docs.RemovePlainKeys(plain)
}

// sealedName is the keyring item that holds the sealed copy of what was removed from the files.
const sealedName = "import"

// takeOut removes the stored keys from their files. It first seals a copy of them in the keyring.
func (i *importing) takeOut(ctx context.Context, stored []found) (failed []error) {
	var files []string
	for _, key := range stored {
		if !slices.Contains(files, key.Origin.File) {
			files = append(files, key.Origin.File)
		}
	}
	for _, file := range files {
		var here []profiles.Plain
		for _, key := range stored {
			if key.Origin.File == file {
				here = append(here, key.Plain)
			}
		}
		var temporary []string
		// Keep no backup beside the file: it would hold the key that is to be removed.
		err := i.p.editFile(file, nil, func(src []byte) ([]byte, error) {
			dst, t, err := profiles.TakeOut(file, src, here, func(dst []byte) (_ []byte, err error) {
				if file == i.p.paths.Credentials {
					dst, temporary, err = i.tool.RemoveTemporary(file, dst, i.sourceNames(stored))
				}
				return dst, err
			})
			if err != nil || bytes.Equal(src, dst) {
				return dst, err
			}
			return dst, i.seal(ctx, t)
		})
		if err != nil {
			f := fault.Of(err)
			failed = append(failed, fault.New(f.Kind, "the keys are stored, but are still in %s: %w", file, err).WithHint("%s", f.Hint))
			continue
		}
		i.p.say("took %s out of %s; broker import --undo restores the old bytes", plural(len(here), "key"), file)
		for _, name := range temporary {
			i.p.say("took the temporary keys of %s out of it too", fault.Line(name))
		}
	}
	return failed
}

// sourceNames returns the names under which the keys of the profiles were stored.
func (i *importing) sourceNames(stored []found) (names []string) {
	for _, key := range stored {
		names = append(names, i.tool.SourceName(key.Profile))
	}
	return names
}

// sealed returns everything that was removed from the files, oldest first.
func (i *importing) sealed(ctx context.Context) ([]profiles.TakenOut, error) {
	var text secret.String
	err := i.ring.with(ctx, func() (err error) {
		text, err = i.ring.Unseal(ctx, sealedName)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []profiles.TakenOut
	if json.Unmarshal([]byte(text.Reveal()), &all) != nil {
		return nil, errSealed
	}
	return all, nil
}

// errSealed means that the sealed copy is not in the format that seal writes.
var errSealed = &fault.Error{Kind: fault.Keyring, Hint: "broker import --forget",
	Message: "the sealed copy of earlier imports cannot be read; it was left in the keyring"}

// seal adds to the sealed copy. It replaces the entry of an earlier attempt on the same bytes that did not finish.
func (i *importing) seal(ctx context.Context, t profiles.TakenOut) error {
	all, err := i.sealed(ctx)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(old profiles.TakenOut) bool { return old.File == t.File && old.Before == t.Before })
	return i.write(ctx, append(all, t))
}

// write replaces the sealed copy.
func (i *importing) write(ctx context.Context, all []profiles.TakenOut) error {
	if len(all) == 0 {
		return i.ring.ForgetSealed(ctx, sealedName)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return fault.New(fault.Internal, "cannot encode the sealed copy of the removed keys")
	}
	return i.ring.Seal(ctx, sealedName, secret.New(string(text)))
}

// undo restores what was removed, latest first. If the file is as import left it, undo restores it byte for byte,
// or else only the keys.
func (i *importing) undo(ctx context.Context) error {
	all, err := i.begin(ctx, "there is no import to undo")
	if err != nil {
		return err
	}
	if !i.yes {
		var keys []string
		for _, t := range all {
			for _, key := range t.Keys {
				keys = append(keys, key.Profile+" ("+secret.Tail(key.ID)+")")
			}
		}
		if err := i.p.confirm(ctx, "Write these long-lived keys into the files again, in plain text: "+fault.Line(strings.Join(keys, ", "))+"?"); err != nil {
			return err
		}
	}
	for len(all) > 0 {
		t := all[len(all)-1]
		exact := true
		err := i.p.editFile(t.File, nil, func(src []byte) (dst []byte, err error) {
			// The prompt, or another program that locked the file, may have taken long.
			if err := i.p.refuseLocked(ctx); err != nil {
				return nil, err
			}
			dst, exact, err = t.PutBack(src)
			return dst, err
		})
		if err != nil {
			return err
		}
		all = all[:len(all)-1]
		if err := i.write(ctx, all); err != nil {
			return err
		}
		if exact {
			i.p.say("%s is restored to what it was before the import", t.File)
		} else {
			i.p.say("%s has its keys again; the file changed since the import, so they may be at another place", t.File)
		}
	}
	i.p.say("the keyring still holds the keys; broker remove SOURCE deletes one there")
	return nil
}

// begin opens the keyring and returns what was removed from the files. nothing is the error if there is no import.
func (i *importing) begin(ctx context.Context, nothing string) ([]profiles.TakenOut, error) {
	var err error
	if i.ring, err = i.p.openKeyring(ctx, i.set); err != nil {
		return nil, err
	}
	all, err := i.sealed(ctx)
	if err == nil && len(all) == 0 {
		err = fault.New(fault.NotFound, "%s", nothing).WithHint("broker import")
	}
	return all, err
}

// forget deletes the sealed copy that undo restores.
func (i *importing) forget(ctx context.Context) error {
	all, err := i.begin(ctx, "there is no import to forget")
	imports := plural(len(all), "import")
	if errors.Is(err, errSealed) {
		imports, err = "earlier imports", nil
	}
	if err != nil {
		return err
	}
	if !i.yes {
		question := "Delete the sealed copy of " + imports + "? The keys themselves stay in the keyring."
		if err := i.p.confirm(ctx, question); err != nil {
			return err
		}
	}
	if err := i.ring.ForgetSealed(ctx, sealedName); err != nil {
		return err
	}
	i.p.say("deleted the sealed copy; the keys themselves stay in the keyring")
	return nil
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
