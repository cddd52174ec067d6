package record

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// What follows is for one file: its directory is opened, checked and closed with each call. Its directory may be read
// by others, unless it is Private for another reason.

// in calls do with the checked directory of a file, and the file's name in it.
func in[T any](path string, do func(d *Dir, name string) (T, error)) (found T, err error) {
	d, err := Open(filepath.Dir(path), Guarded)
	if err != nil {
		return found, err
	}
	defer func() { _ = d.Close() }()
	return do(d, filepath.Base(path))
}

// Read is Dir.Read.
func Read(path string, limit int64, deny fs.FileMode) ([]byte, error) {
	return in(path, func(d *Dir, name string) ([]byte, error) { return d.Read(name, limit, deny) })
}

// OpenFile is Dir.OpenFile.
func OpenFile(path string, flag int, deny fs.FileMode) (*os.File, error) {
	return in(path, func(d *Dir, name string) (*os.File, error) { return d.OpenFile(name, flag, deny) })
}

// Replace is Dir.Replace.
func Replace(path string, data []byte) error {
	_, err := in(path, func(d *Dir, name string) (any, error) { return nil, d.Replace(name, data) })
	return err
}

// Edit replaces a file by what edit makes of its bytes, one caller after the other, with the lock of PATH.lock. A
// missing file is an empty one, and its directory is made. If edit changes nothing, nothing is written.
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

// Remove is Dir.Remove. It is no error if the directory is missing.
func Remove(path string) error {
	_, err := in(path, func(d *Dir, name string) (any, error) { return nil, d.Remove(name) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// SetAside is Dir.SetAside without keep. It returns the whole path.
func SetAside(path string) (string, error) {
	return in(path, func(d *Dir, name string) (string, error) {
		aside, err := d.SetAside(name, false)
		return d.at(aside), err
	})
}

// Lock is Dir.Lock. The directory is made if it is missing.
func Lock(ctx context.Context, path string) (*os.File, error) {
	d, err := Make(filepath.Dir(path), Guarded)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	return d.Lock(ctx, filepath.Base(path))
}

// Sweep is Dir.Sweep. A missing directory has no drafts.
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
