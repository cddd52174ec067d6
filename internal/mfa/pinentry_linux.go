package mfa

import "golang.org/x/sys/unix"

// terminal is a terminal that a program is about to change.
type terminal struct {
	fd     int
	before *unix.Termios
}

// openTerminal opens a terminal without making it our controlling terminal. It returns nil if path is not a
// terminal.
func openTerminal(path string) *terminal {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	state, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		_ = unix.Close(fd)
		return nil
	}
	return &terminal{fd, state}
}

// restore makes the terminal echo lines again, if it did before. It leaves a terminal alone if a shell uses it
// again: a shell's line editor, unlike pinentry, reads Return unchanged. It also leaves a terminal alone if we are
// in its background, because a change would stop us.
func (t *terminal) restore() {
	now, err := unix.IoctlGetTermios(t.fd, unix.TCGETS)
	if err != nil || t.before.Lflag&unix.ECHO == 0 || now.Lflag&unix.ECHO != 0 ||
		(now.Iflag^t.before.Iflag)&unix.ICRNL != 0 {
		return
	}
	if foreground, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP); err == nil && foreground != unix.Getpgrp() {
		return
	}
	_ = unix.IoctlSetTermios(t.fd, unix.TCSETS, t.before)
}

// gone reports whether the other end of the terminal was closed.
func (t *terminal) gone() bool {
	fds := []unix.PollFd{{Fd: int32(t.fd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

func (t *terminal) close() { _ = unix.Close(t.fd) }
