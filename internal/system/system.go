// Package system owns what the systems we run on do differently and several packages
// need: locks of files, who owns a file and who else may use it, the umask, processes that
// outlive a terminal. It is below everything, credproc too, and so the standard library alone;
// it refuses to know what any of it is for.
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

// ErrLocked says that another open file holds the lock.
var ErrLocked = errors.New("another process holds the lock")

// LockUntil takes the lock as soon as it is free, where Lock could not be given up: the error is ErrLocked where ctx ends before.
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

// ErrNotRegular says that a path leads to something else than a regular file.
var ErrNotRegular = errors.New("not a regular file")

// OpenRegular opens a file for reading and never waits for it, as opening a fifo would. The flags are 0 or NoFollow. The info is that of the
// opened file, also beside ErrNotRegular where it was to be had; other errors are those of os.OpenFile.
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

// Access is who may use a file.
type Access struct {
	// Ours: it belongs to the user of this process.
	Ours bool
	// Perm is its mode. On Windows it is what the access list comes to: 0700 for us, and
	// r, w and x for group and others where anybody may read, write or do more beside us, SYSTEM and the
	// Administrators.
	Perm fs.FileMode
	// Owner names the owner: "uid 1000"; on Windows the SID.
	Owner string
	// Links is the number of names that a file has.
	Links int
}

// MakeDirs makes a directory and those above it, which may be links. What it makes has mode 0700, whatever the umask.
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
	case errors.Is(err, fs.ErrExist): // another process was quicker
		return nil
	case err != nil:
		return err
	}
	return os.Chmod(path, 0o700)
}
