package peer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"syscall"
	"unsafe"
)

// Options of unix(4) and sys/un.h that package syscall lacks.
const (
	solLocal      = 0 // SOL_LOCAL
	localPeerCred = 1 // LOCAL_PEERCRED
	localPeerEPID = 3 // LOCAL_PEEREPID

	xucredVersion = 0 // XUCRED_VERSION
)

// xucred is struct xucred of sys/ucred.h.
type xucred struct {
	Version uint32
	UID     uint32
	NGroups int16
	Groups  [16]uint32
}

// UnixFD is like Unix, for a descriptor.
func UnixFD(fd int) (Peer, error) {
	var cred xucred
	if err := option(fd, localPeerCred, unsafe.Pointer(&cred), unsafe.Sizeof(cred)); err != nil {
		return Peer{}, fmt.Errorf("find the process at the other end of the socket: %w", err)
	}
	if cred.Version != xucredVersion || cred.NGroups < 1 {
		return Peer{}, fmt.Errorf("find the process at the other end of the socket: the answer has version %d, want %d",
			cred.Version, xucredVersion)
	}
	var pid int32
	if err := option(fd, localPeerEPID, unsafe.Pointer(&pid), unsafe.Sizeof(pid)); err != nil {
		return Peer{}, fmt.Errorf("find the process at the other end of the socket: %w", err)
	}
	return Peer{int(cred.UID), Process{PID: int(pid)}}, nil
}

func option(fd, name int, value unsafe.Pointer, size uintptr) error {
	length := uint32(size)
	if _, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), solLocal, uintptr(name),
		uintptr(value), uintptr(unsafe.Pointer(&length)), 0); errno != 0 {
		return errno
	}
	return nil
}

// The used parts of struct kinfo_proc in sys/sysctl.h: its size, and the offsets of the fields.
const (
	infoSize = 648
	atStart  = 0 // seconds in 8 bytes, microseconds in 4
	atState  = 36
	atPID    = 40
	atName   = 243
	nameSize = 17
	atParent = 560

	zombie = 5 // SZOMB of sys/proc.h
)

// look reads kern.proc.pid with sysctl(3).
func look(pid int) (facts, error) {
	query := [4]int32{1, 14, 1, int32(pid)} // CTL_KERN, KERN_PROC, KERN_PROC_PID
	var info [infoSize]byte
	size := uintptr(infoSize)
	_, _, errno := syscall.Syscall6(syscall.SYS___SYSCTL, uintptr(unsafe.Pointer(&query)), uintptr(len(query)),
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0, 0)
	number := func(at int) int { return int(int32(binary.LittleEndian.Uint32(info[at:]))) }
	if errno != 0 || size != infoSize || number(atPID) != pid {
		return facts{}, fmt.Errorf("process %d does not exist", pid)
	}
	name, _, _ := bytes.Cut(info[atName:atName+nameSize], []byte{0})
	return facts{
		name: string(name), parent: number(atParent), ended: info[atState] == zombie,
		start: fmt.Sprintf("%d.%06d", int64(binary.LittleEndian.Uint64(info[atStart:])), number(atStart+8)),
	}, nil
}
