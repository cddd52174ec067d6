package daemon

import (
	"bytes"
	"context"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// beganAt returns when a process began, in the kernel's clock ticks: with the pid it names one process, and no
// later one of that number. It stays the same over exec. proc(5), stat, fields 3 and 22.
func beganAt(pid int) (string, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil || pid <= 0 {
		return "", errNoProcess
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 || fields[0][0] == 'Z' || fields[0][0] == 'X' {
		return "", errNoProcess
	}
	return string(fields[19]), nil
}

// isRunning reports whether the process of that number still is the one that began then.
func isRunning(pid int, start string) bool {
	now, err := beganAt(pid)
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
