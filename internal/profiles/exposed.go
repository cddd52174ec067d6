package profiles

import (
	"errors"
	"runtime"

	"broker/internal/fault"
	"broker/internal/system"
)

// An exposure is what lets another uid change what a path leads to: the file, or something on the way to it.
type exposure system.UntrustedError

// exposed says by what others than us and root could change the content of a path; nil if nobody could, and for a file
// that is not there. Windows has no uids.
func exposed(path string) *exposure {
	var e *system.UntrustedError
	if runtime.GOOS == "windows" || !errors.As(system.Trusted(path), &e) {
		return nil
	}
	return (*exposure)(e)
}

// of says it of a file, with what the sentence calls the file.
func (e *exposure) of(path, called string) string {
	if e.Path == path {
		return called + " " + e.Why
	}
	return called + " is reached through " + e.Path + ", which " + e.Why
}

// hint is the command that ends the exposure. It is empty where that takes another user, and for a path that a
// repository may have chosen.
func (e *exposure) hint() fault.Hint {
	if e.Writable && (system.Usual(e.Path) || system.UsualForRoot(e.Path) || e.Path == system.KnownHome()) {
		return fault.Hintf("chmod go-w %s", e.Path)
	}
	return ""
}
