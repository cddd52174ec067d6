package latch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"broker/internal/fault"
	"broker/internal/record"
	"broker/internal/system"
)

// Several daemons may run in one home, each with directories of its own. They share the lock, so each reads the file
// before it changes it, and each holds a file beside it open, with a shared lock, for as long as it may give something
// out. A daemon that was told to lock knows by that when the others have taken back what they gave.

// Path is the file.
func (l *Latch) Path() string { return l.path }

// begin begins one operation: it knows what other daemons wrote since. What could not be written here counts more,
// and a file that is gone takes back nothing: it is written again.
func (l *Latch) begin() (end func()) {
	l.mu.Lock()
	if l.behind || l.damaged != nil {
		return l.mu.Unlock
	}
	switch s, err := read(l.path); {
	case err != nil:
		l.damaged = err
	case s == nil:
		l.behind = l.now.Locked || l.now.Verifier != nil
	default:
		l.now = *s
	}
	return l.mu.Unlock
}

// Adopt moves the file of an earlier version here, if it exists. If there is a file here too, the broker is locked if
// either says so. The passphrase of the old file counts only if that file is locked and no passphrase is set here: a
// variable can name the place of the old file, so its passphrase is not taken over unseen. A file that cannot be
// trusted stays where it is; the error names it.
func (l *Latch) Adopt(old string) error {
	defer l.begin()()
	if _, err := os.Lstat(old); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s, err := read(old)
	if err != nil || l.damaged != nil {
		return errors.Join(err, l.damaged)
	}
	if s == nil {
		return nil
	}
	before := l.now
	if s.Locked && l.now.Verifier == nil {
		l.now = *s
	}
	l.now.Locked = before.Locked || s.Locked
	if err := l.saveLocked(); err != nil {
		l.now, l.behind = before, false
		return err
	}
	return os.Remove(old)
}

// attendance is the file that daemons hold while they may give something out.
func (l *Latch) attendance() (*os.File, error) {
	path := filepath.Join(filepath.Dir(l.path), "lock.daemons")
	return record.OpenFile(path, os.O_RDWR|os.O_CREATE, record.Guarded)
}

// attendTime is how long a daemon waits that wants to give something out while another locks.
const attendTime = time.Second

// Attend says that this daemon may give something out, until the returned file is closed. It is nil if that cannot be
// said, as in a home that cannot be written.
func (l *Latch) Attend() *os.File {
	f, err := l.attendance()
	if err != nil {
		return nil
	}
	for limit := time.Now().Add(attendTime); ; time.Sleep(5 * time.Millisecond) {
		err := system.TryLockShared(f)
		if err == nil {
			return f
		}
		if !errors.Is(err, system.ErrLocked) || time.Now().After(limit) {
			_ = f.Close()
			return nil
		}
	}
}

// AwaitOthers waits until no other daemon may give anything out. Each reads the file by itself. The caller must not
// attend any more, and calls Lock after it: one of them may have written the file between reading and writing it.
func (l *Latch) AwaitOthers(ctx context.Context) error {
	f, err := l.attendance()
	if err != nil {
		return nil // as none of them could
	}
	defer func() { _ = f.Close() }()
	if err := system.LockUntil(ctx, f); errors.Is(err, system.ErrLocked) {
		return fault.New(fault.Failed, "it is locked, but another daemon of yours has not taken note, "+
			"and what it put into files may still be there").WithHint("pgrep -a broker")
	}
	return nil
}
