package process

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/99designs/keyring"
	"github.com/godbus/dbus"

	"broker/internal/fault"
	"broker/internal/vault"
	"broker/internal/vault/process/nodbus"
)

// foreignCollection is a collection of the Secret Service.
type foreignCollection struct{ lib keyring.Keyring }

func openForeignCollection(ctx context.Context, name string) (foreignRing, error) {
	if nodbus.Hidden() {
		return nil, nil // without a session bus there is no Secret Service
	}
	bus, err := sessionBus(vault.SecretService)
	if err != nil {
		return nil, err
	}
	r := &secretServiceRing{bus: bus}
	paths, err := r.collections(ctx)
	if errors.Is(err, errNoService) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		if collectionName(path) != name {
			continue
		}
		locked, err := r.isLocked(ctx, path)
		if err != nil {
			return nil, err
		}
		if locked && !display() {
			return nil, fault.New(fault.KeyringLocked, "the collection %s of the Secret Service is locked, and there is no display to ask for its password", name).
				WithHint("broker keyring list")
		}
		lib, err := openLibrary(keyring.Config{LibSecretCollectionName: name}, keyring.SecretServiceBackend)
		if err != nil {
			return nil, libraryError("open the Secret Service", err)
		}
		return foreignCollection{lib}, nil
	}
	return nil, nil
}

// collectionName returns the name in a collection's path. In its last element gnome-keyring writes each character
// that is not a letter or digit as _ and two hex digits.
func collectionName(path dbus.ObjectPath) string {
	last := string(path[strings.LastIndexByte(string(path), '/')+1:])
	if name, err := url.PathUnescape(strings.ReplaceAll(last, "_", "%")); err == nil {
		return name
	}
	return last
}

func (r foreignCollection) names() ([]string, error) {
	names, err := guard(r.lib.Keys)
	if err != nil {
		return nil, libraryError("list the keyring", err)
	}
	return names, nil
}

func (r foreignCollection) get(key string) ([]byte, error) {
	data, err := (&libraryRing{lib: r.lib, blame: blameSecretService}).get(context.Background(), key)
	if len(data) > maxItemBytes {
		return nil, fault.New(fault.Keyring, "the item %q is larger than %d bytes", key, maxItemBytes)
	}
	return data, err
}
