package process

import (
	"context"
	"errors"
	"slices"

	"github.com/99designs/keyring"

	"broker/internal/fault"
)

// keychainRing stores items in the login keychain of macOS. The library can reach it only through cgo.
type keychainRing struct{ libraryRing }

func openKeychain(_ context.Context, q *request) (ring, error) {
	if !slices.Contains(keyring.AvailableBackends(), keyring.KeychainBackend) {
		return nil, fault.New(fault.Keyring, "this program was built without cgo, so it cannot reach the keychain; build it with CGO_ENABLED=1, or set keyring_backend = file").
			WithHint("broker keyring list")
	}
	// Trusted: a program that has stored an item may read it without a prompt each time.
	lib, err := openLibrary(
		keyring.Config{ServiceName: "broker", KeychainTrustApplication: true, KeychainAccessibleWhenUnlocked: true},
		keyring.KeychainBackend,
	)
	if err != nil {
		return nil, libraryError("open the keychain", err)
	}
	return &keychainRing{libraryRing{writerLock{q.StateDir}, lib, libraryError}}, nil
}

// get tells a locked keychain and a declined prompt from a missing item: the library reports all failures as
// missing items. Listing the names needs no password.
func (r *keychainRing) get(ctx context.Context, key string) ([]byte, error) {
	data, err := r.libraryRing.get(ctx, key)
	if !errors.Is(err, errNoItem) {
		return data, err
	}
	keys, err := r.keys(ctx)
	if err != nil {
		return nil, err
	}
	if slices.Contains(keys, key) {
		return nil, fault.New(fault.KeyringLocked, "the keychain did not return the item %s: it is locked, or the prompt was declined", key).
			WithHint("security unlock-keychain")
	}
	return nil, errNoItem
}

func (r *keychainRing) remove(ctx context.Context, key string) error {
	return r.removeWith(ctx, key, r.get)
}

func (r *keychainRing) check(ctx context.Context) error {
	_, err := r.keys(ctx)
	return err
}

func (r *keychainRing) asks() bool { return true }
