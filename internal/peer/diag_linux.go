package peer

import (
	"encoding/binary"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
)

// The kernel is asked about one socket with sock_diag(7) and the structures of linux/inet_diag.h. The answer takes
// as long among a hundred thousand sockets as among ten.
const (
	byFamily    = 20 // SOCK_DIAG_BY_FAMILY
	established = 1  // TCP_ESTABLISHED of net/tcp_states.h
	listening   = 10 // TCP_LISTEN
	lo          = 1  // the interface lo, in every network namespace: LOOPBACK_IFINDEX of net/flow.h

	requestSize = syscall.NLMSG_HDRLEN + 56 // nlmsghdr, inet_diag_req_v2
	answerSize  = syscall.NLMSG_HDRLEN + 72 // nlmsghdr, inet_diag_msg
)

// socket is what the kernel reports about a socket: its two ends, its owner and its inode.
type socket struct {
	state         int
	local, remote end
	uid, inode    int
}

// answers records that sock_diag has worked. A kernel without sock_diag returns ENOENT, the same error as for a
// socket that does not exist.
var answers atomic.Bool

// ask returns the socket that would receive a loopback packet from remote to local: one end of a connection, or a
// listener. The error is ErrNobody if there is none; otherwise it says why the kernel cannot be asked.
func ask(local, remote end) (socket, error) {
	s, err := query(local, remote)
	switch {
	case err == nil:
		answers.Store(true)
	case errors.Is(err, syscall.ENOENT) && answers.Load():
		err = ErrNobody
	}
	return s, err
}

// query sends one request, and reads the answer, which is available as soon as the request is sent.
func query(local, remote end) (socket, error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, syscall.NETLINK_INET_DIAG)
	if err != nil {
		return socket{}, os.NewSyscallError("socket", err)
	}
	defer func() { _ = syscall.Close(fd) }()
	kernel := &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}
	if err := syscall.Sendto(fd, request(local, remote), 0, kernel); err != nil {
		return socket{}, os.NewSyscallError("sendto", err)
	}
	answer := make([]byte, 4<<10)
	n, from, err := syscall.Recvfrom(fd, answer, syscall.MSG_DONTWAIT)
	if err != nil {
		return socket{}, os.NewSyscallError("recvfrom", err)
	}
	if sender, ok := from.(*syscall.SockaddrNetlink); !ok || sender.Pid != 0 {
		return socket{}, errors.New("sock_diag: the answer is not from the kernel")
	}
	return parse(answer[:n])
}

// request encodes the request for one socket.
func request(local, remote end) []byte {
	b := make([]byte, requestSize)
	binary.NativeEndian.PutUint32(b[0:], requestSize)
	binary.NativeEndian.PutUint16(b[4:], byFamily)
	binary.NativeEndian.PutUint16(b[6:], syscall.NLM_F_REQUEST)
	q := b[syscall.NLMSG_HDRLEN:]
	q[0], q[1] = syscall.AF_INET6, syscall.IPPROTO_TCP
	from := 0
	if local.is4() {
		q[0], from = syscall.AF_INET, 12
	}
	binary.NativeEndian.PutUint32(q[4:], ^uint32(0)) // any state
	binary.BigEndian.PutUint16(q[8:], local.port)
	binary.BigEndian.PutUint16(q[10:], remote.port)
	copy(q[12:28], local.ip[from:])
	copy(q[28:44], remote.ip[from:])
	binary.NativeEndian.PutUint32(q[44:], lo)
	binary.NativeEndian.PutUint64(q[48:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

// parse decodes the answer.
func parse(b []byte) (socket, error) {
	if len(b) < syscall.NLMSG_HDRLEN+4 {
		return socket{}, errors.New("sock_diag: the answer is too short")
	}
	if kind := binary.NativeEndian.Uint16(b[4:]); kind == syscall.NLMSG_ERROR {
		code := int32(binary.NativeEndian.Uint32(b[syscall.NLMSG_HDRLEN:]))
		return socket{}, os.NewSyscallError("sock_diag", syscall.Errno(-code))
	} else if kind != byFamily || len(b) < answerSize {
		return socket{}, errors.New("sock_diag: unknown answer")
	}
	m := b[syscall.NLMSG_HDRLEN:]
	address := func(port, ip []byte) end {
		if m[0] == syscall.AF_INET {
			return end4([4]byte(ip), int(binary.BigEndian.Uint16(port)))
		}
		return end{[16]byte(ip), binary.BigEndian.Uint16(port)}
	}
	return socket{
		state: int(m[1]), local: address(m[4:6], m[8:24]), remote: address(m[6:8], m[24:40]),
		uid: int(binary.NativeEndian.Uint32(m[64:])), inode: int(binary.NativeEndian.Uint32(m[68:])),
	}, nil
}
