// Package loopback owns the question which user holds a socket on loopback: any user of the machine can connect
// to 127.0.0.1, and listen there. It refuses to guess.
package loopback

import (
	"errors"
	"net"
	"net/netip"
)

// ErrNobody says that no user is known to hold the socket.
var ErrNobody = errors.New("nobody is known to own the socket")

// OwnerOf returns the uid of the user who holds the other end of a connection over loopback. Where Linux has
// sock_diag, the time it takes does not grow with the number of sockets. On Windows our own uid is that of
// os.Getuid, -1, and all others are ErrNobody. A socket that its program has closed is nobody's: the kernel
// says that those are root's. The error is ErrNobody, or errors.ErrUnsupported where the system does not tell.
func OwnerOf(conn *net.TCPConn) (uid int, err error) {
	remote, ok := addrPort(conn.RemoteAddr())
	local, ok2 := addrPort(conn.LocalAddr())
	if !ok || !ok2 {
		return 0, ErrNobody
	}
	if uid, err = ownerOf(remote, local); err == nil && !open(conn) {
		return 0, ErrNobody // what was found may be the next connection from there
	}
	return uid, err
}

// ListenerUID returns the uid of the user whose socket takes connections to an address of loopback: one that
// listens there, or on all addresses. Whether it still is that user a moment later, it cannot know.
// The error is ErrNobody where nothing listens, or errors.ErrUnsupported where the system does not tell.
func ListenerUID(at netip.AddrPort) (uid int, err error) {
	return listenerUID(netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()))
}

func addrPort(a net.Addr) (netip.AddrPort, bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()), at.IsValid()
}
