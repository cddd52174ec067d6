//go:build unix && !linux

package system

// hasACL is always false: access control lists are checked only on Linux.
func hasACL(string) bool { return false }
