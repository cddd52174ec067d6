//go:build !linux

package daemon

import (
	"context"
	"errors"
	"syscall"
)

func isRunning(pid int, _ string) bool {
	return pid > 0 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// processEnds cannot wait here; the daemon looks each second.
func processEnds(context.Context, int) error { return errors.ErrUnsupported }
