//go:build unix

package vault

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownGroup makes a command end with all that it started: a group of its own, which the terminal's Ctrl-C does not
// reach.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return endGroup(cmd) }
}

// endGroup kills what is left of the group.
func endGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// connect gives a command one socket as stdin and stdout. A pipe would not do: other processes of the same user can
// open a pipe by its name in /proc/PID/fd in the first moments of the command, and read later what is sent through
// it. A socket cannot be opened that way (ENXIO).
func connect(cmd *exec.Cmd) (ends, error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return ends{}, fmt.Errorf("socketpair: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // so that a Close ends a Read
		_, _ = unix.Close(fds[0]), unix.Close(fds[1])
		return ends{}, fmt.Errorf("fcntl: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "vault"), os.NewFile(uintptr(fds[1]), "vault")
	cmd.Stdin, cmd.Stdout = theirs, theirs
	return ends{read: ours, write: ours, theirs: []*os.File{theirs}}, nil
}
