package brokerd

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime returns a clock that also runs while the machine sleeps; on macOS that is CLOCK_MONOTONIC.
func bootTime() func() time.Duration {
	return func() time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			panic(err) // exists since macOS 10.12
		}
		return time.Duration(ts.Nano())
	}
}

func dup2(from, to int) error { return unix.Dup2(from, to) }
