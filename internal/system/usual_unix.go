//go:build unix

package system

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// usualBelowHome are the directories below a home directory that Broker and AWS tools use.
var usualBelowHome = []string{".config/broker", ".local/share/broker", ".local/state/broker", ".aws"}

// KnownHome returns the absolute home directory of this user in the user database, or "". user.Current would
// derive it from HOME.
func KnownHome() string {
	u, err := user.LookupId(strconv.Itoa(os.Getuid()))
	if err != nil || !filepath.IsAbs(u.HomeDir) {
		return ""
	}
	return filepath.Clean(u.HomeDir)
}
