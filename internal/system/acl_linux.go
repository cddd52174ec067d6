package system

import "syscall"

// hasACL reports whether a file has an access control list, whose entries the bits of the group are the mask of:
// acl(5). If the system cannot tell, the answer is no.
func hasACL(path string) bool {
	n, err := syscall.Getxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
