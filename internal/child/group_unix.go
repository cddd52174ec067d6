//go:build unix

package child

import (
	"os"
	"strconv"
	"sync"
	"syscall"
)

// seal keeps from our children what our own parent left open in us by mistake, such as somebody's pipe. They never get
// what Go opens, so once is enough.
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

// fence is what keeps a program and its own together: here the number of its process group.
type fence struct{} //nolint:unused // see group

func (g *group) enclose() error { return nil }

func (g *group) send(s syscall.Signal) { _ = syscall.Kill(-g.cmd.Process.Pid, s) }
