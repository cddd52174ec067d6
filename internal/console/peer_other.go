//go:build !linux

package console

// ours cannot be known here: the path that nobody can guess has to do.
func ours(remote, local string) bool { return true }
