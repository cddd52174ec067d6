package brokerd

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime returns a clock that also runs while the machine sleeps.
func bootTime() func() time.Duration {
	return func() time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
			panic(err) // exists since Linux 2.6.39
		}
		return time.Duration(ts.Nano())
	}
}

func dup2(from, to int) error { return unix.Dup3(from, to, 0) }
