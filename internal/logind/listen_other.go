//go:build !linux

package logind

import (
	"context"
	"errors"
)

func listen(ctx context.Context, _ []string, _ func(string), _ func()) error {
	return errors.New("only Linux has systemd-logind; lock_after works here")
}
