package environ

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"broker/internal/fault"
	"broker/internal/paths"
	"broker/internal/system"
)

// CheckOwners looks at whose HOME and whose directories a daemon would use, before anything is made in them. A directory for state or
// socket that belongs to another user is refused, with the command that mends it; so is another's HOME, or an XDG directory
// of another. root uses another's HOME, as containers do, and is told so. Faults are of kind Unreachable.
func CheckOwners(p paths.Paths) (warnings []string, err error) {
	us := os.Geteuid()
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"} {
		dir := os.Getenv(name)
		uid, known := system.OwnerOf(dir)
		switch {
		case !known || uid == us || uid == 0:
		case us == 0:
			if name == "HOME" {
				warnings = append(warnings, fmt.Sprintf("HOME is %s, which belongs to uid %d, and this is root: that user cannot use what root makes there", dir, uid))
			}
		default:
			return nil, fault.New(fault.Unreachable, "%s is %s, which belongs to another user (uid %d)", name, dir, uid).WithHint("unset %s", name)
		}
	}
	if us == 0 {
		return warnings, nil // who may write everywhere; the directory of the socket is looked at when it is opened
	}
	socket := filepath.Dir(p.Socket)
	for _, wanted := range []string{p.State, p.Keyring, socket, p.Audit(), p.Log(), filepath.Join(socket, "start.lock")} {
		path := wanted
		for _, err := os.Stat(path); errors.Is(err, fs.ErrPermission) && path != filepath.Dir(path); _, err = os.Stat(path) {
			path = filepath.Dir(path) // which lets us not look into it
		}
		if uid, known := system.OwnerOf(path); known && uid != us && !system.CanWrite(path) {
			return nil, foreign(path, uid, us)
		}
	}
	return warnings, nil
}

// foreign is the fault for a file or directory that a daemon needs and that belongs to another user. In a HOME of ours it was left
// there by a run as that user, and is ours to have.
func foreign(path string, uid, us int) error {
	f := fault.New(fault.Unreachable, "%s belongs to another user (uid %d)", path, uid)
	if owner, known := system.OwnerOf(os.Getenv("HOME")); !known || owner != us {
		return f.WithHint("export BROKER_STATE_DIR=/a/directory/that/can/be/written")
	}
	return f.WithHint("sudo chown -R %d %s", us, path)
}
