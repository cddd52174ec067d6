//go:build unix && !linux

package client

import (
	"errors"

	"broker/internal/wire"
)

// This version asks at terminals on Linux alone; elsewhere `broker login --code` opens the session.

func foreground() bool { return false }

func ttyName() string { return "" }

type terminal struct{ answer chan wire.Request }

func askTerminal(wire.Ask) (*terminal, error) {
	return nil, errors.New("this version cannot ask on a terminal on this system")
}

func tellTerminal(string) {}

func (t *terminal) endLine() {}

func (t *terminal) close() {}
