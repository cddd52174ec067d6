package child

import (
	"syscall"
	"unsafe"
)

const (
	pPID    = 1          // P_PID of waitid(2)
	wNoWait = 0x01000000 // WNOWAIT: do not reap it
)

// await returns when the program has ended, and does not reap it: until reap, its process ID and that of its group
// are not reused.
func (g *group) await() {
	var info [128]byte // siginfo_t
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(g.cmd.Process.Pid),
			uintptr(unsafe.Pointer(&info)), syscall.WEXITED|wNoWait, 0, 0)
		if errno != syscall.EINTR {
			return
		}
	}
}

// reap collects the exit status. It ignores the error, which says less than the status: how the program ended, and
// that a process held a pipe.
func (g *group) reap() { _ = g.cmd.Wait() }
