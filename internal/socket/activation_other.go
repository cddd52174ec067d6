//go:build !unix

package socket

import (
	"context"
	"errors"
	"os"
)

// Activated returns nil: no service manager passes sockets on this system.
func Activated() (*os.File, error) { return nil, nil }

// Adopt always fails on this system.
func Adopt(context.Context, string, *os.File) (*Listener, error) { return nil, errors.ErrUnsupported }

// Inherit always fails on this system.
func Inherit(string, *os.File, *os.File) (*Listener, error) { return nil, errors.ErrUnsupported }

// Hold always fails: no socket is handed over on this system.
func (l *Listener) Hold() error { return errors.ErrUnsupported }

// Give returns nothing, because Hold always fails.
func (l *Listener) Give() (lock, file *os.File) { return nil, nil }
