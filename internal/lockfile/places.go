package lockfile

import (
	"errors"
	"io/fs"
	"os"
	"sync/atomic"

	"broker/internal/fault"
	"broker/internal/paths"
	"broker/internal/system"
)

// Places are the files that can say that Broker is locked. It is locked if any of them says so or cannot be
// trusted. All but File may be empty.
type Places struct {
	// File is the file that a daemon writes. It is below HOME, wherever variables move the state directory.
	File string
	// Known is the file in the home directory from the user database, if HOME names another directory.
	Known string
	// Moved is the file in a state directory that variables moved. Earlier versions wrote the lock there, and so
	// does a daemon whose home cannot be written.
	Moved string

	knownHome string // of Known
}

// Find returns the places for this process, given the absolute path of its state directory. If neither HOME nor
// the user database names a home that we can enter, the only place is in the state directory.
func Find(state string) Places {
	return places(reachable(paths.Home()), reachable(system.KnownHome()), state)
}

// OwnHome returns the user's home from the user database, as an absolute path. If there is none, or it belongs to
// another user, OwnHome returns the home from the environment, which may be empty.
func OwnHome() string {
	home := reachable(system.KnownHome())
	if _, err := os.Stat(home); errors.Is(err, fs.ErrNotExist) {
		return paths.Home()
	}
	return home
}

// reachable returns a home, or "" if it is another user's and we cannot enter it, such as HOME after su or in a
// container: no process of our uid can lock or unlock there. A home of our own that we cannot enter counts, as
// locked.
func reachable(home string) string {
	if home == "" {
		return ""
	}
	if _, err := os.Lstat(paths.LockFileIn(paths.StateBelow(home))); !errors.Is(err, fs.ErrPermission) {
		return home
	}
	if access, err := system.AccessOfPath(home); err != nil || !access.Ours {
		return ""
	}
	return home
}

func places(home, known, state string) Places {
	if home == "" {
		home = known
	}
	if home == "" {
		return Places{File: paths.LockFileIn(state)}
	}
	p := Places{File: paths.LockFileIn(paths.StateBelow(home))}
	if known != "" {
		p.Known, p.knownHome = paths.LockFileIn(paths.StateBelow(known)), known
	}
	if p.Known == p.File {
		p.Known = ""
	}
	if state != "" {
		p.Moved = paths.LockFileIn(state)
	}
	if p.Moved == p.File || p.Moved == p.Known {
		p.Moved = ""
	}
	return p
}

// Others returns the places other than File.
func (p Places) Others() []string {
	var list []string
	for _, path := range []string{p.Known, p.Moved} {
		if path != "" {
			list = append(list, path)
		}
	}
	return list
}

// Refuse returns nil if Broker is not locked. Otherwise it returns a fault.Locked with the command that unlocks.
func (p Places) Refuse() error {
	switch {
	case Peek(p.File), p.Moved != "" && Peek(p.Moved):
		return fault.New(fault.Locked, "Broker is locked").WithHint("broker unlock")
	}
	return p.RefuseKnown()
}

// RefuseKnown is like Refuse, but only for Known, which a daemon with another HOME cannot unlock.
func (p Places) RefuseKnown() error {
	if p.Known == "" {
		return nil
	}
	return RefuseHome(p.knownHome)
}

// RefuseHome is like Refuse, for the lock of a home directory, an absolute path. An empty path has no lock.
func RefuseHome(home string) error {
	if home = reachable(home); home == "" {
		return nil
	}
	file := paths.LockFileIn(paths.StateBelow(home))
	if !Peek(file) {
		return nil
	}
	return fault.New(fault.Locked, "Broker is locked by %s", file).WithHint("HOME=%s broker unlock", home)
}

// Watch reports repeatedly whether any of some files says that Broker is locked. While no file changes, this costs
// one stat for each. It is safe for concurrent use.
type Watch struct{ files []*watched }

type watched struct {
	path string
	last atomic.Pointer[look]
}

// look is what a file said, and its stamp at that time; the zero stamp if it was missing.
type look struct {
	stamp  system.Stamp
	locked bool
}

// NewWatch returns the Watch of some files.
func NewWatch(files ...string) *Watch {
	w := &Watch{}
	for _, path := range files {
		w.files = append(w.files, &watched{path: path})
	}
	return w
}

// Locked returns the first file that now says that Broker is locked, or "".
func (w *Watch) Locked() string {
	for _, f := range w.files {
		if f.locked() {
			return f.path
		}
	}
	return ""
}

func (f *watched) locked() bool {
	// Take the stamp first: a change after it is noticed next time.
	stamp, err := system.StampOfPath(f.path, false)
	if err != nil {
		return Peek(f.path)
	}
	if last := f.last.Load(); last != nil && last.stamp == stamp {
		return last.locked
	}
	now := &look{stamp, Peek(f.path)}
	f.last.Store(now)
	return now.locked
}
