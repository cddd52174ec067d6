package vault

import (
	"cmp"
	"path/filepath"

	"broker/internal/paths"
)

// Place says where a keyring is, for people. Dir is that of the file keyring. Store is that of the password store;
// empty means the usual one.
func Place(backend, dir, store string) string {
	switch backend {
	case File:
		return "the file keyring " + dir
	case Pass:
		return "the password store " + cmp.Or(store, filepath.Join(paths.Home(), ".password-store"))
	}
	return "the keyring " + backend
}
