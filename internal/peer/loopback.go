package peer

import (
	"errors"
	"runtime"
	"syscall"
)

// Any user of the machine can connect to 127.0.0.1, and listen there. The functions here report which user did.
// They take a connection of package net. They return only the user: no system finds the process without searching
// all processes.

// TellsLoopback reports whether the system reports the owner of a loopback connection.
const TellsLoopback = runtime.GOOS == "linux" || runtime.GOOS == "windows"

// LoopbackUID returns the uid of the user who owns the other end of a loopback TCP connection. On Linux with
// sock_diag, it takes the same time for any number of sockets. On Windows, our own uid is that of os.Getuid, -1;
// for all other users the error is ErrNobody. A socket that its program has closed belongs to nobody, although the
// kernel reports root. The error is ErrNobody, or errors.ErrUnsupported if the system does not report owners.
func LoopbackUID(conn syscall.Conn) (uid int, err error) {
	local, remote, err := ends(conn)
	if err != nil {
		return 0, ErrNobody
	}
	uid, err = connectionUID(remote, local)
	if err != nil {
		return 0, err
	}
	// While the kernel has this connection, no other connection can have its addresses. After a reset,
	// getpeername(2) fails, and the socket that was found may belong to the next connection from that address.
	if _, _, err := ends(conn); err != nil {
		return 0, ErrNobody
	}
	return uid, nil
}

// ListenerUID returns the uid of the user whose socket accepts connections at the far end of a loopback TCP
// connection: a listener at its address, or at all addresses. The owner may change right after the call. The error
// is ErrNobody if nothing listens, or errors.ErrUnsupported if the system does not report owners.
func ListenerUID(conn syscall.Conn) (uid int, err error) {
	_, remote, err := ends(conn)
	if err != nil {
		return 0, ErrNobody
	}
	return listenerUID(remote)
}

// end is one end of a TCP connection. IPv4 addresses are stored in their IPv6 form, such as ::ffff:127.0.0.1,
// because IPv6 sockets (such as Java's) have them in this form.
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

// ends returns the two addresses of a connection.
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
