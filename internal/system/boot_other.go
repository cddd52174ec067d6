//go:build !linux && !darwin

package system

// BootID is empty: this system does not identify its boots.
func BootID() string { return "" }
