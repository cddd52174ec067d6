//go:build !unix

package socket

import (
	"context"
	"errors"
	"os"
)

// Activated is nil: no service manager passes sockets on this system.
func Activated() (*os.File, error) { return nil, nil }

// Adopt has nothing to take on this system.
func Adopt(context.Context, string, *os.File) (*Listener, error) { return nil, errors.ErrUnsupported }

// Inherit has nothing to take on this system.
func Inherit(string, *os.File, *os.File) (*Listener, error) { return nil, errors.ErrUnsupported }

// Hold cannot be had on this system, where no socket is handed over.
func (l *Listener) Hold() error { return errors.ErrUnsupported }

// Give has nothing to give after a Hold that failed.
func (l *Listener) Give() (lock, file *os.File) { return nil, nil }
