package console

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// ours reports whether the far end of a connection on loopback belongs to this user, or to root, who
// may do everything anyway (and whose process forwards the ports of some virtual machines). Linux tells it in
// the table of its sockets; one that is not there is nobody's.
// https://docs.kernel.org/networking/proc_net_tcp.html
func ours(remote, local string) bool {
	far, near := tableAddress(remote), tableAddress(local)
	f, err := os.Open("/proc/net/tcp")
	if err != nil || far == "" || near == "" {
		return false
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid …
		column := strings.Fields(lines.Text())
		if len(column) > 7 && column[1] == far && column[2] == near {
			return column[7] == strconv.Itoa(os.Getuid()) || column[7] == "0"
		}
	}
	return false
}

// tableAddress writes an address as the table does: the four bytes as a number of this machine, and the port.
func tableAddress(s string) string {
	a, err := netip.ParseAddrPort(s)
	if err != nil || !a.Addr().Is4() {
		return ""
	}
	ip := a.Addr().As4()
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), a.Port())
}
