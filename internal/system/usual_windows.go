package system

import (
	"os/user"
	"path/filepath"
)

// usualBelowHome are the directories below a home directory that Broker and AWS tools use.
var usualBelowHome = []string{"AppData/Roaming/broker", "AppData/Local/broker", ".aws"}

// KnownHome returns the absolute home directory that the system knows for this user, or "".
func KnownHome() string {
	u, err := user.Current()
	if err != nil || !filepath.IsAbs(u.HomeDir) {
		return ""
	}
	return filepath.Clean(u.HomeDir)
}
