package lockfile

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

// Several daemons may run in one home, each with its own directories. They share the lock, so each daemon reads
// the file before it changes it. Each also holds a second file open, with a shared lock on it, while it may hand
// something out. A daemon that was told to lock can so see when the others have removed what they handed out.

// Path returns the path of the lock file.
func (l *File) Path() string { return l.path }

// begin starts an operation with the state that other daemons wrote. A state that this daemon could not write yet
// takes precedence. A missing file does not undo anything: it is written again.
func (l *File) begin() (end func()) {
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

// Adopt moves the file of an earlier version here, if it exists. If both files exist, Broker is locked if either
// says so. The passphrase of the old file is used only if that file is locked and no passphrase is set here: a
// variable can choose the place of the old file, so its passphrase must not be adopted unnoticed. A file that
// cannot be trusted stays where it is; the error names it.
func (l *File) Adopt(old string) error {
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

// attendance opens the file that daemons hold while they may hand something out.
func (l *File) attendance() (*os.File, error) {
	path := filepath.Join(filepath.Dir(l.path), "lock.daemons")
	return record.OpenFile(path, os.O_RDWR|os.O_CREATE, record.Guarded)
}

// attendTime is how long Attend waits while another daemon locks.
const attendTime = time.Second

// Attend tells other daemons that this daemon may hand something out, until the returned file is closed. It
// returns nil if that is impossible, such as in a read-only home.
func (l *File) Attend() *os.File {
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

// AwaitOthers waits until no other daemon may hand anything out. Each of them reads the lock file on its own. The
// caller must have closed its own file of Attend, and must call Lock again afterwards: another daemon may have
// written the file between its read and its write.
func (l *File) AwaitOthers(ctx context.Context) error {
	f, err := l.attendance()
	if err != nil {
		return nil // the other daemons could not open it either
	}
	defer func() { _ = f.Close() }()
	if err := system.LockUntil(ctx, f); errors.Is(err, system.ErrLocked) {
		return fault.New(fault.Failed, "Broker is locked, but another of your daemons did not react in time, "+
			"and its sessions may still be in files").WithHint("pgrep -a broker")
	}
	return nil
}
