package profiles

import (
	"errors"
	"os"
	"runtime"

	"broker/internal/fault"
	"broker/internal/system"
)

// An exposure is a path that another uid can change, and so redirect what a file path leads to: the file itself,
// or a directory or link on the way to it.
type exposure system.UntrustedError

// exposed returns what allows a user other than us and root to change the content of a path, or nil. If the file
// does not exist, it checks the directories on the way. Windows has no uids, so the result there is nil.
func exposed(path string) *exposure {
	var e *system.UntrustedError
	if runtime.GOOS == "windows" || !errors.As(system.Trusted(path), &e) {
		return nil
	}
	return (*exposure)(e)
}

// of describes the exposure of a file for an error text. called is what the sentence calls the file.
func (e *exposure) of(path, called string) string {
	if e.Path == path {
		return called + " " + e.Why
	}
	return called + " is reached through " + e.Path + ", which " + e.Why
}

// hint returns the command that ends the exposure: mend's, or one that resets HOME if it belongs to another user.
// If there is none, the command only lists the path.
func (e *exposure) hint() fault.Hint {
	if hint := e.mend(); hint != "" {
		return hint
	}
	home := os.Getenv("HOME")
	if uid, known := system.OwnerOf(home); known && uid != os.Geteuid() && uid != 0 && system.KnownHome() != "" {
		return fault.Hintf("export HOME=%s", system.KnownHome())
	}
	return fault.Hintf("ls -ld %s", e.Path)
}

// MendTrust returns the command after which system.Trusted no longer returns err, or "" if Broker knows no such
// command.
func MendTrust(err error) fault.Hint {
	var e *system.UntrustedError
	if !errors.As(err, &e) {
		return ""
	}
	return (*exposure)(e).mend()
}

// mend returns the command by which this user can end the exposure alone. It is empty for a path that a repository
// may have chosen.
func (e *exposure) mend() fault.Hint {
	if e.Writable && (system.Usual(e.Path) || system.AboveUsual(e.Path) || system.UsualForRoot(e.Path) ||
		e.Path == system.KnownHome()) {
		return fault.Hintf("chmod go-w %s", e.Path)
	}
	return ""
}
