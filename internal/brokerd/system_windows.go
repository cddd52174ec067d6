package brokerd

import (
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// bootTime returns a clock that also runs while the machine sleeps.
func bootTime() func() time.Duration { return windows.DurationSinceBoot }

// dup2 closes one of the three standard files, which is all that detach needs.
func dup2(_, to int) error { return []*os.File{os.Stdin, os.Stdout, os.Stderr}[to].Close() }
