package daemon

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// processOf returns the name of a process and the path of the program that
// started it, as proc(5) has them now: evidence, not proof. credproc is not
// dumpable, so its own path cannot be read; the interesting one is the tool behind it.
func processOf(pid int) (name, parent string) {
	// Each request that is answered comes by here, and os.ReadFile makes six
	// system calls of this.
	fd, err := syscall.Open("/proc/"+strconv.Itoa(pid)+"/stat", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", ""
	}
	var buf [512]byte
	n, err := syscall.Read(fd, buf[:])
	_ = syscall.Close(fd)
	if err != nil {
		return "", ""
	}
	stat := buf[:n]
	// "pid (name) state ppid …", where name may hold anything.
	from, to := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if from < 0 || to < from {
		return "", ""
	}
	name = string(stat[from+1 : to])
	fields := bytes.SplitN(stat[to+1:], []byte(" "), 4)
	if len(fields) < 4 {
		return name, ""
	}
	parent, _ = os.Readlink("/proc/" + string(fields[2]) + "/exe")
	return name, parent
}
