//go:build !linux && !darwin

package system

// BootID tells this boot of the machine from others. It is empty if the system does not tell.
func BootID() string { return "" }
