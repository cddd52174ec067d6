package peer

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"broker/internal/system"
)

// getPeerPID is SIO_AF_UNIX_GETPEERPID of afunix.h.
const getPeerPID = 0x58000100

// UnixFD is like Unix, for a descriptor.
func UnixFD(fd int) (Peer, error) {
	var pid, n uint32
	err := syscall.WSAIoctl(syscall.Handle(fd), getPeerPID, nil, 0,
		(*byte)(unsafe.Pointer(&pid)), uint32(unsafe.Sizeof(pid)), &n, nil, 0)
	if err == nil && pid == 0 {
		err = ErrStranger
	}
	if err != nil {
		return Peer{}, fmt.Errorf("find the process at the other end of the socket: %w", err)
	}
	ours, err := isOurs(int(pid))
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %w", ErrStranger, err)
	}
	if !ours {
		return Peer{}, fmt.Errorf("%w (process %d)", ErrStranger, pid)
	}
	return Peer{os.Getuid(), Process{PID: int(pid)}}, nil
}

const processQuery = 0x1000 // PROCESS_QUERY_LIMITED_INFORMATION

func openProcess(pid int, rights uint32) (syscall.Handle, error) {
	h, err := syscall.OpenProcess(rights, false, uint32(pid))
	if err != nil {
		return 0, fmt.Errorf("look at process %d: %w", pid, err)
	}
	return h, nil
}

// isOurs reports whether a process belongs to the user of this process.
func isOurs(pid int) (bool, error) {
	me, err := system.Self()
	if err != nil {
		return false, err
	}
	h, err := openProcess(pid, processQuery)
	if err != nil {
		return false, err
	}
	defer func() { _ = syscall.CloseHandle(h) }()
	var token syscall.Token
	if err := syscall.OpenProcessToken(h, syscall.TOKEN_QUERY, &token); err != nil {
		return false, fmt.Errorf("look at the user of process %d: %w", pid, err)
	}
	defer func() { _ = token.Close() }()
	who, err := system.UserOf(token)
	return err == nil && who == me, err
}

// look reads the start of a process, in nanoseconds since 1970.
func look(pid int) (facts, error) {
	h, err := openProcess(pid, processQuery|syscall.SYNCHRONIZE)
	if err != nil {
		return facts{}, err
	}
	defer func() { _ = syscall.CloseHandle(h) }()
	// A process that has ended still exists while another process has a handle to it.
	state, err := syscall.WaitForSingleObject(h, 0)
	if err != nil {
		return facts{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	var made, ended, kernel, user syscall.Filetime
	if err := syscall.GetProcessTimes(h, &made, &ended, &kernel, &user); err != nil {
		return facts{}, fmt.Errorf("look at the start of process %d: %w", pid, err)
	}
	return facts{start: strconv.FormatInt(made.Nanoseconds(), 10), ended: state != syscall.WAIT_TIMEOUT}, nil
}
