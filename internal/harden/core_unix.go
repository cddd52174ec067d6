//go:build linux || darwin

package harden

import (
	"fmt"
	"syscall"
)

// core is the limit for core files before noCore changed it.
var core syscall.Rlimit

// noCore disables core files. It keeps the hard limit, so that Release can restore the limit for a child.
func noCore() error {
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

// Release restores the limit for core files, which a program that replaces this one inherits. The kernel makes the
// process dumpable again by itself at exec.
func Release() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &core) }
