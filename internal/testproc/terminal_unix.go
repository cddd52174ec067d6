//go:build unix

package testproc

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// leaveTerminal gives up the controlling terminal, for this process and for all processes that it starts. The
// process stays in its session and its process group, so Ctrl-C still ends the tests. It restores the default
// action of SIGHUP and SIGINT for child processes: nohup and a shell's & make them ignored.
func leaveTerminal() error {
	sid, _ := unix.Getsid(0)
	leads := sid == os.Getpid()
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		// A signal that this process catches has its default action in a child process.
		caught := make(chan os.Signal, 1)
		ignored := signal.Ignored(sig)
		signal.Notify(caught, sig)                         // for a moment, even if it was not ignored: see below
		if !ignored && !(leads && sig == syscall.SIGHUP) { // TIOCNOTTY below sends this signal, maybe late
			defer signal.Stop(caught)
		}
	}
	tty, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // no controlling terminal
	}
	defer func() { _ = unix.Close(tty) }()
	// A session leader gets SIGHUP from this call.
	if err := unix.IoctlSetInt(tty, unix.TIOCNOTTY, 0); err != nil {
		return err
	}
	if again, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err == nil {
		_ = unix.Close(again)
		return errors.New("/dev/tty can still be opened")
	}
	return nil
}
