package profiles

import (
	"errors"
	"os"
	"runtime"

	"broker/internal/fault"
	"broker/internal/system"
)

// An exposure is what lets another uid change what a path leads to: the file, or something on the way to it.
type exposure system.UntrustedError

// exposed says by what others than us and root could change the content of a path; nil if nobody could. Of a file
// that is not there it is a directory on the way. Windows has no uids.
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

// hint is the command that ends the exposure: mend, or HOME set back if that is another user's. Else it only looks.
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

// MendTrust is the command after which system.Trusted does not return err any more. It is empty where no command of
// ours does that.
func MendTrust(err error) fault.Hint {
	var e *system.UntrustedError
	if !errors.As(err, &e) {
		return ""
	}
	return (*exposure)(e).mend()
}

// mend is the command that ends the exposure without another user. It is empty for a path that a repository may have
// chosen.
func (e *exposure) mend() fault.Hint {
	if e.Writable && (system.Usual(e.Path) || system.UsualForRoot(e.Path) || e.Path == system.KnownHome()) {
		return fault.Hintf("chmod go-w %s", e.Path)
	}
	return ""
}
