package environ

import (
	"syscall"

	"broker/internal/peer"
)

// listener returns the uid of the process that listens on an abstract socket, unix(7).
func listener(name string) (uid int, known bool) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, false
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: name}); err != nil {
		return 0, false
	}
	who, err := peer.UnixFD(fd)
	if err != nil {
		return 0, false
	}
	return who.UID, true
}
