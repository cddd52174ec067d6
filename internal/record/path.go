package record

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// The functions below work on one file: each call opens, checks and closes its directory. Others may read the
// directory (Guarded).

// in calls do with the checked directory of a file, and the file's name in it.
func in[T any](path string, do func(d *Dir, name string) (T, error)) (found T, err error) {
	d, err := Open(filepath.Dir(path), Guarded)
	if err != nil {
		return found, err
	}
	defer func() { _ = d.Close() }()
	return do(d, filepath.Base(path))
}

// Read is like Dir.Read.
func Read(path string, limit int64, deny fs.FileMode) ([]byte, error) {
	return in(path, func(d *Dir, name string) ([]byte, error) { return d.Read(name, limit, deny) })
}

// OpenFile is like Dir.OpenFile.
func OpenFile(path string, flag int, deny fs.FileMode) (*os.File, error) {
	return in(path, func(d *Dir, name string) (*os.File, error) { return d.OpenFile(name, flag, deny) })
}

// Replace is like Dir.Replace.
func Replace(path string, data []byte) error {
	_, err := in(path, func(d *Dir, name string) (any, error) { return nil, d.Replace(name, data) })
	return err
}

// Edit replaces the contents of a file by the result of edit. Concurrent callers take turns with the lock
// PATH.lock. A missing file counts as empty, and its directory is created. If edit changes nothing, nothing is
// written.
func Edit(ctx context.Context, path string, limit int64, edit func(src []byte) ([]byte, error)) error {
	lock, err := Lock(ctx, path+".lock")
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	src, err := Read(path, limit, Guarded)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dst, err := edit(src)
	if err != nil || bytes.Equal(src, dst) {
		return err
	}
	return Replace(path, dst)
}

// Remove is like Dir.Remove. A missing directory is not an error.
func Remove(path string) error {
	_, err := in(path, func(d *Dir, name string) (any, error) { return nil, d.Remove(name) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// SetAside is like Dir.SetAside without keep. It returns the complete path.
func SetAside(path string) (string, error) {
	return in(path, func(d *Dir, name string) (string, error) {
		aside, err := d.SetAside(name, false)
		return d.at(aside), err
	})
}

// Lock is like Dir.Lock. It creates the directory if it is missing.
func Lock(ctx context.Context, path string) (*os.File, error) {
	d, err := Make(filepath.Dir(path), Guarded)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	return d.Lock(ctx, filepath.Base(path))
}

// Sweep is like Dir.Sweep. A missing directory has no drafts.
func Sweep(dir string) error {
	d, err := Open(dir, Guarded)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sweep()
}
