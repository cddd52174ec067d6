//go:build !linux

package daemon

import (
	"context"
	"errors"
)

// isRunning reports whether the process of that number still is the one that began then.
func isRunning(pid int, start string) bool {
	now, err := startOf(pid)
	return err == nil && now == start
}

// processEnds cannot wait here; the daemon looks each second.
func processEnds(context.Context, int) error { return errors.ErrUnsupported }
