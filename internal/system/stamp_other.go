//go:build !linux && !darwin

package system

import (
	"errors"
	"io/fs"
	"os"
)

// StampOf returns the stamp of the file that info describes.
func StampOf(info fs.FileInfo) Stamp {
	modified := info.ModTime().UnixNano()
	return Stamp{Size: info.Size(), Modified: modified, Changed: modified, Mode: uint32(info.Mode()), Owner: -1}
}

// StampOfPath returns the stamp of a file, or the zero Stamp if it is missing. With follow, a symbolic link is
// followed.
func StampOfPath(path string, follow bool) (Stamp, error) {
	stat := os.Lstat
	if follow {
		stat = os.Stat
	}
	info, err := stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Stamp{}, nil
	}
	if err != nil {
		return Stamp{}, err
	}
	return StampOf(info), nil
}
