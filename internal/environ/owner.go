package environ

import (
	"fmt"
	"os"
	"os/user"

	"broker/internal/fault"
	"broker/internal/system"
)

// mend returns the command that stops the use of another user's directory.
func mend(variable string) fault.Hint {
	if u, err := user.Current(); variable == "HOME" && err == nil && u.HomeDir != "" {
		return fault.Hintf("export HOME=%s", u.HomeDir)
	}
	return fault.Hintf("unset %s", variable)
}

// CheckOwners checks who owns the HOME and XDG directories of the daemon, before anything is created in them. It
// refuses a directory of another user. For root it only warns, and only about HOME: containers run as root with
// another user's HOME. The fault is of kind Unreachable.
func CheckOwners() (warnings []string, err error) {
	us := os.Geteuid()
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"} {
		dir := os.Getenv(name)
		uid, known := system.OwnerOf(dir)
		switch {
		case !known || uid == us || uid == 0:
		case us == 0:
			if name == "HOME" {
				warnings = append(warnings, fmt.Sprintf(
					"HOME is %s, which belongs to uid %d, but this is root: that user cannot use files that root creates there", dir, uid))
			}
		default:
			return nil, fault.New(fault.Unreachable, "%s is %s, which belongs to another user (uid %d)", name, dir, uid).
				WithHint("%s", mend(name))
		}
	}
	return warnings, nil
}
