package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"broker/internal/fault"
	"broker/internal/foreign"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/vault"
)

// foreignKey is a key that another tool holds.
type foreignKey struct {
	name  string        // of the source to create
	place vault.Foreign // keyring of the tool; empty if the key is in a file
}

// from implements `broker import --from TOOL`. It imports the keys of the tool, and then its settings in the AWS
// config.
func (i *importing) from(ctx context.Context, names []string, dryRun bool) error {
	if !i.tool.Known() {
		return fault.New(fault.Usage, "there is no tool %q to import from; it can be %s", i.tool, foreign.Names()).
			WithHint("broker import --help")
	}
	// aws-mfa keeps settings beside the keys, and they are removed together with the keys.
	credentials, err := profiles.ReadFile(i.p.paths.Credentials)
	if err != nil {
		return err
	}
	var keys []foreignKey
	if !i.tool.HasKeys() {
		if len(names) > 0 {
			return fault.New(fault.Usage, "%s keeps no keys, so the import takes no names", i.tool).
				WithHint("broker import --from %s --dry-run", i.tool)
		}
	} else if i.tool.HasKeyrings() {
		keys, err = i.foreignKeys(ctx, names)
	} else if dryRun {
		keys, err = i.plainNames(names)
	} else {
		err = i.run(ctx, names, "")
	}
	switch {
	case dryRun && err == nil:
		for _, key := range keys {
			if key.place.Backend != "" {
				i.p.say("would copy the key %s out of %s", fault.Line(key.name), fault.Line(key.place.String()))
			}
		}
	case err == nil && len(keys) > 0:
		err = i.adoptAll(ctx, keys)
	}
	// A key that could not be imported does not block the settings of the others.
	if err != nil && (ctx.Err() != nil || fault.Is(err, fault.NotConfirmed) || fault.Is(err, fault.NotFound)) {
		return err
	}
	changed, configErr := i.translate(ctx, credentials, keys, dryRun)
	if !dryRun && (changed || err == nil) && configErr == nil {
		if i.tool.HasKeys() && (len(keys) > 0 || i.login == "") {
			i.p.say("next: broker profiles link --all")
		}
		if i.login != "" {
			i.p.say("next: %s", fault.Hintf("broker login %s", i.login))
		}
	}
	if err == nil {
		return configErr
	}
	if configErr != nil {
		i.p.warn([]string{configErr.Error()})
	}
	return err
}

// plainNames prints which keys the import from files would move, and returns them under their new names.
func (i *importing) plainNames(names []string) (keys []foreignKey, err error) {
	plain, _, err := profiles.PlainKeys(i.p.files())
	if err != nil {
		return nil, err
	}
	if plain, err = chosen(plain, names); err != nil {
		return nil, err
	}
	for _, key := range i.sources(plain, "") {
		i.p.say("would move the key %s of %s into the keyring as %s", secret.Tail(key.AccessKeyID), fault.Line(key.Profile), fault.Line(key.source))
		keys = append(keys, foreignKey{name: key.source})
	}
	return keys, nil
}

// foreignKeys returns the keys in the tool's own keyrings: all of them, or those in names.
func (i *importing) foreignKeys(ctx context.Context, names []string) ([]foreignKey, error) {
	places, err := i.tool.Keyrings()
	if err != nil {
		return nil, err
	}
	caller := i.p.newCaller(func() string { return "" })
	var keys []foreignKey
	var looked []string
	for _, place := range places {
		looked = append(looked, place.String())
		found, err := caller.ForeignKeys(ctx, place)
		if err != nil {
			i.p.warn([]string{err.Error()})
			continue
		}
		for _, name := range found {
			switch {
			case len(names) > 0 && !slices.Contains(names, name):
			case slices.ContainsFunc(keys, func(k foreignKey) bool { return k.name == name }):
				i.p.warn([]string{"a second key " + name + " in " + place.String() + " was left there"})
			case profiles.CheckSource(name, "") != nil:
				i.p.warn([]string{"the key " + name + " in " + place.String() + " was left there: a source cannot have this name"})
			default:
				keys = append(keys, foreignKey{name, place})
			}
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(keys, func(k foreignKey) bool { return k.name == name }) {
			return nil, fault.New(fault.NotFound, "%s keeps no key %q in %s", i.tool, name, strings.Join(looked, " or ")).
				WithHint("broker import --from %s --dry-run", i.tool)
		}
	}
	if len(keys) == 0 {
		i.p.say("%s keeps no key in %s", i.tool, strings.Join(looked, " or "))
	}
	return keys, nil
}

// adoptAll copies the keys after confirmation.
func (i *importing) adoptAll(ctx context.Context, keys []foreignKey) error {
	if !i.yes {
		var list []string
		for _, key := range keys {
			list = append(list, key.name)
		}
		if err := i.p.confirm(ctx, "Copy these keys of "+string(i.tool)+" into the keyring: "+fault.Line(strings.Join(list, ", "))+"? Its own keyring keeps them too."); err != nil {
			return err
		}
	}
	var err error
	if i.ring, err = i.p.openKeyring(ctx, i.set); err != nil {
		return err
	}
	i.ring.makes = true
	phrase := secret.New(os.Getenv(i.tool.PassphraseVariable()))
	var failed []error
	stored := 0
	for _, key := range keys {
		err := i.adopt(ctx, key, &phrase)
		if err == nil {
			stored++
			continue
		}
		failed = append(failed, fault.New(fault.Of(err).Kind, "%s was left in %s: %w", key.name, key.place, err).WithHint("%s", fault.Of(err).Hint))
		if ctx.Err() != nil || fault.Is(err, fault.NotConfirmed) || fault.Is(err, fault.Locked) ||
			errors.Is(err, vault.ErrForeignPassphrase) {
			break
		}
	}
	if stored > 0 {
		i.p.say("the keyring of %s still holds the keys; to delete one there: %s", i.tool, i.tool.RemoveCommand())
	}
	return i.p.first(failed)
}

// adopt copies one key. If the tool's keyring needs a passphrase, adopt prompts for it and keeps it for the next
// key.
func (i *importing) adopt(ctx context.Context, key foreignKey, phrase *secret.String) error {
	known, _ := i.set.Source(key.name)
	endpoint := i.keyEndpoint(known, key.name, "")
	var id string
	var who vault.Identity
	err := i.ring.with(ctx, func() (err error) {
		for try := 0; ; try++ {
			id, who, err = i.ring.Adopt(ctx, key.place, *phrase, key.name, key.name, known.AccessKeyID, endpoint)
			if !errors.Is(err, vault.ErrForeignPassphrase) {
				return err
			}
			// The tool's keyring is locked, not Broker's.
			wanted := fault.New(fault.Failed, "%w", err).WithHint("broker import --help")
			if variable := i.tool.PassphraseVariable(); variable != "" && !hasTerminal() {
				wanted = fault.New(fault.Failed, "%w; give it on a terminal, or in %s", err, variable).
					WithHint("broker import --help")
			}
			if try == passphraseTries || !hasTerminal() {
				return wanted
			}
			if *phrase, err = i.askForeign(ctx, key.place, wanted); err != nil {
				return err
			}
		}
	})
	if errors.Is(err, vault.ErrExists) {
		f := fault.Of(err)
		return fault.New(fault.Failed, "%s; a key is never overwritten", f.Error()).WithHint("broker remove %s", key.name)
	}
	if err != nil {
		return err
	}
	plain := profiles.Plain{Profile: key.name, AccessKeyID: id}
	return i.register(ctx, found{Plain: plain, source: key.name}, who, endpoint)
}

func (i *importing) askForeign(ctx context.Context, place vault.Foreign, why error) (secret.String, error) {
	t, err := i.p.openTerminal()
	if err != nil {
		return secret.String{}, err
	}
	defer func() { _ = t.Close() }()
	i.p.warn([]string{why.Error()})
	return t.hidden(ctx, "Passphrase of "+string(i.tool)+" for "+fault.Line(place.Dir)+": ")
}

// translate replaces the tool's settings in the AWS config with AWS's own.
func (i *importing) translate(
	ctx context.Context,
	credentials []byte,
	listed []foreignKey,
	dryRun bool,
) (changed bool, err error) {
	set, err := new(profiles.Store).Load(i.p.files())
	if err != nil {
		return false, err
	}
	credproc, err := credprocProgram()
	if err != nil {
		return false, err
	}
	where := foreign.Elsewhere{Tool: i.tool, Files: i.p.files(), Credentials: credentials, Credproc: credproc}
	for _, source := range set.Sources() {
		where.Keys = append(where.Keys, source.Name)
	}
	if dryRun {
		for _, key := range listed {
			where.Keys = append(where.Keys, key.name)
		}
	}
	if where.SettingsFile, err = i.tool.SettingsPath(); err != nil {
		return false, err
	}
	if where.SettingsFile != "" {
		if where.Settings, err = profiles.ReadFile(where.SettingsFile); err != nil {
			return false, err
		}
	}
	path := i.p.paths.Config
	if where.Config, err = profiles.ReadFile(path); err != nil {
		return false, err
	}
	result, err := foreign.Translate(where)
	if err != nil {
		return false, err
	}
	i.login = result.Login
	for _, left := range result.Left {
		i.p.warn([]string{left.String() + "; it was left as it is"})
	}
	if bytes.Equal(where.Config, result.Config) {
		i.p.say("nothing in %s has to be changed", path)
		return false, nil
	}
	if dryRun {
		hidden := func(src []byte) []byte { return profiles.Redact(profiles.ConfigDocument, src) }
		for line := range strings.Lines(string(diff.Diff(path, hidden(where.Config), path, hidden(result.Config)))) {
			i.p.raw(printable(line))
		}
		return true, nil
	}
	for _, change := range result.Changed {
		i.p.say("%s", fault.Line(change.String()))
	}
	if !i.yes {
		if err := i.p.confirm(ctx, "Write that into "+path+"?"); err != nil {
			return false, err
		}
	}
	err = i.p.editWithBackup(path, false, func(src []byte) ([]byte, error) {
		now := where
		now.Config = src
		again, err := foreign.Translate(now)
		return again.Config, err
	})
	if err != nil {
		return false, err
	}
	return true, nil
}
