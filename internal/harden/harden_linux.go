package harden

import (
	"fmt"

	"broker/internal/harden/nodump"
)

func process() error {
	if err := nodump.Set(); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	return noCore()
}
