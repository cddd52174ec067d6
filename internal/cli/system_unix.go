//go:build unix

package cli

import (
	"os"
	"syscall"
)

// replace puts a program into the place of this one, as its pid. It returns only where that failed.
func replace(program string, command, env []string) error { return syscall.Exec(program, command, env) }

// endList ends fzf, which gives the terminal back on SIGTERM.
func endList() { _ = syscall.Kill(os.Getpid(), syscall.SIGTERM) }

const defaultShell = "/bin/sh"
