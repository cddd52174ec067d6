package tty

import "syscall"

const (
	getMode = syscall.TCGETS
	setMode = syscall.TCSETS

	keysBeforePoll = 255

	// tcflsh with no argument (TCIFLUSH) drops what was typed and not read; package syscall lacks it.
	tcflsh = 0x540b
)

func (c Console) flush() { _ = ioctl(c.fd, tcflsh, nil) }
