package atomicfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// exchange swaps two files atomically. If the file system cannot do that, it returns errors.ErrUnsupported.
func exchange(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return errors.ErrUnsupported
	}
	return &os.LinkError{Op: "exchange", Old: a, New: b, Err: err}
}

// lease keeps other programs from opening the file for writing until release. It returns free false if a program
// already has the file open for writing. release reports whether no program tried to open it meanwhile; one that
// tried waits in the kernel and then continues. File systems without leases, such as network file systems, detect
// no writer.
func lease(f *os.File) (release func() bool, free bool) {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		return nil, false
	}
	if err != nil {
		return func() bool { return true }, true
	}
	return func() bool {
		// While the kernel is breaking the lease, F_GETLEASE returns the type that it will become.
		still, err := unix.FcntlInt(f.Fd(), unix.F_GETLEASE, 0)
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		return err == nil && still == unix.F_RDLCK
	}, true
}
