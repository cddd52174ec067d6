//go:build linux || darwin

package system

import (
	"errors"
	"io/fs"
	"syscall"
)

// StampOf is the stamp of the file of an info.
func StampOf(info fs.FileInfo) Stamp { return stampOf(info.Sys().(*syscall.Stat_t)) }

// StampOfPath is the stamp of a file. If follow, that is the file that a symbolic link leads to. Each warm request asks
// for several, so it makes no FileInfo.
func StampOfPath(path string, follow bool) (Stamp, error) {
	var st syscall.Stat_t
	err := error(syscall.EINTR)
	for errors.Is(err, syscall.EINTR) {
		if follow {
			err = syscall.Stat(path, &st)
		} else {
			err = syscall.Lstat(path, &st)
		}
	}
	if err != nil {
		return Stamp{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return stampOf(&st), nil
}
