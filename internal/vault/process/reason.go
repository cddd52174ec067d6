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

// lostKey means that nothing is left that can open the items.
func lostKey(dir string) error {
	return fault.New(fault.Keyring, "key.json and key-copy.json are missing in %s; only a backup of one of them can restore "+
		"the keys", dir).WithHint("ls -l %s", dir)
}

// maybeLostKey is lostKey for a keyring that may also be one of version 0.1.0, which has no such files.
func maybeLostKey(dir string) error {
	return because(fault.KeyringLocked, vault.ErrWrongPassphrase, lostKey(dir).Error()+
		", unless Broker 0.1.0 made this keyring and the passphrase is wrong", fault.Hintf("ls -l %s", dir))
}

func wrongPassphrase() error {
	return because(fault.KeyringLocked, vault.ErrWrongPassphrase, "wrong passphrase for the file keyring", "broker unlock")
}
