package vault

import (
	"errors"

	"broker/internal/session"
)

// Reasons that a caller may want to tell apart beyond the kind of a fault. Errors of a Caller wrap
// them, so errors.Is finds them on this side of the process boundary too; an *mfa.SpentError likewise.
var (
	// ErrNotCreated: there is no file keyring yet; ask for its first passphrase twice and call Create. NotFound, or
	// Config if the usual place has one.
	ErrNotCreated = errors.New("the file keyring was not created yet")
	// ErrNoPassphrase: the file keyring needs its passphrase; ask once and call SetPassphrase. KeyringLocked.
	ErrNoPassphrase = errors.New("the file keyring needs its passphrase")
	// ErrWrongPassphrase: the passphrase is not that of the keyring; nothing was read or written. KeyringLocked.
	ErrWrongPassphrase = errors.New("wrong passphrase")
	// ErrExists: the source, or the keyring, is there already. Failed.
	ErrExists = errors.New("exists already")
	// ErrKeyChanged: the keyring holds another key for the source than the registry says; read the
	// registry again. Config.
	ErrKeyChanged = errors.New("the key in the keyring is another one")
	// ErrForeignPassphrase: the file keyring of another program needs its passphrase, or has another one. KeyringLocked.
	ErrForeignPassphrase = errors.New("the other program's keyring needs its passphrase")
)

// reasons are the names in an answer of these errors, and of those of package session.
var reasons = map[string]error{
	"not_created":      ErrNotCreated,
	"no_passphrase":    ErrNoPassphrase,
	"wrong_passphrase": ErrWrongPassphrase,
	"exists":           ErrExists,
	"key_changed":      ErrKeyChanged,

	"foreign_passphrase": ErrForeignPassphrase,

	"duration_too_long": session.ErrDurationTooLong,
	"unknown_key":       session.ErrUnknownKey,
	"wrong_device":      session.ErrWrongDevice,
}

// ReasonOf is the name that an answer has for the reason of an error, or empty.
func ReasonOf(err error) string {
	for name, reason := range reasons {
		if errors.Is(err, reason) {
			return name
		}
	}
	return ""
}
