//go:build !linux && !windows

package peer

import "errors"

// TellsLoopback reports whether the system tells whose a connection over loopback is.
const TellsLoopback = false

type descriptor = int

func connectionUID(_, _ end) (int, error) { return 0, errors.ErrUnsupported }

func listenerUID(end) (int, error) { return 0, errors.ErrUnsupported }
