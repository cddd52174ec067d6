//go:build unix

package cli

import (
	"os"
	"syscall"
)

// replace puts a program into the place of this one, as its pid. It returns only where that failed.
func replace(program string, command, env []string) error { return syscall.Exec(program, command, env) }

// endList ends fzf, which gives the terminal back on SIGTERM.
func endList() { _ = syscall.Kill(os.Getpid(), syscall.SIGTERM) }

// openTTY opens the controlling terminal to read and to write.
func openTTY() (in, out *os.File, err error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	return tty, tty, err
}

const defaultShell = "/bin/sh"
