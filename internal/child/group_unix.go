//go:build unix

package child

import (
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
)

// seal keeps our children from inheriting descriptors that our own parent left open by mistake, such as a pipe.
// They never inherit what Go opens, so doing it once is enough.
var seal = sync.OnceFunc(func() {
	dir, err := os.Open("/dev/fd")
	if err != nil {
		return
	}
	defer func() { _ = dir.Close() }()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if fd, err := strconv.Atoi(name); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
})

// fence identifies a program and its processes: on Unix, the ID of the process group.
type fence struct{} //nolint:unused // see group

func (g *group) enclose() error { return nil }

func (g *group) send(s syscall.Signal) { _ = syscall.Kill(-g.cmd.Process.Pid, s) }

// socket gives a command one socket as stdin and stdout. In the first moments of the command, other processes of
// the same user could open a pipe by its name in /proc/PID/fd, and later read what is sent through it. A socket
// cannot be opened that way (ENXIO).
func socket(cmd *exec.Cmd) (in, out *os.File, theirs []*os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, nil, os.NewSyscallError("socketpair", err)
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil { // so that Close ends a Read
		_, _ = syscall.Close(fds[0]), syscall.Close(fds[1])
		return nil, nil, nil, os.NewSyscallError("fcntl", err)
	}
	ours, end := os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket")
	cmd.Stdin, cmd.Stdout = end, end
	return ours, ours, []*os.File{end}, nil
}
