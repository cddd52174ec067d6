package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/system"
	"broker/internal/vault"
	"broker/internal/wire"
)

// newCaller returns the vault caller for commands that change what is stored. These commands handle a secret that
// the daemon must never see, so they start the vault process themselves.
func (p *program) newCaller(backend func() string) *vault.Caller {
	p.interrupts.catch() // the vault process ends when a signal ends the command
	return &vault.Caller{Find: p.daemonProgram, Backend: backend, Dir: p.paths.Keyring,
		StateDir: p.paths.State, Registry: system.RealPath(p.paths.Registry), Route: p.route, Env: p.vaultEnv,
		Notice: func(_, line string) { p.warn([]string{line}) }}
}

// keyring is the vault as commands use it.
type keyring struct {
	*vault.Caller
	p       *program
	chosen  bool // the settings name the backend
	backend string
	// file means that a file keyring is involved, whose passphrase is asked for on the terminal.
	file bool
	// makes means that a missing file keyring is created.
	makes bool
}

// keyringOf returns the keyring of a backend, whether or not it is in use.
func (p *program) keyringOf(backend string) *keyring {
	k := &keyring{p: p, backend: backend, file: backend == vault.File}
	k.Caller = p.newCaller(func() string { return backend })
	return k
}

// openKeyring returns the keyring of the backend in the settings, or else of the first backend that works.
func (p *program) openKeyring(ctx context.Context, set *profiles.Set) (*keyring, error) {
	settings, err := set.Settings()
	if err != nil {
		return nil, err
	}
	k := &keyring{p: p, chosen: settings.KeyringBackend != "", backend: settings.KeyringBackend}
	k.Caller = p.newCaller(func() string { return k.backend })
	if k.backend, err = k.InUse(ctx); err != nil {
		return nil, err
	}
	k.file = k.backend == vault.File
	return k, nil
}

// with is attempt with the keyring in use. If a person typed the passphrase, with gives the daemon the key, so that
// nobody is asked again. A daemon that is not running asks when it needs the passphrase.
func (k *keyring) with(ctx context.Context, call func() error) error {
	key, err := k.attempt(ctx, call)
	if err == nil {
		k.p.tellKey(ctx, key)
	}
	return err
}

// tellKey gives the daemon the key of the file keyring, if a passphrase was typed for it.
func (p *program) tellKey(ctx context.Context, key secret.String) {
	if !key.IsZero() {
		_, _ = p.client.Do(ctx, wire.Request{Verb: wire.Unlock, Passphrase: key, StayLocked: true})
	}
}

// attempt runs a call to the keyring. If a file keyring needs its passphrase, attempt prompts on the terminal, at
// most three times. It creates a missing file keyring if k.makes is set. It returns the key of the file keyring if
// a passphrase was typed.
func (k *keyring) attempt(ctx context.Context, do func() error) (key secret.String, err error) {
	call := do
	if k.backend != "pass" { // gpg may ask on this terminal
		call = func() error {
			defer k.p.progress()()
			return do()
		}
	}
	err = call()
	if errors.Is(err, vault.ErrNotCreated) && k.makes && os.Getenv("BROKER_KEYRING_PASSPHRASE_FILE") != "" {
		// On a machine without a person, this file has the passphrase.
		if err := k.Create(ctx, secret.String{}); err != nil && !errors.Is(err, vault.ErrExists) {
			return key, err
		}
		err = call()
	}
	typed := false
	for try := 1; k.file && hasTerminal() && try <= passphraseTries; try++ {
		fresh := errors.Is(err, vault.ErrNotCreated) && k.makes
		if !fresh && !fault.Is(err, fault.KeyringLocked) {
			break
		}
		if errors.Is(err, vault.ErrWrongPassphrase) || fresh && fault.Is(err, fault.Config) { // another keyring exists
			k.p.warn([]string{err.Error()})
		}
		pass, aerr := k.askPassphrase(ctx, fresh)
		if aerr != nil {
			return key, aerr
		}
		typed = true
		if fresh {
			tell := k.Notice
			k.Notice = nil // the prompt already warned of a weak passphrase
			cerr := k.Create(ctx, pass)
			k.Notice = tell
			switch {
			case errors.Is(cerr, vault.ErrExists): // another command made it meanwhile
				k.p.warn([]string{cerr.Error()})
				fresh = false
			case cerr != nil:
				return key, cerr
			}
		}
		if !fresh {
			k.SetPassphrase(pass)
		}
		err = call()
	}
	if errors.Is(err, vault.ErrNotCreated) && k.makes && !typed && !fault.Is(err, fault.Config) {
		return key, fault.New(fault.KeyringLocked, "%w, and there is no terminal to ask for its first passphrase", err).
			WithHint("export BROKER_KEYRING_PASSPHRASE_FILE=FILE")
	}
	if k.file && fault.Is(err, fault.KeyringLocked) && !typed && !hasTerminal() {
		// The daemon may have the key, but gives it to nobody, so `broker unlock` would not help.
		return key, fault.New(fault.KeyringLocked,
			"%w; this command asks for its passphrase itself, and there is no terminal", err).
			WithHint("export BROKER_KEYRING_PASSPHRASE_FILE=FILE")
	}
	if typed && err == nil {
		key = k.Key()
	}
	return key, err
}

// keyringKey checks the passphrase of the file keyring in a vault process and returns the key that it opens. The
// key is empty if there is no file keyring.
func (p *program) keyringKey(ctx context.Context, passphrase secret.String) (secret.String, error) {
	k := p.keyringOf(vault.File)
	k.SetPassphrase(passphrase)
	switch err := k.Check(ctx); {
	case errors.Is(err, vault.ErrNotCreated):
		return secret.String{}, nil // another keyring is locked; the daemon reports it
	case err != nil:
		return secret.String{}, err
	}
	return k.Key(), nil
}

// askPassphrase prompts for the passphrase, twice if it is new.
func (k *keyring) askPassphrase(ctx context.Context, fresh bool) (secret.String, error) {
	t, err := k.p.openTerminal()
	if err != nil {
		return secret.String{}, err
	}
	defer func() { _ = t.Close() }()
	if !fresh {
		return t.hidden(ctx, keyringQuestion)
	}
	_, _ = fmt.Fprintf(t, "A new file keyring is made in %s.\n", fault.Line(k.Dir))
	return t.fresh(ctx)
}

// place returns where the keyring is, for people.
func (k *keyring) place() string {
	return vault.Place(k.backend, k.Dir, k.p.store.Latest(k.p.paths.Registry)().PasswordStoreDir)
}

// keep writes the backend to the settings. Otherwise Broker could choose another backend later, when this one does
// not answer.
func (k *keyring) keep() error {
	if k.chosen {
		return nil
	}
	return k.p.chooseKeyring(k.backend)
}

// chooseKeyring writes to the settings which keyring is in use.
func (p *program) chooseKeyring(backend string) error {
	return p.editRegistry(func(src []byte) ([]byte, error) {
		return profiles.SetSection(src, profiles.SectionSettings, "", []profiles.KeyValue{{Key: "keyring_backend", Value: backend}})
	})
}
