//go:build unix && !linux && !darwin

package brokerd

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime returns nil: on this system the monotonic clock has to do.
func bootTime() func() time.Duration { return nil }

func dup2(from, to int) error { return unix.Dup2(from, to) }
