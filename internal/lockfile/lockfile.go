// Package lockfile stores the part of the lock that outlives the daemon: whether Broker is locked, and the verifier
// of the passphrase for unlock, with the count of wrong tries. It does not guess: a file that cannot be trusted
// means locked. Only Stretch sees the passphrase, in the program that asked for it.
package lockfile

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

// Errors that the Locked faults of Try wrap.
var (
	ErrWanted = errors.New("the passphrase for unlock is needed")
	ErrWrong  = errors.New("the passphrase for unlock is wrong")
)

// version is the version of the file format.
const version = 1

// maxFile is the largest file that is read, in bytes.
const maxFile = 16 << 10

// After freeTries wrong tries in a row, each further try must wait: firstWait at first, then twice as long each
// time, up to maxWait.
const (
	freeTries = 3
	firstWait = 10 * time.Second
	maxWait   = 15 * time.Minute
)

// state is the contents of the file. Nothing in it opens anything, but with it, passphrases can be guessed
// offline.
type state struct {
	Version  int       `json:"version"`
	Locked   bool      `json:"locked"`
	Verifier *Verifier `json:"verifier,omitempty"`
	Wrong    int       `json:"wrong_tries,omitempty"` // in a row
	// The time of the last wrong try, on a clock that cannot be set: the boot, and the time since that boot.
	Boot  string        `json:"boot,omitempty"`
	Since time.Duration `json:"since_boot_ns,omitempty"`
}

// File is the lock file, as one daemon knows it. It is safe for concurrent use.
type File struct {
	path  string
	clock func() (boot string, since time.Duration)

	mu      sync.Mutex
	now     state
	damaged error // why the file cannot be trusted
	behind  bool  // the file does not have the state in now yet
}

// New returns the File of a file. Call Load to read the file.
func New(path string) *File {
	return &File{path: path, clock: sinceBoot, now: state{Version: version}}
}

// Load reads the file. The error means locked; it is a fault.Locked that names the file and the command that fixes
// it. Without an error, Locked returns the state.
func (l *File) Load() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loadLocked()
}

func (l *File) loadLocked() error {
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
		// The time since the last wrong try is unknown, so the wait starts over. It is saved, so that this happens
		// only once.
		l.now.Boot, l.now.Since = boot, since
		_ = l.saveLocked()
	}
	return nil
}

// read returns the contents of the file, or nil if it does not exist.
func read(path string) (*state, error) {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Locked, "Broker stays locked: %w", fmt.Errorf(format, args...)).
			WithHint("%s && broker unlock", record.Mend(path, fault.Hintf("rm %s", path)))
	}
	text, err := record.Read(path, maxFile, record.Guarded)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, record.ErrRefused): // the contents may be valid, or it is a directory
		return nil, fault.New(fault.Locked,
			"Broker stays locked: %w", err).
			WithHint("%s && broker unlock", fault.Of(err).Hint)
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

// Peek reports whether a daemon that starts now would be locked by the file.
func Peek(path string) bool {
	s, err := read(path)
	return err != nil || s != nil && s.Locked
}

// Trouble returns why the file cannot be trusted, or nil.
func Trouble(path string) error {
	_, err := read(path)
	return err
}

// Locked reports whether Broker is locked.
func (l *File) Locked() bool {
	defer l.begin()()
	return l.damaged != nil || l.now.Locked
}

// Damaged returns why the file cannot be trusted, or nil.
func (l *File) Damaged() error {
	defer l.begin()()
	return l.damaged
}

// Lock saves that Broker is locked. An error means that the file does not say so yet: see Save.
func (l *File) Lock() error { return l.set(true) }

// Unlock saves that Broker is not locked. The caller has checked with Try that this is allowed. After an error,
// Broker stays locked.
func (l *File) Unlock() error { return l.set(false) }

func (l *File) set(locked bool) error {
	defer l.begin()()
	if l.damaged != nil {
		if locked {
			return nil // a damaged file means locked, and we must not replace it
		}
		return l.damaged
	}
	if l.now.Locked == locked && !l.behind {
		return nil
	}
	l.now.Locked = locked
	err := l.saveLocked()
	if err != nil && !locked {
		l.now.Locked, l.behind = true, false // it stays locked, in memory and in the file
	}
	return err
}

// Save retries a failed write. If everything is saved, it does nothing.
func (l *File) Save() error {
	defer l.begin()()
	if !l.behind {
		return nil
	}
	return l.saveLocked()
}

func (l *File) saveLocked() error {
	err := l.writeLocked()
	if l.behind = err != nil; err != nil {
		return fault.New(fault.Failed, "write %s: %w", l.path, err).
			WithHint("%s", record.Unwritten(filepath.Dir(l.path), err))
	}
	return nil
}

// writeLocked writes the file even if Broker is not locked. Otherwise another daemon of this home that is locked
// would take the missing file for a deleted one, and write the lock again.
func (l *File) writeLocked() error {
	text, err := json.Marshal(l.now)
	if err != nil {
		return err
	}
	return record.Replace(l.path, append(text, '\n'))
}

// Challenge returns how the passphrase must be stretched, or nil if none is set.
func (l *File) Challenge() *Stretch {
	defer l.begin()()
	if l.now.Verifier == nil {
		return nil
	}
	s := l.now.Verifier.Stretch
	return &s
}

// Try returns nil if an unlock is allowed: the passphrase is right, or none is set. It counts a try as wrong in
// the file before it checks the proof. So neither killing the daemon nor concurrent tries make a try free.
func (l *File) Try(proof secret.String) error {
	defer l.begin()()
	return l.tryLocked(proof)
}

func (l *File) tryLocked(proof secret.String) error {
	if l.damaged != nil {
		// The file may have been fixed or removed, as its error suggests.
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
		return fault.New(fault.Failed,
			"cannot check the passphrase, because the try cannot be counted: %w", err).
			WithHint("%s", fault.Of(err).Hint)
	}
	if !v.opens(proof) {
		if wait := l.waitLocked(); wait > 0 {
			return tooSoon(ErrWrong.Error(), wait)
		}
		return fault.New(fault.Locked, "%w", ErrWrong)
	}
	l.now.Wrong, l.now.Boot, l.now.Since = 0, "", 0
	_ = l.saveLocked() // if this fails, Save retries
	return nil
}

func tooSoon(why string, wait time.Duration) error {
	seconds := int((wait + time.Second - 1) / time.Second)
	return fault.New(fault.Locked, "%s; try again in %v", why, time.Duration(seconds)*time.Second).
		WithHint("sleep %d; broker unlock", seconds)
}

// waitLocked returns how long no further try is accepted.
func (l *File) waitLocked() time.Duration {
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

// SetPassphrase sets the passphrase for unlock, or removes it if v is nil. If a passphrase is already set, proof
// must be the proof of that one.
func (l *File) SetPassphrase(proof secret.String, v *Verifier) error {
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
