package harden

import (
	"fmt"
	"syscall"
)

// process leaves no core file. PT_DENY_ATTACH would stay with the command that takes our place.
func process() error {
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

// Release gives back the limit for core files.
func Release() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &core) }
