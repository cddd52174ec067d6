//go:build unix

package paths

import (
	"os"
	"path/filepath"
	"syscall"
)

const homeVariable = "HOME"

var (
	registry = place{"XDG_CONFIG_HOME", "broker/config", ".config/broker/config"}
	keyring  = place{"XDG_DATA_HOME", "broker/keyring", ".local/share/broker/keyring"}
	state    = place{"XDG_STATE_HOME", "broker", ".local/state/broker"}
)

// usable reports whether an XDG_RUNTIME_DIR is a directory of ours. After su
// or in a container it is often another user's, or not there at all.
func usable(dir string) bool {
	if !filepath.IsAbs(dir) {
		return false
	}
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Getuid()
}
