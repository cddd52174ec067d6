// Package dial connects a client to the daemon, and checks that the listener has our own uid. It refuses other
// users. Except on Windows, it uses neither package net nor the runtime's poller, which would take a third of
// credproc's run time.
package dial

import (
	"errors"
	"syscall"
)

// Errors that callers distinguish.
var (
	ErrNobody = errors.New("no daemon listens on this socket")
	// ErrNoSockets occurs only on Windows.
	ErrNoSockets = errors.New("this Windows has no unix sockets: Windows 10 version 1803 or later is needed")
)

// wsaNoSupport is WSAEAFNOSUPPORT. It occurs only on Windows.
const wsaNoSupport = syscall.Errno(10047)

// WhyNot replaces an error of creating a socket by one that people understand, if there is one.
func WhyNot(err error) error {
	if errors.Is(err, wsaNoSupport) {
		return ErrNoSockets
	}
	return err
}

// MaxFiles is the most open files that may come with one line; see ReadFiles.
const MaxFiles = 64
