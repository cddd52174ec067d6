//go:build unix

package atomicfile

import (
	"io/fs"
	"os"
	"syscall"
)

// openLock opens what is locked while files of a directory are edited: the directory.
func openLock(dir string) (*os.File, error) { return os.Open(dir) }

// mayWrite says why files in a directory cannot be replaced.
func mayWrite(dir string) error { return syscall.Access(dir, 2) } // W_OK

// keepOwner gives a file the owner of another, as far as we may.
func keepOwner(f *os.File, like fs.FileInfo) {
	if st, ok := like.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(st.Uid), int(st.Gid))
	}
}
