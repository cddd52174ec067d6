//go:build !linux

package dial

import (
	"errors"
	"os"
)

// ReadFiles takes no open files on this system.
func (c *Conn) ReadFiles([]byte) (int, []*os.File, error) {
	return 0, nil, errors.ErrUnsupported
}
