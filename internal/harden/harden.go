// Package harden owns what every binary of ours does to itself before it
// touches a secret. It refuses to run with borrowed privileges.
package harden

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// ErrPrivileges is returned where the process runs for somebody else than the user who started it.
var ErrPrivileges = errors.New("runs with the rights of another user")

// Line is the line on stderr with which a vault process says that it is hardened, and asks for its request.
const Line = "hardened"

var (
	// ErrTraced is returned where another process traces the one that was looked at.
	ErrTraced = errors.New("a debugger or tracer is attached")
	// ErrOpen is returned where other processes of the same user can read the memory of the one that was looked at.
	ErrOpen = errors.New("other programs can read its memory")
)

// Process makes the process not dumpable: no core file, no ptrace and no /proc/PID/mem by other processes of the same
// user (Linux: PR_SET_DUMPABLE, prctl(2)). Package nodump did so before, as the first thing of all; Process reports a
// failure. On macOS the process leaves no core file; on Windows nothing is done. Process refuses setuid and sudo, where
// files and sessions of one user would be served to another.
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
		return fmt.Errorf("sudo: it %w; run it as %s, without sudo", ErrPrivileges, cmp.Or(os.Getenv("SUDO_USER"), "yourself"))
	}
	return nil
}

// Untraced returns ErrTraced if a tracer is attached to this process (Linux). After Process none can attach any more.
func Untraced() error { return untraced("self") }

// Verify looks at another process of the same user from outside, which that process cannot forge: ErrTraced if a tracer
// is attached, ErrOpen if it is not hardened as this one is (Linux). Root may read all memory, so for root the owner of
// files in /proc tells nothing; nor does a /proc that is missing or hides processes. Verify returns nil then.
func Verify(pid int) error { return verify(pid) }
