//go:build !linux && !darwin

package system

import (
	"io/fs"
	"os"
)

// StampOf is the stamp of the file of an info.
func StampOf(info fs.FileInfo) Stamp {
	modified := info.ModTime().UnixNano()
	return Stamp{Size: info.Size(), Modified: modified, Changed: modified, Mode: uint32(info.Mode()), Owner: -1}
}

// StampOfPath is the stamp of a file. If follow, that is the file that a symbolic link leads to.
func StampOfPath(path string, follow bool) (Stamp, error) {
	stat := os.Lstat
	if follow {
		stat = os.Stat
	}
	info, err := stat(path)
	if err != nil {
		return Stamp{}, err
	}
	return StampOf(info), nil
}
