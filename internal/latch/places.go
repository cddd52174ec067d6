package latch

import (
	"errors"
	"io/fs"
	"os"
	"sync/atomic"

	"broker/internal/fault"
	"broker/internal/paths"
	"broker/internal/system"
)

// Places are the files that can say that the broker is locked. If one does, or cannot be trusted, it is locked. All but
// File may be empty.
type Places struct {
	// File is the one that a daemon writes: below HOME, wherever variables move the state directory.
	File string
	// Known is the one in the home that the system knows for the user, where HOME names another home.
	Known string
	// Moved is the one in a state directory that variables moved: earlier versions wrote it there, and so does a
	// daemon whose home cannot be written.
	Moved string

	knownHome string // of Known
}

// Find returns the places for this process, given the absolute path of its state directory. If neither HOME nor the
// system names a home that is open to us, the file in the state directory is all there is.
func Find(state string) Places {
	return places(reachable(paths.Home()), reachable(system.KnownHome()), state)
}

// OwnHome is the home that the system knows for the user, absolute. If the system knows no home, or that one belongs to
// another user, OwnHome is the home that the environment names; it may be empty.
func OwnHome() string {
	home := reachable(system.KnownHome())
	if _, err := os.Stat(home); errors.Is(err, fs.ErrNotExist) {
		return paths.Home()
	}
	return home
}

// reachable returns a home, or "" if it is another user's and closed to us, as HOME is after su or in a container:
// nobody who runs as we do can lock or unlock there. A home of ours that is closed counts, as locked.
func reachable(home string) string {
	if home == "" {
		return ""
	}
	if _, err := os.Lstat(paths.LatchIn(paths.StateBelow(home))); !errors.Is(err, fs.ErrPermission) {
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
		return Places{File: paths.LatchIn(state)}
	}
	p := Places{File: paths.LatchIn(paths.StateBelow(home))}
	if known != "" {
		p.Known, p.knownHome = paths.LatchIn(paths.StateBelow(known)), known
	}
	if p.Known == p.File {
		p.Known = ""
	}
	if state != "" {
		p.Moved = paths.LatchIn(state)
	}
	if p.Moved == p.File || p.Moved == p.Known {
		p.Moved = ""
	}
	return p
}

// Others are the places beside File.
func (p Places) Others() []string {
	var list []string
	for _, path := range []string{p.Known, p.Moved} {
		if path != "" {
			list = append(list, path)
		}
	}
	return list
}

// Refuse returns nil unless the broker is locked. The error is a fault.Locked with the command that unlocks.
func (p Places) Refuse() error {
	switch {
	case Peek(p.File), p.Moved != "" && Peek(p.Moved):
		return fault.New(fault.Locked, "the broker is locked").WithHint("broker unlock")
	}
	return p.RefuseKnown()
}

// RefuseKnown is Refuse for the home that the system knows alone, which a daemon with another HOME cannot unlock.
func (p Places) RefuseKnown() error {
	if p.Known == "" {
		return nil
	}
	return RefuseHome(p.knownHome)
}

// RefuseHome is Refuse for the lock of a home directory, absolute. An empty one has none.
func RefuseHome(home string) error {
	if home = reachable(home); home == "" {
		return nil
	}
	file := paths.LatchIn(paths.StateBelow(home))
	if !Peek(file) {
		return nil
	}
	return fault.New(fault.Locked, "the broker is locked: %s says so", file).WithHint("HOME=%s broker unlock", home)
}

// Watch tells again and again whether one of some files says that the broker is locked. While none of them changes,
// that costs one stat for each. It is safe for concurrent use.
type Watch struct{ files []*watched }

type watched struct {
	path string
	last atomic.Pointer[look]
}

// look is what a file said, and its stamp then; the zero one if it was missing.
type look struct {
	stamp  system.Stamp
	locked bool
}

// NewWatch makes the Watch of some files.
func NewWatch(files ...string) *Watch {
	w := &Watch{}
	for _, path := range files {
		w.files = append(w.files, &watched{path: path})
	}
	return w
}

// Locked returns the first file that says so now, or "".
func (w *Watch) Locked() string {
	for _, f := range w.files {
		if f.locked() {
			return f.path
		}
	}
	return ""
}

func (f *watched) locked() bool {
	// First the stamp: what changes after it is seen the next time.
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
