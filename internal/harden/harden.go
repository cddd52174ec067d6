// Package harden holds what every binary of Broker does to itself before it touches a secret. It refuses to run
// with another user's privileges.
package harden

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// ErrPrivileges means that the process has the privileges of another user than the one who started it.
var ErrPrivileges = errors.New("running with another user's privileges")

// Line is the line that a vault process writes to stderr once it is hardened, to ask for its request.
const Line = "hardened"

var (
	// ErrTraced means that another process traces the process that was checked.
	ErrTraced = errors.New("a debugger or tracer is attached")
	// ErrOpen means that other processes of the same user can read the memory of the process that was checked.
	ErrOpen = errors.New("other programs can read its memory")
)

// Process makes the process not dumpable: no core file, and no ptrace or /proc/PID/mem by other processes of the
// same user (Linux: PR_SET_DUMPABLE, prctl(2)). Package nodump has already tried that at start; Process reports a
// failure. On macOS it disables core files; on Windows it does nothing. Process refuses setuid and sudo, because
// there the files and sessions of one user would be served to another.
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
		return fmt.Errorf("sudo: %w; run it as %s, without sudo", ErrPrivileges, cmp.Or(os.Getenv("SUDO_USER"), "yourself"))
	}
	return nil
}

// Untraced returns ErrTraced if a tracer is attached to this process (Linux). After Process, no tracer can attach
// any more.
func Untraced() error { return untraced("self") }

// Verify checks another process of the same user from outside, so that the process cannot forge the result. It
// returns ErrTraced if a tracer is attached, and ErrOpen if the process is not hardened as this one is (Linux).
// Verify returns nil if it cannot tell: for root, who may read all memory, the owner of files in /proc says
// nothing, and /proc may be missing or hide processes.
func Verify(pid int) error { return verify(pid) }
