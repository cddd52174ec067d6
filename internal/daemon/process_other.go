//go:build !linux

package daemon

// processOf tells nothing where there is no proc(5).
func processOf(int) (name, parent string) { return "", "" }

func toolOf(int) string { return "" }
