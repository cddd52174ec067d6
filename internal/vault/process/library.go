package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/99designs/keyring"

	"broker/internal/fault"
	"broker/internal/record"
	"broker/internal/system"

	// Hides the session bus from the keyring library's init; see its package comment.
	"broker/internal/vault/process/nodbus"
	// Asks for the request during initialization; see its package comment.
	_ "broker/internal/vault/process/ready"
)

func init() { nodbus.Restore() } // the library's init has run before this one

// guard calls the keyring library, whose type assertions panic on unexpected answers.
func guard[T any](call func() (T, error)) (result T, err error) {
	defer func() {
		if recover() != nil { // the value may contain what was being decoded, so it is not shown
			err = errors.New("the keyring library could not parse what it read")
		}
	}()
	return call()
}

// openLibrary opens one backend of the library, and no other.
func openLibrary(cfg keyring.Config, backend keyring.BackendType) (keyring.Keyring, error) {
	cfg.AllowedBackends = []keyring.BackendType{backend}
	return guard(func() (keyring.Keyring, error) { return keyring.Open(cfg) })
}

// libraryError makes a fault from an error of the keyring library. Its texts contain paths and D-Bus names, but no
// payloads.
func libraryError(doing string, err error) error {
	return fault.New(fault.Keyring, "%s: %w", doing, fmt.Errorf("%s", fault.Line(err.Error())))
}

// display reports whether there is a display on which a prompt of the keyring could appear.
func display() bool { return os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != "" }

// writerLock excludes other writers of ours, for keyrings that have no lock.
type writerLock struct{ stateDir string }

func (l writerLock) lock(ctx context.Context) (func(), error) {
	if !filepath.IsAbs(l.stateDir) {
		return nil, fault.New(fault.Keyring, "the state directory %q is not an absolute path", l.stateDir)
	}
	path := filepath.Join(l.stateDir, "keyring.lock")
	f, err := record.Lock(ctx, path)
	switch {
	case err == nil:
		return func() { _ = f.Close() }, nil
	case errors.Is(err, system.ErrLocked):
		return nil, fault.New(fault.Keyring, "another process holds the lock of the keyring: %s", path)
	}
	return nil, fault.New(fault.Keyring, "lock the keyring: %w", err)
}

// libraryRing is what the library's backends have in common.
type libraryRing struct {
	writerLock
	lib keyring.Keyring
	// blame makes a fault from an error of the library. It returns nil if the error only means that an item cannot
	// be decoded.
	blame func(doing string, err error) error
}

func (r *libraryRing) get(_ context.Context, key string) ([]byte, error) {
	found, err := guard(func() (keyring.Item, error) { return r.lib.Get(key) })
	switch {
	case err == nil:
		return found.Data, nil
	case errors.Is(err, errNoItem): // from a wrapper
		return nil, err
	case errors.Is(err, keyring.ErrKeyNotFound):
		return nil, errNoItem
	}
	if f := r.blame("read the keyring", err); f != nil {
		return nil, f
	}
	return nil, damaged(key)
}

// damaged returns the fault for an item that does not decode: most backends wrap the item in the library's JSON.
func damaged(key string) error {
	return because(fault.Keyring, errDamaged, "the keyring's item "+key+" is damaged and was left as it is", "")
}

func (r *libraryRing) set(_ context.Context, key, label string, data []byte) error {
	_, err := guard(func() (struct{}, error) {
		return struct{}{}, r.lib.Set(keyring.Item{Key: key, Label: label, Data: data})
	})
	if err == nil {
		return nil
	}
	const doing = "write the keyring; the old item stays"
	if f := r.blame(doing, err); f != nil {
		return f
	}
	return libraryError(doing, err)
}

func (r *libraryRing) remove(ctx context.Context, key string) error {
	return r.removeWith(ctx, key, r.get)
}

// removeWith removes an item that get finds, and checks that it is gone. The library reports success for some
// failures and for missing items.
func (r *libraryRing) removeWith(
	ctx context.Context,
	key string,
	get func(context.Context, string) ([]byte, error),
) error {
	if _, err := get(ctx, key); errors.Is(err, errNoItem) || fault.Is(err, fault.KeyringLocked) {
		return err
	}
	const doing = "remove from the keyring"
	if _, err := guard(func() (struct{}, error) { return struct{}{}, r.lib.Remove(key) }); err != nil {
		if f := r.blame(doing, err); f != nil {
			return f
		}
		return libraryError(doing, err)
	}
	if _, err := get(ctx, key); !errors.Is(err, errNoItem) {
		return fault.New(fault.Keyring, "the keyring did not remove %s", key)
	}
	return nil
}

func (r *libraryRing) keys(context.Context) ([]string, error) {
	const doing = "list the keyring"
	keys, err := guard(r.lib.Keys)
	if err == nil {
		return ours(keys), nil
	}
	if f := r.blame(doing, err); f != nil {
		return nil, f
	}
	return nil, libraryError(doing, err)
}

// ours returns those keys that Broker created.
func ours(keys []string) []string {
	var found []string
	for _, key := range keys {
		if strings.HasPrefix(key, ourPrefix) {
			found = append(found, key)
		}
	}
	return found
}
