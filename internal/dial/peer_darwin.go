package dial

import (
	"fmt"
	"os"
	"path/filepath"
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

// PeerOf asks the kernel who is at the other end of a socket: the effective uid when it was connected or
// began to listen, and the process.
func PeerOf(fd int) (Peer, error) {
	var cred xucred
	if err := option(fd, localPeerCred, unsafe.Pointer(&cred), unsafe.Sizeof(cred)); err != nil {
		return Peer{}, fmt.Errorf("ask who is at the other end: %w", err)
	}
	if cred.Version != xucredVersion || cred.NGroups < 1 {
		return Peer{}, fmt.Errorf("ask who is at the other end: the system's answer has version %d, want %d", cred.Version, xucredVersion)
	}
	var pid int32
	if err := option(fd, localPeerEPID, unsafe.Pointer(&pid), unsafe.Sizeof(pid)); err != nil {
		return Peer{}, fmt.Errorf("ask which process is at the other end: %w", err)
	}
	return Peer{UID: int(cred.UID), PID: int(pid)}, nil
}

func option(fd, name int, value unsafe.Pointer, size uintptr) error {
	length := uint32(size)
	if _, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), solLocal, uintptr(name),
		uintptr(value), uintptr(unsafe.Pointer(&length)), 0); errno != 0 {
		return errno
	}
	return nil
}

// InDir names a file in a directory.
func InDir(dir *os.File, name string) string { return filepath.Join(dir.Name(), name) }
