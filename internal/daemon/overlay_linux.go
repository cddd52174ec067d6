package daemon

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// isRunning reports whether the process of that number still is the one that began then.
func isRunning(pid int, start string) bool {
	now, err := startOf(pid)
	return err == nil && now == start
}

// processEnds returns when a process has ended; an error says that it cannot tell.
func processEnds(ctx context.Context, pid int) error {
	// Without blocking the descriptor is watched by the runtime's poller: no thread waits. Linux 5.10.
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer func() { _ = f.Close() }()
	defer context.AfterFunc(ctx, func() { _ = f.Close() })()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, _ := unix.Poll(poll, 0)
		return n > 0
	})
}
