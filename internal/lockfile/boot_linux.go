package lockfile

import (
	"broker/internal/system"
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot returns the boot id, and the time since boot, including sleep.
func sinceBoot() (boot string, since time.Duration) {
	boot = system.BootID()
	var ts unix.Timespec
	if boot == "" || unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return sinceStart()
	}
	return boot, time.Duration(ts.Nano())
}
