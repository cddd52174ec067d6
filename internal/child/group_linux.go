package child

import (
	"syscall"
	"unsafe"
)

const (
	pPID    = 1          // P_PID of waitid(2)
	wNoWait = 0x01000000 // WNOWAIT: look, but leave it to be reaped
)

// await returns when the program has ended, and leaves it unreaped: until reap, its
// number and that of its group are nobody else's.
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

// reap takes the exit status. Its errors say less than the status: how it ended, and that somebody held a pipe.
func (g *group) reap() { _ = g.cmd.Wait() }
