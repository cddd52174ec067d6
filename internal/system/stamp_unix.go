//go:build linux || darwin

package system

import (
	"errors"
	"io/fs"
	"syscall"
)

// StampOf returns the stamp of the file that info describes.
func StampOf(info fs.FileInfo) Stamp { return stampOf(info.Sys().(*syscall.Stat_t)) }

// StampOfPath returns the stamp of a file, or the zero Stamp if it is missing. With follow, a symbolic link is
// followed. Each cached answer needs several stamps, so StampOfPath allocates no FileInfo, and no error for a
// missing file.
func StampOfPath(path string, follow bool) (Stamp, error) {
	for {
		var st syscall.Stat_t // stays on the stack, because the calls below are not made through a variable
		var err error
		if follow {
			err = syscall.Stat(path, &st)
		} else {
			err = syscall.Lstat(path, &st)
		}
		switch {
		case err == nil:
			return stampOf(&st), nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, fs.ErrNotExist):
			return Stamp{}, nil
		default:
			return Stamp{}, &fs.PathError{Op: "stat", Path: path, Err: err}
		}
	}
}
