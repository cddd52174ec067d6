package system

import (
	"strings"
	"sync"
	"syscall"
)

// BootID identifies this boot of the machine: boot_id of random(4). It is empty if the system does not tell.
var BootID = sync.OnceValue(func() string {
	b, err := ReadProc("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})

// ReadProc reads the first 1024 bytes of a file of proc(5). It takes half of the system calls of os.ReadFile and
// no poller: each run of credproc and each request reads such files.
func ReadProc(path string) ([]byte, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = syscall.Close(fd) }()
	b := make([]byte, 1024)
	n, err := syscall.Read(fd, b)
	return b[:max(n, 0)], err
}
