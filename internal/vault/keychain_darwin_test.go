package vault

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/99designs/keyring"
)

func init() {
	if slices.Contains(keyring.AvailableBackends(), keyring.KeychainBackend) { // with cgo
		beds[Keychain] = keychainBed
	}
}

// keychainBed is the login keychain of whoever runs the tests, which has to be unlocked.
func keychainBed(t *testing.T) *bed {
	state := filepath.Join(t.TempDir(), "broker", "state")
	return &bed{backend: Keychain, caller: func(t *testing.T) *Caller {
		return callerOn(t, Keychain, state)
	}}
}
