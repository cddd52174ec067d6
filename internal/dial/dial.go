// Package dial owns a client's way to the daemon: a connection, and the proof that who listens there is of our own
// uid. It refuses strangers. But for Windows it does without net and the poller of
// the runtime, which would be a third of credproc's life.
package dial

import (
	"errors"
	"syscall"
)

// The ways to fail that callers tell apart.
var (
	ErrNobody = errors.New("no daemon listens on this socket")
	// ErrNoSockets comes on Windows alone.
	ErrNoSockets = errors.New("this Windows has no unix sockets: Windows 10 version 1803 or later is needed")
)

// wsaNoSupport is WSAEAFNOSUPPORT, which no other system has.
const wsaNoSupport = syscall.Errno(10047)

// WhyNot is an error of making a socket, in words that can be understood.
func WhyNot(err error) error {
	if errors.Is(err, wsaNoSupport) {
		return ErrNoSockets
	}
	return err
}

// MaxFiles is how many open files may come with one line; see ReadFiles.
const MaxFiles = 64
