package console

import (
	"errors"
	"net"
	"net/netip"
	"os"

	"broker/internal/loopback"
)

// ours reports whether the far end of a connection on loopback belongs to this user, or to root, who
// may do everything anyway (and whose process forwards the ports of some virtual machines). Where the system does
// not tell, the path that nobody can guess has to do.
func ours(remote, local string) bool {
	far, err := netip.ParseAddrPort(remote)
	near, err2 := netip.ParseAddrPort(local)
	if err != nil || err2 != nil {
		return false
	}
	uid, err := loopback.OwnerOf(net.TCPAddrFromAddrPort(far), net.TCPAddrFromAddrPort(near))
	return err == nil && (uid == os.Getuid() || uid == 0) || errors.Is(err, errors.ErrUnsupported)
}
