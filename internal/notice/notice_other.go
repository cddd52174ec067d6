//go:build !linux && !darwin

package notice

import (
	"context"
	"errors"
)

func show(context.Context, string, string) error {
	return errors.New("notices are for Linux and macOS")
}
