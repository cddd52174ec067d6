//go:build unix

package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// trusted checks one file or directory, and follows a link. above says that it is a directory on the way.
func trusted(path string, above bool) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: cannot determine its owner", path)
	}
	if uid := int(st.Uid); uid != 0 && uid != os.Geteuid() {
		return &UntrustedError{Path: path, Why: fmt.Sprintf("belongs to another user (uid %d)", uid)}
	}
	if above && info.Mode()&fs.ModeSticky != 0 {
		return nil
	}
	if WritableByOthers(path, info) {
		return &UntrustedError{path, fmt.Sprintf("can be written by others (mode %04o)", info.Mode().Perm()), true}
	}
	return nil
}

// trustedLink checks a symbolic link itself: its owner can replace it, also in a sticky directory.
func trustedLink(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return &UntrustedError{Path: path, Why: "is a symbolic link of another user"}
	}
	return nil
}

// PrivateDir reports whether a path is a directory of this user that others cannot write to.
func PrivateDir(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return false
	}
	a := accessOf(info)
	return a.Ours && a.Perm&0o022 == 0
}

// OwnerOf returns the uid of a file's owner. A symbolic link is followed. known is false if the file does not
// exist.
func OwnerOf(path string) (uid int, known bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// maxSearched limits how many descriptors are checked one by one if there is no list of them.
const maxSearched = 1 << 16

// CloseInherited closes the descriptors above the three standard ones that the parent left open by mistake. A
// descriptor that survived exec has no close-on-exec flag. Everything that Go has opened since has the flag, and
// so have descriptors to keep.
func CloseInherited() {
	if dir, err := os.Open("/dev/fd"); err == nil {
		names, err := dir.Readdirnames(-1)
		_ = dir.Close()
		if err == nil {
			for _, name := range names {
				if fd, err := strconv.Atoi(name); err == nil {
					closeUnmarked(fd)
				}
			}
			return
		}
	}
	limit := syscall.Rlimit{Cur: maxSearched} // /proc is not mounted
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	for fd := 3; fd < int(min(limit.Cur, maxSearched)); fd++ {
		closeUnmarked(fd)
	}
}

func closeUnmarked(fd int) {
	if fd <= 2 {
		return
	}
	for {
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errors.Is(errno, syscall.EINTR) {
			continue
		}
		if errno == 0 && flags&syscall.FD_CLOEXEC == 0 {
			_ = syscall.Close(fd)
		}
		return
	}
}
