//go:build unix

package system

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// The flags for os.OpenFile that keep it from following a symbolic link in the last
// place, and from waiting on a fifo.
const (
	NoFollow = syscall.O_NOFOLLOW
	NonBlock = syscall.O_NONBLOCK
)

// Exe is what the name of a program ends in.
const Exe = ""

// Umask sets the umask and returns the old one.
func Umask(mask int) int { return syscall.Umask(mask) }

// TryLock takes the lock of a file or directory if it is free, until the file is closed. The error is ErrLocked if
// another open file has it.
func TryLock(f *os.File) error { return flock(f, syscall.LOCK_EX|syscall.LOCK_NB) }

// TryLockShared takes the lock of a file, until that is closed, unless another has it for itself alone: then the
// error is ErrLocked. Many can have it at a time, and TryLock fails meanwhile.
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

// AccessOf is who may use an open file.
func AccessOf(f *os.File) (Access, error) {
	info, err := f.Stat()
	if err != nil {
		return Access{}, err
	}
	return accessOf(info), nil
}

// AccessOfPath is who may use a file. A symbolic link is followed.
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

// AccessOfInfo is who may use a file, as its info says. Windows cannot tell: there ok is false.
func AccessOfInfo(info fs.FileInfo) (a Access, ok bool) { return accessOf(info), true }

// CloseToOthers is the command that leaves a file to us alone, with a mode such as 600.
func CloseToOthers[S ~string](file, mode S) S { return "chmod " + mode + " " + file }

// GiveBack is the command that makes everything in a directory ours again.
func GiveBack[S ~string](path S) S { return S("sudo chown -R "+strconv.Itoa(os.Geteuid())+" ") + path }

// MakePrivate makes a directory that only we can use, but for the umask.
func MakePrivate(dir string) error { return os.Mkdir(dir, 0o700) }

// SyncDir makes the names in a directory last.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return SyncNames(d)
}

// SyncNames is SyncDir of an open directory.
func SyncNames(dir *os.File) error { return dir.Sync() }

// Session starts a process in a session of its own: no terminal, and no signal from one.
func Session() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
