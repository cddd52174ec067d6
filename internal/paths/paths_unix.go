//go:build unix

package paths

import (
	"os"
	"path/filepath"
	"strconv"

	"broker/internal/system"
)

const homeVariable = "HOME"

var (
	registry = place{"XDG_CONFIG_HOME", "broker/config", ".config/broker/config"}
	keyring  = place{"XDG_DATA_HOME", "broker/keyring", ".local/share/broker/keyring"}
	state    = place{"XDG_STATE_HOME", "broker", ".local/state/broker"}
)

// logins is the directory in which systemd-logind makes the runtime directory of each user that is logged in.
var logins = "/run/user"

// LoginRuntime returns the XDG_RUNTIME_DIR that this user has in a login session, or "". Processes of cron have no such
// variable, and must find the same daemon. With another HOME than that of the user database it is "".
func LoginRuntime(home string) string {
	run := filepath.Join(logins, strconv.Itoa(os.Getuid()))
	if !usable(run) || !filepath.IsAbs(home) || filepath.Clean(home) != system.KnownHome() {
		return ""
	}
	return run
}

// usable reports whether dir, such as XDG_RUNTIME_DIR, is a directory of the current user that others cannot write
// to. After su or in a container it often belongs to another user or is missing; /tmp is shared.
func usable(dir string) bool { return filepath.IsAbs(dir) && system.PrivateDir(dir) }
