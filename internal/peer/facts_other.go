//go:build !linux

package peer

import (
	"context"
	"errors"
)

// gone returns false: this system does not tell whether a PID still belongs to the process that connected.
func left(int) (ended, known bool) { return false, false }

// Executable returns "": it is unknown on this system.
func (Process) Executable() string { return "" }

// Dir returns "": it is unknown on this system.
func (Process) Dir() string { return "" }

// Terminal returns "": it is unknown on this system.
func (Process) Terminal() string { return "" }

// Arguments returns nil: they are unknown on this system.
func (Process) Arguments() []string { return nil }

// Ended always fails on this system; use Running.
func (Process) Ended(context.Context) error { return errors.ErrUnsupported }

// Lineage describes the process itself by its start and name. Its parents are unknown on this system.
func (p Process) Lineage() []Description {
	f, err := p.look()
	if err != nil {
		return nil
	}
	return []Description{{Process: Process{p.PID, f.start}, Name: f.name}}
}
