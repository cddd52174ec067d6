//go:build unix

package testproc

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// leaveTerminal gives up the controlling terminal, for this process and all that it starts. The process stays in its
// session and its process group, so Ctrl-C still ends the tests. SIGHUP and SIGINT, which nohup and a shell's & have
// ignored, get their usual effect on what is started from here.
func leaveTerminal() error {
	sid, _ := unix.Getsid(0)
	leads := sid == os.Getpid()
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		// A signal that is caught here is neither ignored nor caught in a process that is started.
		caught := make(chan os.Signal, 1)
		ignored := signal.Ignored(sig)
		signal.Notify(caught, sig)                         // for a moment also where it was not ignored: see below
		if !ignored && !(leads && sig == syscall.SIGHUP) { // that one comes from below, and may come late
			defer signal.Stop(caught)
		}
	}
	tty, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // there is none
	}
	defer func() { _ = unix.Close(tty) }()
	// The leader of a session gets SIGHUP from this.
	if err := unix.IoctlSetInt(tty, unix.TIOCNOTTY, 0); err != nil {
		return err
	}
	if again, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err == nil {
		_ = unix.Close(again)
		return errors.New("/dev/tty can still be opened")
	}
	return nil
}
