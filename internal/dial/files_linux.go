package dial

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// ReadFiles is like Read, for a line that carries open files (SCM_RIGHTS, see unix(7)). The files are closed on
// exec. The caller must close them.
func (c *Conn) ReadFiles(b []byte) (n int, files []*os.File, err error) {
	oob := make([]byte, syscall.CmsgSpace(MaxFiles*4))
	var oobn int
	err = c.call(syscall.SO_RCVTIMEO, func() error {
		n, oobn, _, _, err = syscall.Recvmsg(c.fd, b, oob, syscall.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, nil, err
	}
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			continue // another kind of message
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return n, files, nil
}

// InDir names a file in an open directory, so that a swapped parent directory or a long path does not matter.
func InDir(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}

// partialView reports whether this process is in a user namespace that does not know all users. The map of the first
// namespace is one line: "0 0 4294967295".
func partialView() bool {
	known, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(known)), " ") != "0 0 4294967295"
}
