// Package latch owns what of the lock outlives the daemon: whether it is locked, and the verifier of the passphrase
// that unlock wants, with the wrong tries at it. It refuses to guess: a file that cannot be trusted means locked. A
// passphrase is known to Stretch alone, which the program that asked for it calls.
package latch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"broker/internal/fault"
	"broker/internal/record"
	"broker/internal/secret"
)

// What is wrapped by the faults of kind locked that Try returns.
var (
	ErrWanted = errors.New("the passphrase for unlock is needed")
	ErrWrong  = errors.New("the passphrase for unlock is wrong")
)

// version is that of the file.
const version = 1

// maxFile bounds what is read of it.
const maxFile = 16 << 10

// After freeTries wrong tries in a row, each further one has to wait: firstWait, then twice as long each time, up to
// maxWait.
const (
	freeTries = 3
	firstWait = 10 * time.Second
	maxWait   = 15 * time.Minute
)

// state is the content of the file. It holds no secret that opens anything, but with it passphrases can be guessed.
type state struct {
	Version  int       `json:"version"`
	Locked   bool      `json:"locked"`
	Verifier *Verifier `json:"verifier,omitempty"`
	Wrong    int       `json:"wrong_tries,omitempty"` // in a row
	// When the last of them was, on a clock that nobody sets: which boot, and how long after it.
	Boot  string        `json:"boot,omitempty"`
	Since time.Duration `json:"since_boot_ns,omitempty"`
}

// Latch is the file, as one daemon knows it. It is safe for concurrent use.
type Latch struct {
	path  string
	clock func() (boot string, since time.Duration)

	mu      sync.Mutex
	now     state
	damaged error // why the file cannot be trusted
	behind  bool  // the file does not say yet what now says
}

// New makes the Latch of a file, which Load reads.
func New(path string) *Latch {
	return &Latch{path: path, clock: sinceBoot, now: state{Version: version}}
}

// Load reads the file. The error, a fault.Locked that names the file and what to type, means locked. Without an error,
// ask Locked.
func (l *Latch) Load() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loadLocked()
}

func (l *Latch) loadLocked() error {
	l.now, l.damaged = state{Version: version}, nil
	s, err := read(l.path)
	if err != nil {
		l.damaged = err
		return err
	}
	if s == nil {
		return nil
	}
	l.now = *s
	if boot, since := l.clock(); l.now.Wrong > 0 && (l.now.Boot != boot || l.now.Since > since) {
		// How long ago that was cannot be told, so the wait starts over. It is saved, so that it does so only once.
		l.now.Boot, l.now.Since = boot, since
		_ = l.saveLocked()
	}
	return nil
}

// read returns what the file says, nil where there is none.
func read(path string) (*state, error) {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Locked, "it stays locked: %w", fmt.Errorf(format, args...)).
			WithHint("%s && broker unlock", record.Mend(path, fault.Hintf("rm %s", path)))
	}
	text, err := record.Read(path, maxFile, record.Guarded)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, record.ErrRefused): // the file may be fine, or a directory
		return nil, fault.New(fault.Locked, "it stays locked: %w", err).WithHint("%s && broker unlock", fault.Of(err).Hint)
	case err != nil:
		return nil, bad("%s cannot be read: %w", path, err)
	}
	s, err := decode(text)
	if err != nil {
		return nil, bad("%s is damaged: %w", path, err)
	}
	return s, nil
}

func decode(text []byte) (*state, error) {
	s := new(state)
	if err := record.Decode(text, version, s, nil); err != nil {
		return nil, err
	}
	switch {
	case s.Wrong < 0 || s.Since < 0:
		return nil, errors.New("wrong_tries or since_boot_ns is negative")
	case s.Verifier != nil:
		return s, s.Verifier.Check()
	}
	return s, nil
}

// Peek reports whether the file says that a daemon which starts now is locked.
func Peek(path string) bool {
	s, err := read(path)
	return err != nil || s != nil && s.Locked
}

// Trouble is why the file cannot be trusted, nil if it can.
func Trouble(path string) error {
	_, err := read(path)
	return err
}

// Locked reports whether it is locked.
func (l *Latch) Locked() bool {
	defer l.begin()()
	return l.damaged != nil || l.now.Locked
}

// Damaged is why the file cannot be trusted, nil where it can.
func (l *Latch) Damaged() error {
	defer l.begin()()
	return l.damaged
}

// Lock writes down that it is locked. The error says that the file does not say so (yet: see Save).
func (l *Latch) Lock() error { return l.set(true) }

// Unlock writes down that it is not. Whether that is right was asked of Try before. With an error it stays locked.
func (l *Latch) Unlock() error { return l.set(false) }

func (l *Latch) set(locked bool) error {
	defer l.begin()()
	if l.damaged != nil {
		if locked {
			return nil // as it stands it says so, and it is not ours to replace
		}
		return l.damaged
	}
	if l.now.Locked == locked && !l.behind {
		return nil
	}
	l.now.Locked = locked
	err := l.saveLocked()
	if err != nil && !locked {
		l.now.Locked, l.behind = true, false // it stays locked, here as in the file
	}
	return err
}

// Save writes what could not be written before. With nothing to write it does nothing.
func (l *Latch) Save() error {
	defer l.begin()()
	if !l.behind {
		return nil
	}
	return l.saveLocked()
}

func (l *Latch) saveLocked() error {
	err := l.writeLocked()
	if l.behind = err != nil; err != nil {
		return fault.New(fault.Failed, "write %s: %w", l.path, err).
			WithHint("%s", record.Unwritten(filepath.Dir(l.path), err))
	}
	return nil
}

// writeLocked writes the file also when it says that nothing is locked: another daemon of this home that is locked
// would take a missing file for one that was deleted, and write the lock again.
func (l *Latch) writeLocked() error {
	text, err := json.Marshal(l.now)
	if err != nil {
		return err
	}
	return record.Replace(l.path, append(text, '\n'))
}

// Challenge says how the passphrase has to be stretched; nil where none is set.
func (l *Latch) Challenge() *Stretch {
	defer l.begin()()
	if l.now.Verifier == nil {
		return nil
	}
	s := l.now.Verifier.Stretch
	return &s
}

// Try reports with nil that this may unlock: the passphrase is right, or none is set. A wrong one is counted in the
// file before it is looked at, so that neither killing the daemon nor asking twice at once makes a try free.
func (l *Latch) Try(proof secret.String) error {
	defer l.begin()()
	return l.tryLocked(proof)
}

func (l *Latch) tryLocked(proof secret.String) error {
	if l.damaged != nil {
		// It may have been mended, or taken away, which is what its error says to do.
		if err := l.loadLocked(); err != nil {
			return err
		}
	}
	v := l.now.Verifier
	if v == nil {
		return nil
	}
	if wait := l.waitLocked(); wait > 0 {
		return tooSoon("too many wrong passphrases", wait)
	}
	if proof.IsZero() {
		return fault.New(fault.Locked, "%w", ErrWanted)
	}
	l.now.Wrong++
	l.now.Boot, l.now.Since = l.clock()
	if err := l.saveLocked(); err != nil {
		l.now.Wrong--
		return fault.New(fault.Failed, "a try cannot be counted, so none is taken: %w", err).WithHint("%s", fault.Of(err).Hint)
	}
	if !v.opens(proof) {
		if wait := l.waitLocked(); wait > 0 {
			return tooSoon(ErrWrong.Error(), wait)
		}
		return fault.New(fault.Locked, "%w", ErrWrong)
	}
	l.now.Wrong, l.now.Boot, l.now.Since = 0, "", 0
	_ = l.saveLocked() // else Save does it
	return nil
}

func tooSoon(why string, wait time.Duration) error {
	seconds := int((wait + time.Second - 1) / time.Second)
	return fault.New(fault.Locked, "%s; the next try is taken in %v", why, time.Duration(seconds)*time.Second).
		WithHint("sleep %d; broker unlock", seconds)
}

// waitLocked is how long no try is taken.
func (l *Latch) waitLocked() time.Duration {
	if l.now.Wrong < freeTries {
		return 0
	}
	wait := maxWait
	if n := l.now.Wrong - freeTries; n < 16 {
		wait = min(firstWait<<n, maxWait)
	}
	_, since := l.clock()
	return wait - (since - l.now.Since)
}

// SetPassphrase sets the passphrase that unlock asks for from now on, or removes it with nil. If one is set already, it
// has to be proven.
func (l *Latch) SetPassphrase(proof secret.String, v *Verifier) error {
	defer l.begin()()
	if err := l.tryLocked(proof); err != nil {
		return err
	}
	old := l.now.Verifier
	l.now.Verifier = v
	if err := l.saveLocked(); err != nil {
		l.now.Verifier = old
		return err
	}
	return nil
}
