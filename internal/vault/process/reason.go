package process

import (
	"broker/internal/fault"
	"broker/internal/vault"
)

func because(kind fault.Kind, reason error, message string, hint fault.Hint) error {
	return &fault.Error{Kind: kind, Message: message, Hint: hint, Err: reason}
}

func notCreated(dir string) error {
	return because(fault.NotFound, vault.ErrNotCreated, "there is no file keyring in "+dir+" yet", "broker add SOURCE")
}

func noPassphrase() error {
	return because(fault.KeyringLocked, vault.ErrNoPassphrase, "the file keyring needs its passphrase", "broker unlock")
}

func wrongPassphrase() error {
	return because(fault.KeyringLocked, vault.ErrWrongPassphrase, "wrong passphrase for the file keyring", "broker unlock")
}
