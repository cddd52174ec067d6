package loopback

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"

	"broker/internal/system"
)

// Tells reports whether the system tells whose a connection is.
const Tells = true

var getExtendedTCPTable = windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")

const (
	afInet      = 2 // AF_INET
	connections = 4 // TCP_TABLE_OWNER_PID_CONNECTIONS
	established = 5 // MIB_TCP_STATE_ESTAB
	maxTable    = 64 << 20
)

// row is MIB_TCPROW_OWNER_PID of tcpmib.h. Addresses and the low halves of ports are in network order.
type row struct {
	State      uint32
	Local      [4]byte
	LocalPort  [4]byte
	Remote     [4]byte
	RemotePort [4]byte
	PID        uint32
}

// ownerOf is our own uid or an error. A socket of IPv6, as Java has them, is in another list, and nobody's.
func ownerOf(remote, local netip.AddrPort) (int, error) {
	rows, err := table()
	if err != nil {
		return 0, err
	}
	for _, r := range rows {
		// The far end's own entry has its address first.
		if r.State != established || end(r.Local, r.LocalPort) != remote || end(r.Remote, r.RemotePort) != local {
			continue
		}
		if ours, err := system.RunsForUs(int(r.PID)); err != nil || !ours {
			return 0, ErrNobody
		}
		return os.Getuid(), nil
	}
	return 0, ErrNobody
}

func end(ip, port [4]byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(ip), binary.BigEndian.Uint16(port[:2]))
}

func listenerUID(netip.AddrPort) (int, error) { return 0, errors.ErrUnsupported }

func open(*net.TCPConn) bool { return true }

// table is the list of all TCP connections over IPv4.
func table() ([]row, error) {
	for size := uint32(64 << 10); size <= maxTable; {
		buf := make([]byte, size)
		code, _, _ := getExtendedTCPTable.Call(uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0, afInet, connections, 0)
		switch windows.Errno(code) {
		case 0:
			n := binary.NativeEndian.Uint32(buf)
			if uint64(len(buf)) < 4+uint64(n)*uint64(unsafe.Sizeof(row{})) {
				return nil, ErrNobody
			}
			return unsafe.Slice((*row)(unsafe.Pointer(&buf[4])), n), nil
		case windows.ERROR_INSUFFICIENT_BUFFER:
			size += 16 << 10 // more may come meanwhile
		default:
			return nil, os.NewSyscallError("GetExtendedTcpTable", windows.Errno(code))
		}
	}
	return nil, ErrNobody
}
