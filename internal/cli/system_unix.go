//go:build unix

package cli

import (
	"os"
	"syscall"
)

// replace replaces this process with a program, which keeps the pid. It returns only if that failed.
func replace(program string, command, env []string) error { return syscall.Exec(program, command, env) }

// endList ends fzf, which restores the terminal on SIGTERM.
func endList() { _ = syscall.Kill(os.Getpid(), syscall.SIGTERM) }

const defaultShell = "/bin/sh"
