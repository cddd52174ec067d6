package vault

import (
	"cmp"
	"path/filepath"

	"broker/internal/paths"
)

// Place describes where a keyring is, for people. dir is the directory of the file keyring. store is the directory
// of the password store; empty means the default.
func Place(backend, dir, store string) string {
	switch backend {
	case File:
		return "the file keyring " + dir
	case Pass:
		return "the password store " + cmp.Or(store, filepath.Join(paths.Home(), ".password-store"))
	}
	return "the keyring " + backend
}
