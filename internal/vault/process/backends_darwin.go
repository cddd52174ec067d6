package process

import (
	"context"

	"broker/internal/vault"
)

// openers open the backends that vault.Backends names.
var openers = map[string]func(context.Context, *request) (ring, error){
	vault.Keychain: openKeychain,
	vault.Pass:     openPass,
	vault.File:     openOwnFile,
}
