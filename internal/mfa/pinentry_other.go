//go:build unix && !linux

package mfa

import (
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is a terminal that a program is about to change.
type terminal struct{ fd int }

// openTerminal opens a terminal without making it our controlling terminal. It returns nil if path is not a
// terminal.
func openTerminal(path string) *terminal {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	if !term.IsTerminal(fd) {
		_ = unix.Close(fd)
		return nil
	}
	return &terminal{fd}
}

// restore does nothing: pinentry restores the terminal itself.
func (t *terminal) restore() {}

// gone always returns false: it is unknown on this system.
func (t *terminal) gone() bool { return false }

func (t *terminal) close() { _ = unix.Close(t.fd) }
