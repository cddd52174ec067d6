package system

import (
	"os/user"
	"path/filepath"
)

// usualBelowHome are the directories below a home that Broker and AWS tools use.
var usualBelowHome = []string{"AppData/Roaming/broker", "AppData/Local/broker", ".aws"}

// KnownHome is the home that the system knows for us, absolute, or empty.
func KnownHome() string {
	u, err := user.Current()
	if err != nil || !filepath.IsAbs(u.HomeDir) {
		return ""
	}
	return filepath.Clean(u.HomeDir)
}
