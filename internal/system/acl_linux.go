package system

import "syscall"

// hasACL reports whether a file has an access control list, whose entries the bits of the group are the mask of:
// acl(5). Where that cannot be told there is none.
func hasACL(path string) bool {
	n, err := syscall.Getxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
