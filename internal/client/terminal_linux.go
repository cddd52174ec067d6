package client

import "syscall"

const (
	getMode = syscall.TCGETS
	setMode = syscall.TCSETS

	keysBeforePoll = 255

	// tcflsh with no argument (TCIFLUSH) drops what was typed and not read; package syscall lacks it.
	tcflsh = 0x540b
)

func (c console) flush() { _ = ioctl(c.tty, tcflsh, nil) }
