//go:build unix

package atomicfile

import (
	"io/fs"
	"os"
	"syscall"
)

// openLock opens the file to lock while files in a directory are edited: the directory itself.
func openLock(dir string) (*os.File, error) { return os.Open(dir) }

// mayWrite returns why files in a directory cannot be replaced.
func mayWrite(dir string) error { return syscall.Access(dir, 2) } // W_OK

// keepOwner gives f the owner and group of another file, if permitted.
func keepOwner(f *os.File, like fs.FileInfo) {
	if st, ok := like.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(st.Uid), int(st.Gid))
	}
}
