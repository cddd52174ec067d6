//go:build !linux && !darwin

package harden

func process() error { return nil }

// Release does nothing: there is nothing to restore.
func Release() error { return nil }
