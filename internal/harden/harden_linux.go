package harden

import (
	"fmt"
	"syscall"
)

// prSetDumpable is PR_SET_DUMPABLE of prctl(2).
const prSetDumpable = 4

func process() error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0); errno != 0 {
		return fmt.Errorf("prctl: %w", errno)
	}
	// The hard limit stays, so that Release can give it back to a child.
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	core = limit
	limit.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
		return fmt.Errorf("setrlimit: %w", err)
	}
	return nil
}

var core syscall.Rlimit

// Release gives back what a program that replaces this one would inherit: its
// limit for core files. Being dumpable comes back with exec by itself.
func Release() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &core) }
