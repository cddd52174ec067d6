package daemon

import "broker/internal/system"

// startOf identifies a process beyond its pid, which comes again. The error says that there is none.
func startOf(pid int) (string, error) { return system.StartOf(pid) }
