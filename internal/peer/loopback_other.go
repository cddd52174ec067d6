//go:build !linux && !windows

package peer

import "errors"

type descriptor = int

func connectionUID(_, _ end) (int, error) { return 0, errors.ErrUnsupported }

func listenerUID(end) (int, error) { return 0, errors.ErrUnsupported }
