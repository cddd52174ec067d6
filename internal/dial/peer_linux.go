package dial

import (
	"fmt"
	"os"
	"syscall"
)

// PeerOf asks the kernel who is at the other end of a socket: SO_PEERCRED of
// unix(7), the credentials at the time of connect(2) or listen(2).
func PeerOf(fd int) (Peer, error) {
	cred, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil {
		return Peer{}, fmt.Errorf("ask who is at the other end: %w", err)
	}
	return Peer{UID: int(cred.Uid), PID: int(cred.Pid)}, nil
}

// InDir names a file in an open directory, so that neither a swapped parent
// nor a long path matters.
func InDir(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}
