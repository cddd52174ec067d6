//go:build !linux

package loopback

import (
	"errors"
	"net"
)

func ownerOf(_, _ net.Addr) (int, error) { return 0, errors.ErrUnsupported }
