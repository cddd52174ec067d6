package peer

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"unsafe"

	"broker/internal/system"
)

type descriptor = syscall.Handle

var getExtendedTCPTable = syscall.NewLazyDLL(system.DLL("iphlpapi.dll")).NewProc("GetExtendedTcpTable")

const (
	connections = 4 // TCP_TABLE_OWNER_PID_CONNECTIONS
	established = 5 // MIB_TCP_STATE_ESTAB
	maxTable    = 64 << 20
)

// row is MIB_TCPROW_OWNER_PID of tcpmib.h. Addresses and the low halves of ports are in network byte order.
type row struct {
	State      uint32
	Local      [4]byte
	LocalPort  [4]byte
	Remote     [4]byte
	RemotePort [4]byte
	PID        uint32
}

// connectionUID returns our own uid or an error. IPv6 sockets (such as Java's) are in another list, so the error
// for them is ErrNobody.
func connectionUID(here, there end) (int, error) {
	rows, err := table()
	if err != nil {
		return 0, err
	}
	for _, r := range rows {
		if r.State != established || endOf(r.Local, r.LocalPort) != here || endOf(r.Remote, r.RemotePort) != there {
			continue
		}
		if ours, err := isOurs(int(r.PID)); err != nil || !ours {
			return 0, ErrNobody
		}
		return os.Getuid(), nil
	}
	return 0, ErrNobody
}

func endOf(ip, port [4]byte) end { return end4(ip, int(binary.BigEndian.Uint16(port[:2]))) }

func listenerUID(end) (int, error) { return 0, errors.ErrUnsupported }

// table returns the list of all IPv4 TCP connections.
func table() ([]row, error) {
	for size := uint32(64 << 10); size <= maxTable; {
		buf := make([]byte, size)
		code, _, _ := getExtendedTCPTable.Call(uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0,
			syscall.AF_INET, connections, 0)
		switch syscall.Errno(code) {
		case 0:
			n := binary.NativeEndian.Uint32(buf)
			if uint64(len(buf)) < 4+uint64(n)*uint64(unsafe.Sizeof(row{})) {
				return nil, ErrNobody
			}
			return unsafe.Slice((*row)(unsafe.Pointer(&buf[4])), n), nil
		case syscall.ERROR_INSUFFICIENT_BUFFER:
			size += 16 << 10 // the list may grow meanwhile
		default:
			return nil, os.NewSyscallError("GetExtendedTcpTable", syscall.Errno(code))
		}
	}
	return nil, ErrNobody
}
