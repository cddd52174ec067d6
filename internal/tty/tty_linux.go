package tty

import "syscall"

const (
	getMode = syscall.TCGETS
	setMode = syscall.TCSETS

	keysBeforePoll = 255

	// tcflsh without an argument (TCIFLUSH) drops input that was not read yet; package syscall lacks it.
	tcflsh = 0x540b
)

// Flush drops input that was not read yet.
func (c Console) Flush() { _ = ioctl(c.fd, tcflsh, nil) }
