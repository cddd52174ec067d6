package profiles

import (
	"io/fs"
	"syscall"
)

// identify fills in what only the system knows of a file. The change time is
// the one that no program can set back.
func (s *stamp) identify(fi fs.FileInfo) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		s.device, s.inode, s.owner = uint64(st.Dev), st.Ino, int(st.Uid)
		s.changed = st.Ctim.Nano()
	}
}
