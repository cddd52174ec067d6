//go:build !unix

package paths

func usable(string) bool { return false }
