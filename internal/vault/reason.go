package vault

import (
	"errors"

	"broker/internal/rotate"
	"broker/internal/session"
)

// The reasons that a caller can tell apart within one kind of fault. The errors of a Caller wrap them, so
// errors.Is finds them on this side of the process boundary too. The same holds for *mfa.SpentError.
var (
	// ErrNotCreated means that there is no file keyring yet: ask for a new passphrase twice and call Create. Kind
	// NotFound, or Config if there is a keyring in the default place.
	ErrNotCreated = errors.New("the file keyring has not been created yet")
	// ErrNoPassphrase means that the file keyring needs its passphrase: ask once and call SetPassphrase. Kind
	// KeyringLocked.
	ErrNoPassphrase = errors.New("the file keyring needs its passphrase")
	// ErrWrongPassphrase means that the passphrase does not open the keyring. Nothing was read or written. Kind
	// KeyringLocked.
	ErrWrongPassphrase = errors.New("wrong passphrase")
	// ErrExists means that the source or the keyring already exists. Kind Failed.
	ErrExists = errors.New("exists already")
	// ErrKeyChanged means that the keyring holds another key for the source than the registry says: read the
	// registry again. Kind Config.
	ErrKeyChanged = errors.New("the keyring holds another key")
	// ErrNotThere means that AWS does not know the device. It may have been created a few seconds ago. Kind Failed.
	ErrNotThere = errors.New("AWS does not know it")
	// ErrForeignPassphrase means that the passphrase for another program's file keyring is missing or wrong. Kind
	// KeyringLocked.
	ErrForeignPassphrase = errors.New("the other program's keyring needs its passphrase")
)

// reasons maps the names in an answer to these errors and to those of package session.
var reasons = []struct {
	name string
	err  error
}{
	{"not_created", ErrNotCreated},
	{"no_passphrase", ErrNoPassphrase},
	{"wrong_passphrase", ErrWrongPassphrase},
	{"exists", ErrExists},
	{"key_changed", ErrKeyChanged},
	{"not_there", ErrNotThere},

	{"foreign_passphrase", ErrForeignPassphrase},

	{"key_limit", rotate.ErrLimit},
	{"key_not_made", rotate.ErrNotMade},

	{"duration_too_long", session.ErrDurationTooLong},
	{"unknown_key", session.ErrUnknownKey},
	{"wrong_device", session.ErrWrongDevice},
	{"tags_refused", session.ErrTagsRefused},
	{"pending", session.ErrPending},
	{"slow_down", session.ErrSlowDown},
}

// ReasonOf returns the name that an answer uses for the reason of an error, or "".
func ReasonOf(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.name
		}
	}
	return ""
}

// reasonNamed returns the error with a name that an answer has, or nil.
func reasonNamed(name string) error {
	for _, r := range reasons {
		if r.name == name {
			return r.err
		}
	}
	return nil
}
