//go:build unix

package system

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// The flags for os.OpenFile not to follow a symbolic link as the last element of a path, and not to block on a
// fifo.
const (
	NoFollow = syscall.O_NOFOLLOW
	NonBlock = syscall.O_NONBLOCK
)

// Exe is the suffix of the names of programs.
const Exe = ""

// Umask sets the umask and returns the old one.
func Umask(mask int) int { return syscall.Umask(mask) }

// TryLock takes the lock of a file or directory if it is free, and holds it until the file is closed. The error is
// ErrLocked if another open file has it.
func TryLock(f *os.File) error { return flock(f, syscall.LOCK_EX|syscall.LOCK_NB) }

// Unlock releases the lock of a file that stays open.
func Unlock(f *os.File) error { return flock(f, syscall.LOCK_UN) }

// TryLockShared takes a shared lock of a file, and holds it until the file is closed. Several open files can hold
// it at a time; TryLock fails meanwhile. The error is ErrLocked if another open file has an exclusive lock.
func TryLockShared(f *os.File) error { return flock(f, syscall.LOCK_SH|syscall.LOCK_NB) }

func flock(f *os.File, how int) error {
	for {
		switch err := syscall.Flock(int(f.Fd()), how); {
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrLocked
		case !errors.Is(err, syscall.EINTR):
			return err
		}
	}
}

// AccessOf returns who may use an open file.
func AccessOf(f *os.File) (Access, error) {
	info, err := f.Stat()
	if err != nil {
		return Access{}, err
	}
	return accessOf(info), nil
}

// AccessOfPath returns who may use a file. A symbolic link is followed.
func AccessOfPath(path string) (Access, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Access{}, err
	}
	return accessOf(info), nil
}

func accessOf(info fs.FileInfo) Access {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Access{Perm: info.Mode().Perm()}
	}
	return Access{
		Ours: int(st.Uid) == os.Geteuid(), Perm: info.Mode().Perm(),
		Owner: "uid " + strconv.Itoa(int(st.Uid)), Links: int(st.Nlink),
	}
}

// AccessOfInfo returns who may use a file, according to its info. On Windows ok is false, because the info does
// not tell.
func AccessOfInfo(info fs.FileInfo) (a Access, ok bool) { return accessOf(info), true }

// CloseToOthers returns the command that gives only this user access to a file, with a mode such as 600.
func CloseToOthers[S ~string](file, mode S) S { return "chmod " + mode + " " + file }

// GiveBack returns the command that makes this user the owner of everything in a directory.
func GiveBack[S ~string](path S) S { return S("sudo chown -R "+strconv.Itoa(os.Geteuid())+" ") + path }

// MakePrivate creates a directory that only this user can use; the umask applies.
func MakePrivate(dir string) error { return os.Mkdir(dir, 0o700) }

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return SyncNames(d)
}

// SyncNames does what SyncDir does, for an open directory.
func SyncNames(dir *os.File) error { return dir.Sync() }

// Session returns the attributes to start a process in its own session: without a terminal, and without signals
// from one.
func Session() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
