package loopback

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// Tells reports whether the system tells whose a connection is.
const Tells = true

func ownerOf(remote, local netip.AddrPort) (int, error) {
	s, err := ask(remote, local)
	switch {
	case err == nil && s.state == established && s.local == remote && s.peer == local && s.inode != 0:
		return s.uid, nil
	case err == nil, errors.Is(err, ErrNobody):
		return 0, ErrNobody
	}
	return ownerInTable(remote, local)
}

func listenerUID(at netip.AddrPort) (int, error) {
	s, err := ask(at, netip.AddrPort{})
	switch {
	case err == nil && s.state == listening && s.inode != 0 && s.local.Port() == at.Port() &&
		(s.local.Addr() == at.Addr() || s.local.Addr().IsUnspecified()):
		return s.uid, nil
	case err == nil, errors.Is(err, ErrNobody):
		return 0, ErrNobody
	}
	return listenerInTable(at)
}

// open reports whether the kernel still has a connection: while it has, no other can have the same addresses.
// getpeername(2) fails after a reset.
func open(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	isOpen := false
	err = raw.Control(func(fd uintptr) {
		_, err := syscall.Getpeername(int(fd))
		isOpen = err == nil
	})
	return err == nil && isOpen
}
