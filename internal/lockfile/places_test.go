//go:build unix

package lockfile

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

func TestPlaces(t *testing.T) {
	const own, known, moved = "/h/.local/state/broker/lock.json", "/k/.local/state/broker/lock.json", "/s/lock.json"
	for _, tt := range []struct {
		name, home, known, state string
		want                     Places
	}{
		{"plain", "/h", "/h", "/h/.local/state/broker", Places{File: own}},
		{"state moved", "/h", "/h", "/s", Places{File: own, Moved: moved}},
		{"home moved", "/h", "/k", "/h/.local/state/broker", Places{File: own, Known: known}},
		{"home moved, state not", "/h", "/k", "/k/.local/state/broker", Places{File: own, Known: known}},
		{"both moved", "/h", "/k", "/s", Places{File: own, Known: known, Moved: moved}},
		{"no name for the uid", "/h", "", "/s", Places{File: own, Moved: moved}},
		{"no HOME", "", "/k", "/s", Places{File: known, Moved: moved}},
		{"neither", "", "", "/s", Places{File: moved}},
	} {
		got := places(tt.home, tt.known, tt.state)
		got.knownHome = ""
		if got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
	home := t.TempDir()
	p := places("/h", home, "/s")
	if err := p.Refuse(); err != nil {
		t.Errorf("without a file: %v", err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(p.Known), 0o700), os.WriteFile(p.Known, []byte("{"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if f := fault.Of(p.Refuse()); f == nil || f.Kind != fault.Locked || f.Hint != fault.Hintf("HOME=%s broker unlock", home) {
		t.Errorf("got %+v", f)
	}
	if got := p.Others(); !slices.Equal(got, []string{p.Known, p.Moved}) {
		t.Errorf("got %v", got)
	}
}

// TestVariablesMoveNoLock: whatever variables other than HOME say, the lock file stays where it is. So does the
// file in the user's own home.
func TestVariablesMoveNoLock(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	before := Find(filepath.Join(home, ".local/state/broker"))
	for _, name := range []string{"BROKER_STATE_DIR", "BROKER_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "USER", "LOGNAME"} {
		t.Setenv(name, t.TempDir())
	}
	after := Find(t.TempDir())
	if after.File != before.File || after.Known != before.Known || after.File != filepath.Join(home, ".local/state/broker/lock.json") {
		t.Errorf("was %+v, is %+v", before, after)
	}
	t.Setenv("HOME", "")
	if known := Find("/s"); before.Known != "" && known.File != before.Known {
		t.Errorf("without HOME: %+v", known)
	}
}

// TestWatch: each change of the file is noticed.
func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock.json")
	w := NewWatch(path+".none", path)
	is := func(want string) {
		t.Helper()
		for range 2 {
			if got := w.Locked(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
	is("")
	l := New(path)
	for range 3 {
		if err := l.Lock(); err != nil {
			t.Fatal(err)
		}
		is(path)
		if err := l.Unlock(); err != nil {
			t.Fatal(err)
		}
		is("")
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	is(path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	is("")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	is(path)
}

// TestTwoLocks: two daemons share a file, and neither loses what the other wrote.
func TestTwoLocks(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "lock.json"), &clock{boot: "a"}
	a, b := at(t, path, c), at(t, path, c)
	s := cheap()
	proof := s.Proof(secret.New("open sesame"))
	if err := a.SetPassphrase(secret.String{}, s.Verifier(proof)); err != nil {
		t.Fatal(err)
	}
	if b.Challenge() == nil {
		t.Error("the other File does not see the passphrase")
	}
	if err := a.Lock(); err != nil || !b.Locked() {
		t.Errorf("the other File does not see the lock: %v", err)
	}
	if err := b.Try(secret.String{}); !errors.Is(err, ErrWanted) {
		t.Errorf("the other File unlocks without the passphrase: %v", err)
	}
	// Tries at both daemons are counted together.
	for _, l := range []*File{a, b} {
		if err := l.Try(wrong()); !errors.Is(err, ErrWrong) {
			t.Errorf("got %v", err)
		}
	}
	if a.Try(wrong()) == nil || b.Try(proof) == nil {
		t.Error("tries at the other File are not counted")
	}
	c.since += firstWait
	if err := errors.Join(b.Try(proof), b.Unlock()); err != nil || a.Locked() {
		t.Errorf("after an unlock at the other File: %v", err)
	}
	// A missing file does not undo the lock: it is written again.
	if err := a.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := a.Save(); err != nil || !a.Locked() || a.Challenge() == nil || !Peek(path) {
		t.Errorf("the lock was lost: %v", err)
	}
}

func TestAdopt(t *testing.T) {
	s := cheap()
	proof, other := s.Proof(secret.New("open sesame")), s.Proof(secret.New("another"))
	for _, tt := range []struct {
		name         string
		old, own     func(t *testing.T, l *File)
		locked       bool
		opens, fails secret.String
	}{
		{"no new file", protected(s, proof, true), nothing, true, proof, other},
		{"no new file, unlocked", protected(s, proof, false), nothing, false, secret.String{}, secret.String{}},
		{"no old file", nothing, protected(s, proof, true), true, proof, other},
		{"the new file locks", protected(s, proof, false), lock, true, secret.String{}, secret.String{}},
		{"the old file locks", lock, protected(s, proof, false), true, proof, other},
		{"the existing passphrase stays", protected(s, other, true), protected(s, proof, false), true, proof, other},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, c := t.TempDir(), &clock{boot: "a", since: time.Hour}
			old, path := filepath.Join(dir, "old.json"), filepath.Join(dir, "lock.json")
			tt.old(t, at(t, old, c))
			tt.own(t, at(t, path, c))
			l := at(t, path, c)
			if err := l.Adopt(old); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(old); !os.IsNotExist(err) {
				t.Errorf("the old file still exists: %v", err)
			}
			if l.Locked() != tt.locked || Peek(path) != tt.locked {
				t.Errorf("locked: %v", l.Locked())
			}
			if !tt.fails.IsZero() && l.Try(tt.fails) == nil || l.Try(tt.opens) != nil {
				t.Error("the wrong passphrase is set")
			}
		})
	}
	// A file that cannot be trusted stays, and the error names a command.
	old := filepath.Join(t.TempDir(), "lock.json")
	if err := os.WriteFile(old, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := at(t, filepath.Join(t.TempDir(), "lock.json"), &clock{})
	if f := fault.Of(l.Adopt(old)); f == nil || f.Kind != fault.Locked || f.Hint != fault.Hintf("ls -ld %s && broker unlock", old) {
		t.Errorf("got %+v", f)
	}
	if !Peek(old) {
		t.Error("the file was removed")
	}
}

func nothing(*testing.T, *File) {}

func lock(t *testing.T, l *File) {
	t.Helper()
	if err := l.Lock(); err != nil {
		t.Fatal(err)
	}
}

// protected gives a lock file a passphrase, and locks it if locked is set.
func protected(s Stretch, proof secret.String, locked bool) func(*testing.T, *File) {
	return func(t *testing.T, l *File) {
		t.Helper()
		if err := l.SetPassphrase(secret.String{}, s.Verifier(proof)); err != nil {
			t.Fatal(err)
		}
		if locked {
			lock(t, l)
		}
	}
}

// BenchmarkWatch measures the check of the lock file before each answer of a daemon: without a file, and with a
// file that is not locked.
func BenchmarkWatch(b *testing.B) {
	path := filepath.Join(b.TempDir(), "lock.json")
	if err := os.WriteFile(path+".open", []byte(`{"version":1,"locked":false}`), 0o600); err != nil {
		b.Fatal(err)
	}
	for name, file := range map[string]string{"none": path, "unlocked": path + ".open"} {
		b.Run(name, func(b *testing.B) {
			w := NewWatch(file)
			for b.Loop() {
				if w.Locked() != "" {
					b.Fatal("locked")
				}
			}
		})
	}
}
