// Package loopback owns the question who is at the other end of a TCP connection
// over 127.0.0.1, to which any user of the machine can connect. It refuses to guess.
package loopback

import (
	"errors"
	"net"
)

// ErrNobody says that no user is known to hold the other end.
var ErrNobody = errors.New("nobody is known to own the other end of the connection")

// OwnerOf is the uid of whoever holds the other end of a connection over 127.0.0.1,
// by the list of sockets in proc_net_tcp (Documentation/networking of Linux), or of GetExtendedTcpTable
// of Windows, where our own is that of os.Getuid, -1, and all others are ErrNobody. A
// socket that its program has closed is nobody's: the list calls those root's. The error is ErrNobody, or
// errors.ErrUnsupported where the system does not tell.
func OwnerOf(remote, local net.Addr) (uid int, err error) { return ownerOf(remote, local) }
