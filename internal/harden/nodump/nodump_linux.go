package nodump

import "syscall"

// prSetDumpable is PR_SET_DUMPABLE of prctl(2).
const prSetDumpable = 4

// Set makes the process not dumpable. An error is an errno of prctl(2).
func Set() error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// A failure here is not lost: harden.Process calls Set again and reports it.
func init() { _ = Set() }
