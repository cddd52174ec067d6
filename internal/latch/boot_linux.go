package latch

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot tells which boot this is, and how long after it, sleep included.
func sinceBoot() (boot string, since time.Duration) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	var ts unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return sinceStart()
	}
	return strings.TrimSpace(string(id)), time.Duration(ts.Nano())
}
