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

// hasACL reports whether a file has an access control list, whose entries the bits of the group are the mask of:
// acl(5). Where that cannot be told there is none.
func hasACL(path string) bool {
	n, err := syscall.Getxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
