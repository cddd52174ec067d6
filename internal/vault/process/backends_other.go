//go:build !linux && !darwin && !windows

package process

import (
	"context"

	"broker/internal/vault"
)

// openers has a function for each backend that vault.Backends names.
var openers = map[string]func(context.Context, *request) (ring, error){
	vault.Pass: openPass,
	vault.File: openOwnFile,
}
