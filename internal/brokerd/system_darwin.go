package brokerd

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime reads the clock that goes on while the machine sleeps, which CLOCK_MONOTONIC is here.
func bootTime() func() time.Duration {
	return func() time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			panic(err) // macOS has had it since 10.12
		}
		return time.Duration(ts.Nano())
	}
}

func dup2(from, to int) error { return unix.Dup2(from, to) }
