package system

import "syscall"

// hasACL reports whether a file has an access control list; then the group bits of its mode are the mask of the
// list (acl(5)). It returns false if the system cannot tell.
func hasACL(path string) bool {
	n, err := syscall.Getxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
