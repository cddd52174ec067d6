//go:build unix

package paths

import (
	"path/filepath"

	"broker/internal/system"
)

const homeVariable = "HOME"

var (
	registry = place{"XDG_CONFIG_HOME", "broker/config", ".config/broker/config"}
	keyring  = place{"XDG_DATA_HOME", "broker/keyring", ".local/share/broker/keyring"}
	state    = place{"XDG_STATE_HOME", "broker", ".local/state/broker"}
)

// usable reports whether dir, from XDG_RUNTIME_DIR, is a directory of the current user that others cannot write
// to. After su or in a container it often belongs to another user or is missing; /tmp is shared.
func usable(dir string) bool { return filepath.IsAbs(dir) && system.PrivateDir(dir) }
