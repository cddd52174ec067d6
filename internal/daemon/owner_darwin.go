package daemon

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// zombie is SZOMB of sys/proc.h: ended, and not yet waited for.
const zombie = 5

// startOf identifies a process beyond its pid, which comes again: the moment at which it
// started, as sysctl(3) has it. The error says that there is none.
func startOf(pid int) (string, error) {
	process, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return "", fmt.Errorf("process %d is not there", pid)
	}
	if int(process.Proc.P_pid) != pid || process.Proc.P_stat == zombie {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	began := process.Proc.P_starttime
	return fmt.Sprintf("%d.%06d", began.Sec, began.Usec), nil
}
