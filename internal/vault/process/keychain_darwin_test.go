package process

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/99designs/keyring"

	"broker/internal/vault"
)

func init() {
	if slices.Contains(keyring.AvailableBackends(), keyring.KeychainBackend) { // with cgo
		beds[vault.Keychain] = keychainBed
	}
}

// keychainBed is the login keychain of the person who runs the tests, which must be unlocked.
func keychainBed(t *testing.T) *bed {
	state := filepath.Join(t.TempDir(), "broker", "state")
	return &bed{backend: vault.Keychain, caller: func(t *testing.T) *vault.Caller {
		return callerOn(t, vault.Keychain, state)
	}}
}
