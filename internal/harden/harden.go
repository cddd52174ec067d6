// Package harden owns what every binary of ours does to itself before it
// touches a secret. It refuses to run with borrowed privileges.
package harden

import (
	"errors"
	"fmt"
	"os"
	"strconv"
)

// ErrPrivileges is returned where the process runs for somebody else than the user who started it.
var ErrPrivileges = errors.New("runs with the rights of another user")

// Process makes the process not dumpable: no core file, no ptrace and no
// /proc/PID/mem by other processes of the same user (Linux: PR_SET_DUMPABLE,
// prctl(2)). On macOS it leaves no core file; on Windows there is nothing to be had. It refuses setuid and sudo, where files and sessions of one user would be served to another.
func Process() error {
	if err := refuse(); err != nil {
		return err
	}
	return process()
}

func refuse() error {
	if os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		return fmt.Errorf("setuid: %w", ErrPrivileges)
	}
	if sudo, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil && sudo != os.Getuid() {
		return fmt.Errorf("sudo: %w", ErrPrivileges)
	}
	return nil
}
