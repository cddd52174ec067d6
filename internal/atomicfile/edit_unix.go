//go:build unix

package atomicfile

import (
	"io/fs"
	"os"
	"syscall"
)

// noFollow is the flag to open a file that must not be a symlink, and that must not block if it is a fifo.
const noFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// mayWrite returns why files in a directory cannot be replaced.
func mayWrite(dir string) error { return syscall.Access(dir, 2) } // W_OK

// keepOwner gives f the owner and group of another file, if permitted.
func keepOwner(f *os.File, like fs.FileInfo) {
	if st, ok := like.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(st.Uid), int(st.Gid))
	}
}
