// Package system hides the differences between operating systems that several packages need: file locks, who owns
// a file and who else may use it, the umask, processes that outlive a terminal. Every program is built on it, also
// credproc, so it imports only the standard library. It does not know what its callers use it for.
package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrLocked means that another open file holds the lock.
var ErrLocked = errors.New("another process holds the lock")

// LockUntil takes the lock as soon as it is free. If ctx ends before, the error is ErrLocked.
func LockUntil(ctx context.Context, f *os.File) error {
	for {
		if err := TryLock(f); !errors.Is(err, ErrLocked) {
			return err
		}
		select {
		case <-ctx.Done():
			return ErrLocked
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// ErrNotRegular means that a path does not lead to a regular file.
var ErrNotRegular = errors.New("not a regular file")

// OpenRegular opens a file for reading and never blocks, as opening a fifo would. The flags are 0 or NoFollow. The
// info describes the opened file; if there is one, it is also returned with ErrNotRegular. Other errors are those
// of os.OpenFile.
func OpenRegular(path string, flags int) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|NonBlock|flags, 0)
	if errors.Is(err, syscall.ENXIO) { // a socket
		return nil, nil, fmt.Errorf("%s is %w", path, ErrNotRegular)
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is %w", path, ErrNotRegular)
	}
	if err != nil {
		_ = f.Close()
		return nil, info, err
	}
	return f, info, nil
}

// Access says who may use a file.
type Access struct {
	// Ours means that the file belongs to the user of this process.
	Ours bool
	// Perm is its mode. On Windows it is derived from the access list: 0700 for this user, and r, w and x for
	// group and others if anybody besides this user, SYSTEM and the Administrators may read, write or do more.
	Perm fs.FileMode
	// Owner names the owner: "uid 1000"; on Windows the SID.
	Owner string
	// Links is the number of names that the file has.
	Links int
}

// MakeDirs creates a directory and its missing parents. Directories on the way may be symbolic links. The new
// directories have mode 0700, regardless of the umask.
func MakeDirs(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if parent := filepath.Dir(path); parent != path {
		if err := MakeDirs(parent); err != nil {
			return err
		}
	}
	switch err := os.Mkdir(path, 0o700); {
	case errors.Is(err, fs.ErrExist): // another process was faster
		return nil
	case err != nil:
		return err
	}
	return os.Chmod(path, 0o700)
}
