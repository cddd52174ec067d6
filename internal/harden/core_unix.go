//go:build linux || darwin

package harden

import (
	"fmt"
	"syscall"
)

// core is the limit for core files before noCore.
var core syscall.Rlimit

// noCore leaves no core file. The hard limit stays, so that Release can give it back to a child.
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

// Release gives back what a program that replaces this one would inherit: its
// limit for core files. Being dumpable comes back with exec by itself.
func Release() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &core) }
