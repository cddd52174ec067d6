//go:build unix

package system

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// usualBelowHome are the directories below a home that Broker and AWS tools use.
var usualBelowHome = []string{".config/broker", ".local/share/broker", ".local/state/broker", ".aws"}

// KnownHome is the home that the user database names for us, absolute, or empty. user.Current would make one up from
// HOME.
func KnownHome() string {
	u, err := user.LookupId(strconv.Itoa(os.Getuid()))
	if err != nil || !filepath.IsAbs(u.HomeDir) {
		return ""
	}
	return filepath.Clean(u.HomeDir)
}
