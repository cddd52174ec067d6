//go:build !linux && !windows

package loopback

import (
	"errors"
	"net"
	"net/netip"
)

// Tells reports whether the system tells whose a connection is.
const Tells = false

func ownerOf(_, _ netip.AddrPort) (int, error) { return 0, errors.ErrUnsupported }

func listenerUID(netip.AddrPort) (int, error) { return 0, errors.ErrUnsupported }

func open(*net.TCPConn) bool { return true }
