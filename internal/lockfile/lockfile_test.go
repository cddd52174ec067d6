//go:build unix

package lockfile

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// clock is the time since boot, as a test sets it.
type clock struct {
	boot  string
	since time.Duration
}

func (c *clock) now() (string, time.Duration) { return c.boot, c.since }

// cheap is a stretch that takes no time.
func cheap() Stretch {
	s := NewStretch()
	s.Passes, s.MemoryKiB, s.Lanes = 1, 8, 1
	return s
}

func at(t *testing.T, path string, c *clock) *File {
	t.Helper()
	l := New(path)
	l.clock = c.now
	if err := l.Load(); err != nil {
		t.Fatal(err)
	}
	return l
}

// set returns a lock file with a passphrase, and its proof.
func set(t *testing.T, path string, c *clock) (*File, secret.String) {
	t.Helper()
	l, s := at(t, path, c), cheap()
	proof := s.Proof(secret.New("open sesame"))
	if err := l.SetPassphrase(secret.String{}, s.Verifier(proof)); err != nil {
		t.Fatal(err)
	}
	return l, proof
}

func wrong() secret.String { return cheap().Proof(secret.New("a guess")) }

func TestLockSurvives(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "lock.json"), &clock{boot: "a"}
	l := at(t, path, c)
	if l.Locked() || Peek(path) {
		t.Error("locked without a file")
	}
	if err := l.Lock(); err != nil || !at(t, path, c).Locked() || !Peek(path) {
		t.Error("the file does not have the lock", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := l.Unlock(); err != nil || at(t, path, c).Locked() || Peek(path) {
		t.Error("the lock is still in the file", err)
	}
}

// TestDamaged: a file that cannot be trusted counts as locked. The error names the file and a command. After that
// command, an unlock works.
func TestDamaged(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"empty":      func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"half":       func(path string) error { return os.WriteFile(path, []byte(`{"version":1,"lock`), 0o600) },
		"two":        func(path string) error { return os.WriteFile(path, []byte(`{"version":1} {"version":1}`), 0o600) },
		"other JSON": func(path string) error { return os.WriteFile(path, []byte(`[]`), 0o600) },
		"newer":      func(path string) error { return os.WriteFile(path, []byte(`{"version":2,"locked":false}`), 0o600) },
		"unknown":    func(path string) error { return os.WriteFile(path, []byte(`{"version":1,"open":true}`), 0o600) },
		"no verifier": func(path string) error {
			return os.WriteFile(path, []byte(`{"version":1,"locked":false,"verifier":{}}`), 0o600)
		},
		"count":     func(path string) error { return os.WriteFile(path, []byte(`{"version":1,"wrong_tries":-9}`), 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"fifo":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"link": func(path string) error {
			return errors.Join(os.WriteFile(path+".good", []byte(`{"version":1}`), 0o600), os.Symlink(path+".good", path))
		},
		"writable": func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(`{"version":1}`), 0o600), os.Chmod(path, 0o666))
		},
		"of another": func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(`{"version":1}`), 0o600), os.Chown(path, 65534, 65534))
		},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "of another" && os.Getuid() != 0 {
				t.Skip("SKIPPED, NOT PROVEN: needs root to give a file away")
			}
			path := filepath.Join(t.TempDir(), "lock.json")
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			l := New(path)
			for what, err := range map[string]error{"load": l.Load(), "try": l.Try(secret.String{}), "unlock": l.Unlock()} {
				f := fault.Of(err)
				if f == nil || f.Kind != fault.Locked || !strings.Contains(f.Message, path) || string(f.Hint) != "ls -ld "+path+" && broker unlock" {
					t.Errorf("%s: %v, hint %v", what, err, f)
				}
			}
			if !l.Locked() || !Peek(path) || l.Damaged() == nil {
				t.Error("not locked")
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Lock(); err != nil {
				t.Error(err)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) || after.Size() != before.Size() {
				t.Errorf("the file was overwritten: %v", err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(l.Try(secret.String{}), l.Unlock()); err != nil || l.Locked() {
				t.Errorf("after the command of the hint: %v", err)
			}
		})
	}
}

// TestReadOnly: a failed write is reported, and retried later.
func TestReadOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	path := filepath.Join(dir, "lock.json")
	l := at(t, path, &clock{})
	if err := l.Lock(); !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if !l.Locked() {
		t.Error("not locked in memory either")
	}
	if l.Save() == nil {
		t.Error("Save cannot have worked")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.Save(); err != nil || !Peek(path) {
		t.Errorf("not saved later: %v", err)
	}
}

func TestPassphrase(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "lock.json"), &clock{boot: "a"}
	l, proof := set(t, path, c)
	if err := l.Try(secret.String{}); !errors.Is(err, ErrWanted) || !fault.Is(err, fault.Locked) {
		t.Errorf("without a proof: %v", err)
	}
	for _, p := range []secret.String{wrong(), secret.New("zz"), secret.New(proof.Reveal()[1:])} {
		if err := l.Try(p); err == nil {
			t.Error("a wrong passphrase was accepted")
		}
		l.now.Wrong = 0
		if err := l.saveLocked(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Try(proof); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(path); err != nil || bytes.Contains(text, []byte(proof.Reveal())) ||
		bytes.Contains(text, []byte("sesame")) {
		t.Errorf("the file contains the proof: %s %v", text, err)
	}
	// To set another passphrase, or to remove it, the current one is needed.
	other := cheap()
	otherProof := other.Proof(secret.New("another"))
	if err := l.SetPassphrase(otherProof, other.Verifier(otherProof)); !errors.Is(err, ErrWrong) {
		t.Errorf("set without the old one: %v", err)
	}
	if err := l.SetPassphrase(secret.String{}, nil); !errors.Is(err, ErrWanted) {
		t.Errorf("removed without the old one: %v", err)
	}
	if err := l.SetPassphrase(proof, other.Verifier(otherProof)); err != nil {
		t.Fatal(err)
	}
	l = at(t, path, c)
	if l.Try(proof) == nil || l.Try(otherProof) != nil {
		t.Error("the old passphrase works, or the new one does not")
	}
	if err := l.SetPassphrase(otherProof, nil); err != nil || l.Try(secret.String{}) != nil || l.Challenge() != nil {
		t.Errorf("a passphrase is still needed: %v", err)
	}
}

// TestDelay: after three wrong tries, each further try must wait longer. Neither the right passphrase, nor a new
// daemon, nor a clock change shortens the wait.
func TestDelay(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "lock.json"), &clock{boot: "a", since: time.Hour}
	l, proof := set(t, path, c)
	for n := range freeTries - 1 {
		if err := l.Try(wrong()); !errors.Is(err, ErrWrong) {
			t.Fatalf("try %d: %v", n, err)
		}
	}
	wait := firstWait
	for n := range 12 {
		err := l.Try(wrong())
		if f := fault.Of(err); f == nil || f.Kind != fault.Locked || !strings.Contains(f.Message, wait.String()) ||
			errors.Is(err, ErrWrong) {
			t.Fatalf("try %d: %v, want a wait of %v", n, err, wait)
		}
		c.since += wait - time.Second
		for _, l := range []*File{l, at(t, path, c)} { // the next daemon knows it too
			err := l.Try(proof)
			if f := fault.Of(err); f == nil || !strings.Contains(f.Message, "try again in 1s") || f.Hint != "sleep 1; broker unlock" {
				t.Fatalf("a second before the wait ends: %v", err)
			}
			if err := l.Try(secret.String{}); errors.Is(err, ErrWanted) {
				t.Error("asks for a passphrase that it would refuse")
			}
		}
		l = at(t, path, c)
		c.since += time.Second
		wait = min(2*wait, maxWait)
	}
	// After a reboot, the time since the last try is unknown, so the wait starts over, once.
	if l.Try(wrong()) == nil {
		t.Fatal("a wrong passphrase was accepted")
	}
	c.boot, c.since = "b", 48*time.Hour
	if l = at(t, path, c); l.Try(proof) == nil {
		t.Error("a reboot allowed a free try")
	}
	c.since += maxWait
	if err := at(t, path, c).Try(proof); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	if l = at(t, path, c); l.now.Wrong != 0 {
		t.Error("the wrong tries are still counted")
	}
}

// TestParallelGuesses: a hundred concurrent guesses count as three tries. Seen to fail without the mutex.
func TestParallelGuesses(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "lock.json"), &clock{boot: "a"}
	l, _ := set(t, path, c)
	var wg sync.WaitGroup
	var mu sync.Mutex
	looked := 0
	guess := wrong()
	for range 100 {
		wg.Go(func() {
			err := l.Try(guess)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				t.Error("a wrong passphrase was accepted")
			}
			if strings.Contains(err.Error(), ErrWrong.Error()) {
				looked++
			}
		})
	}
	wg.Wait()
	if looked != freeTries || at(t, path, c).now.Wrong != freeTries {
		t.Errorf("%d guesses were checked", looked)
	}
}

// TestUncountedTry: a try that cannot be counted is refused, so filling the disk does not help an attacker. Seen
// to fail when the try was counted after the check.
func TestUncountedTry(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "lock.json")
	l, proof := set(t, path, &clock{boot: "a"})
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []secret.String{wrong(), proof} {
		if err := l.Try(p); !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "no") {
			t.Errorf("got %v", err)
		}
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if err := l.Try(proof); err != nil {
		t.Error(err)
	}
}

// TestStretch: the key of a passphrase must never change: otherwise a new version would lock its owner out.
func TestStretch(t *testing.T) {
	s := NewStretch()
	if err := s.Check(); err != nil || s.MemoryKiB != 65536 || s.Passes != 3 || s.Lanes != 4 || len(s.Salt) != 16 {
		t.Errorf("%+v, %v", s, err)
	}
	if bytes.Equal(s.Salt, NewStretch().Salt) {
		t.Error("the same salt twice")
	}
	golden := Stretch{Salt: []byte("somesaltsomesalt"), Passes: 3, MemoryKiB: 65536, Lanes: 4}.Proof(secret.New("open sesame"))
	if golden.Reveal() != "f79188d93ea10a374d0a60c3ec8546871f57527a0b63064a23dda80a03b7affd" {
		t.Errorf("got %s", golden.Reveal())
	}
	p := s.Proof(secret.New("open sesame"))
	if v := s.Verifier(p); v.Check() != nil || !v.opens(p) || v.opens(wrong()) || v.opens(secret.String{}) ||
		v.opens(secret.New(p.Reveal()+"00")) {
		t.Error("the verifier gives wrong results")
	}
	for _, bad := range []Stretch{{}, {Salt: s.Salt, Passes: 1, Lanes: 1}, {Salt: s.Salt, Passes: 1 << 20,
		Lanes: 1, MemoryKiB: 64}, {Salt: s.Salt, Passes: 1, Lanes: 1, MemoryKiB: 1 << 30}} {
		if bad.Check() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"version":1,"locked":true}`, `{"version":1,"verifier":{"salt":"AAAAAAAAAAA=","passes":1,"memory_kib":8,"lanes":1,"sha256":""}}`, `{}`, `null`, `x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decode(b); err == nil &&
			(s.Version != version || s.Wrong < 0 || s.Verifier != nil && s.Verifier.Check() != nil) {
			t.Errorf("%q was accepted", b)
		}
	})
}

// TestReadOnlyHome runs as an ordinary user, because root can write to read-only directories.
func TestReadOnlyHome(t *testing.T) {
	if dir := os.Getenv("LOCKFILE_DIR"); dir != "" {
		// Root's home is closed to us, so no process of our uid can lock there. A home of ours that is closed
		// counts as locked.
		foreign, closed := filepath.Join(dir, "../root"), filepath.Join(dir, "../closed")
		if reachable(foreign) != "" || reachable(closed) != closed || reachable(dir) != dir {
			t.Errorf("reachable are %q, %q and %q", reachable(foreign), reachable(closed), reachable(dir))
		}
		if !Peek(filepath.Join(closed, "lock.json")) {
			t.Error("a home of ours that we cannot enter is not locked")
		}
		path := filepath.Join(dir, "lock.json")
		l := New(path)
		if err := l.Load(); err != nil || l.Locked() {
			t.Fatalf("%v", err)
		}
		if err := l.Lock(); !fault.Is(err, fault.Failed) || !errors.Is(err, os.ErrPermission) ||
			!strings.Contains(err.Error(), path) ||
			!l.Locked() {
			t.Errorf("got %v", err)
		}
		return
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: needs root to become another user")
	}
	dir, err := os.MkdirTemp("", "lockfile")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	home := filepath.Join(dir, "home")
	if err := errors.Join(err, os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "lockfile.test"), program,
		0o755), os.Chmod(filepath.Join(dir, "lockfile.test"), 0o755),
		os.Mkdir(home, 0o500), os.Chown(home, 65534, 65534), os.Mkdir(filepath.Join(dir, "root"), 0o700),
		os.Mkdir(filepath.Join(dir, "closed"), 0), os.Chown(filepath.Join(dir, "closed"), 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "lockfile.test"), "-test.run=^TestReadOnlyHome$", "-test.v")
	cmd.Dir, cmd.Env = "/", []string{"LOCKFILE_DIR=" + home}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestReadOnlyHome")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestUnlockBesideLockedDaemon: a daemon that stays locked does not take the unlock of another daemon for a
// deleted file.
func TestUnlockBesideLockedDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock.json")
	one, other := New(path), New(path)
	if err := errors.Join(one.Load(), other.Load(), one.Lock()); err != nil || !other.Locked() {
		t.Fatalf("%v, locked %v", err, other.Locked())
	}
	if err := errors.Join(one.Unlock(), other.Save()); err != nil {
		t.Fatal(err)
	}
	_ = other.Locked()
	if err := other.Save(); err != nil || Peek(path) || one.Locked() {
		t.Errorf("%v, locked again: %v", err, Peek(path))
	}
	// A deleted file still does not undo the lock.
	if err := errors.Join(one.Lock(), os.Remove(path)); err != nil || !one.Locked() {
		t.Fatal(err)
	}
	if err := one.Save(); err != nil || !Peek(path) {
		t.Errorf("%v, locked %v", err, Peek(path))
	}
}
