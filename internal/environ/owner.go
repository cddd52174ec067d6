package environ

import (
	"fmt"
	"os"
	"os/user"

	"broker/internal/fault"
	"broker/internal/system"
)

// mend is the command that ends the use of another user's directory.
func mend(variable string) fault.Hint {
	if u, err := user.Current(); variable == "HOME" && err == nil && u.HomeDir != "" {
		return fault.Hintf("export HOME=%s", u.HomeDir)
	}
	return fault.Hintf("unset %s", variable)
}

// CheckOwners looks at whose HOME and XDG directories a daemon would use, before anything is made in them. One that
// belongs to another user is refused, except that root may use another user's HOME, as containers do: that is a
// warning. The fault is of kind Unreachable.
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
					"HOME is %s, which belongs to uid %d, and this is root: that user cannot use what root makes there", dir, uid))
			}
		default:
			return nil, fault.New(fault.Unreachable, "%s is %s, which belongs to another user (uid %d)", name, dir, uid).
				WithHint("%s", mend(name))
		}
	}
	return warnings, nil
}
