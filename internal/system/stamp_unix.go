//go:build linux || darwin

package system

import (
	"errors"
	"io/fs"
	"syscall"
)

// StampOf is the stamp of the file of an info.
func StampOf(info fs.FileInfo) Stamp { return stampOf(info.Sys().(*syscall.Stat_t)) }

// StampOfPath returns the stamp of a file, the zero one if it is missing. With follow, a symbolic link is followed. Each
// warm request asks for several stamps, so StampOfPath makes no FileInfo, and no error for a missing file.
func StampOfPath(path string, follow bool) (Stamp, error) {
	for {
		var st syscall.Stat_t // on the stack, as the calls are not made through a variable
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
