package atomicfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// exchange swaps two files in one step. A file system that cannot is errors.ErrUnsupported.
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

// lease keeps others from opening the file for writing until release, and is
// not free where somebody has it open so already. Release tells whether nobody came
// meanwhile; who did waits in the kernel and goes on then. Where the file system knows no leases
// (those over the network), nobody is seen.
func lease(f *os.File) (release func() bool, free bool) {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		return nil, false
	}
	if err != nil {
		return func() bool { return true }, true
	}
	return func() bool {
		// While it is asked back, it is shown as what it has to become.
		still, err := unix.FcntlInt(f.Fd(), unix.F_GETLEASE, 0)
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		return err == nil && still == unix.F_RDLCK
	}, true
}
