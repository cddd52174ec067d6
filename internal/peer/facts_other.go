//go:build !linux

package peer

import (
	"context"
	"errors"
)

// Executable is not told here.
func (Process) Executable() string { return "" }

// Dir is not told here.
func (Process) Dir() string { return "" }

// Terminal is not told here.
func (Process) Terminal() string { return "" }

func (Process) arguments() []string { return nil }

// Ended cannot wait here; Running tells when it is asked.
func (Process) Ended(context.Context) error { return errors.ErrUnsupported }
