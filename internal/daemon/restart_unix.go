//go:build unix

package daemon

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// gone reports whether the peer has closed the connection: it asked while this daemon was stopped, and gave up.
func gone(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	n, rerr := 0, error(nil)
	err = raw.Control(func(fd uintptr) {
		n, _, rerr = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return err != nil || n > 0 || !errors.Is(rerr, syscall.EAGAIN)
}

// writeFiles writes a line, and sends open files with its first byte.
func writeFiles(conn *net.UnixConn, line []byte, files []*os.File) error {
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	n, _, err := conn.WriteMsgUnix(line, syscall.UnixRights(fds...), nil)
	if err == nil && n < len(line) {
		_, err = conn.Write(line[n:])
	}
	return err
}
