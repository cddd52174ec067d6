package peer

import (
	"errors"
	"runtime"
	"syscall"
)

// Any user of the machine can connect to 127.0.0.1, and listen there. The functions here say who did. They take a
// connection of package net, and return the user alone: no system tells the process without a search of all of them.

// TellsLoopback reports whether the system tells whose a connection over loopback is.
const TellsLoopback = runtime.GOOS == "linux" || runtime.GOOS == "windows"

// LoopbackUID returns the uid of the user who holds the other end of a TCP connection over loopback. Where Linux has
// sock_diag, the time it takes does not grow with the number of sockets. On Windows our own uid is that of os.Getuid,
// -1, and all others are ErrNobody. A socket that its program has closed is nobody's: the kernel says that those are
// root's. The error is ErrNobody, or errors.ErrUnsupported where the system does not tell.
func LoopbackUID(conn syscall.Conn) (uid int, err error) {
	local, remote, err := ends(conn)
	if err != nil {
		return 0, ErrNobody
	}
	uid, err = connectionUID(remote, local)
	if err != nil {
		return 0, err
	}
	// While the kernel has this connection, no other can have its addresses. After a reset getpeername(2) fails, and
	// what was found may be the next connection from there.
	if _, _, err := ends(conn); err != nil {
		return 0, ErrNobody
	}
	return uid, nil
}

// ListenerUID returns the uid of the user whose socket takes connections at the far end of a TCP connection over
// loopback: one that listens at its address, or at all addresses. Whether it still is that user a moment later, it
// cannot know. The error is ErrNobody where nothing listens, or errors.ErrUnsupported where the system does not tell.
func ListenerUID(conn syscall.Conn) (uid int, err error) {
	_, remote, err := ends(conn)
	if err != nil {
		return 0, ErrNobody
	}
	return listenerUID(remote)
}

// end is one end of a TCP connection. An address of IPv4 is kept as one of IPv6, ::ffff:127.0.0.1: sockets of IPv6 have
// such addresses too, as Java's do.
type end struct {
	ip   [16]byte
	port uint16
}

func end4(ip [4]byte, port int) end {
	e := end{[16]byte{10: 0xff, 11: 0xff}, uint16(port)}
	copy(e.ip[12:], ip[:])
	return e
}

func (e end) is4() bool { return e == end4([4]byte(e.ip[12:]), int(e.port)) }

// ends returns the addresses of a connection.
func ends(conn syscall.Conn) (local, remote end, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return end{}, end{}, err
	}
	name := func(get func(descriptor) (syscall.Sockaddr, error), fd uintptr) (end, error) {
		address, err := get(descriptor(fd))
		switch a := address.(type) {
		case *syscall.SockaddrInet4:
			return end4(a.Addr, a.Port), err
		case *syscall.SockaddrInet6:
			return end{a.Addr, uint16(a.Port)}, err
		}
		return end{}, errors.Join(err, errors.ErrUnsupported)
	}
	var errLocal, errRemote error
	err = raw.Control(func(fd uintptr) {
		local, errLocal = name(syscall.Getsockname, fd)
		remote, errRemote = name(syscall.Getpeername, fd)
	})
	return local, remote, errors.Join(err, errLocal, errRemote)
}
