package vault

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// closeInherited closes what the parent left open by mistake, above the three standard descriptors: a
// vault that waits on a prompt must not keep somebody's pipe open. What survived exec has no close-on-exec
// mark, and all that Go has opened since does have one.
func closeInherited() {
	dir, err := os.Open("/dev/fd")
	if err != nil {
		return
	}
	names, _ := dir.Readdirnames(-1)
	_ = dir.Close()
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd <= 2 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}
