//go:build unix && !linux

package tty

import (
	"syscall"
	"unsafe"
)

const (
	getMode = syscall.TIOCGETA
	setMode = syscall.TIOCSETA

	// Whether a read takes a key before there are so many is not said of these systems, so that a pager
	// in the same pipeline may take one.
	keysBeforePoll = 1
)

// flush drops what was typed and not read.
func (c Console) flush() {
	which := int32(1) // FREAD
	_ = ioctl(c.fd, syscall.TIOCFLUSH, unsafe.Pointer(&which))
}
