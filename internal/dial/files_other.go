//go:build !linux

package dial

import (
	"errors"
	"os"
	"path/filepath"
)

// ReadFiles is not supported on this system.
func (c *Conn) ReadFiles([]byte) (int, []*os.File, error) {
	return 0, nil, errors.ErrUnsupported
}

// InDir returns the path of a file in a directory.
func InDir(dir *os.File, name string) string { return filepath.Join(dir.Name(), name) }

// partialView returns false: this system has no user namespaces.
func partialView() bool { return false }
