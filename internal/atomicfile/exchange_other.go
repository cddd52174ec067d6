//go:build !linux

package atomicfile

import (
	"errors"
	"os"
)

// exchange always fails: this system cannot exchange files.
func exchange(_, _ string) error { return errors.ErrUnsupported }

// lease detects no writers on this system.
func lease(*os.File) (release func() bool, free bool) { return func() bool { return true }, true }
