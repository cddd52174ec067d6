//go:build unix && !linux

package tty

import (
	"syscall"
	"unsafe"
)

const (
	getMode = syscall.TIOCGETA
	setMode = syscall.TIOCSETA

	// These systems do not document whether a read returns a key before VMIN keys are there, so poll reports each
	// key. A pager in the same pipeline may therefore take a key.
	keysBeforePoll = 1
)

// Flush drops input that was not read yet.
func (c Console) Flush() {
	which := int32(1) // FREAD
	_ = ioctl(c.fd, syscall.TIOCFLUSH, unsafe.Pointer(&which))
}
