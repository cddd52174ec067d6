package mfa

import "golang.org/x/sys/unix"

// terminal is one that a program is about to change.
type terminal struct {
	fd     int
	before *unix.Termios
}

// openTerminal opens a terminal without making it ours; nil if it is no terminal.
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

// restore sets the terminal to echo lines again, if it did before. A shell that has taken it back is left alone: its line
// editor, unlike pinentry, takes Return as it comes. So is a terminal whose background we are in, because that would stop us.
func (t *terminal) restore() {
	now, err := unix.IoctlGetTermios(t.fd, unix.TCGETS)
	if err != nil || t.before.Lflag&unix.ECHO == 0 || now.Lflag&unix.ECHO != 0 || (now.Iflag^t.before.Iflag)&unix.ICRNL != 0 {
		return
	}
	if foreground, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP); err == nil && foreground != unix.Getpgrp() {
		return
	}
	_ = unix.IoctlSetTermios(t.fd, unix.TCSETS, t.before)
}

// gone reports whether nobody is at the other end any more.
func (t *terminal) gone() bool {
	fds := []unix.PollFd{{Fd: int32(t.fd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

func (t *terminal) close() { _ = unix.Close(t.fd) }
