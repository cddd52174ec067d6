//go:build unix

package profiles

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"broker/internal/fault"
	"broker/internal/system"
)

// exposed says who besides us and root could change the content of a path: through the file itself, through a
// directory on the way, or through a symbolic link in a directory that all may write to. It is nil if nobody could, and
// for a file that is not there. What an access control list adds is seen on Linux alone.
func exposed(path string) *exposure {
	var found *exposure
	err := system.Walk(path, func(at string, info, dir fs.FileInfo) error {
		// In a directory such as /tmp others cannot replace what is ours, but may have put there what is theirs.
		if owner := ownerOf(info); dir != nil && dir.Mode()&fs.ModeSticky != 0 && !isOurUID(owner) &&
			writtenByOthers(filepath.Dir(at), dir) {
			found = &exposure{at, fmt.Sprintf("belongs to another user (uid %d)", owner)}
		} else if info.Mode()&fs.ModeSymlink == 0 {
			found = exposes(at, info)
		}
		if found != nil {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.SkipAll) {
		return nil
	}
	return found
}

// exposes says why others may change a file, or replace what lies in a directory.
func exposes(path string, info fs.FileInfo) *exposure {
	if owner := ownerOf(info); !isOurUID(owner) {
		return &exposure{path, fmt.Sprintf("belongs to another user (uid %d)", owner)}
	}
	if sticky := info.IsDir() && info.Mode()&fs.ModeSticky != 0; !sticky && writtenByOthers(path, info) {
		return &exposure{path, fmt.Sprintf("may be written by others (mode %04o)", info.Mode().Perm())}
	}
	return nil
}

// hint is the command that ends the exposure, or empty where that takes another user.
func (e *exposure) hint() fault.Hint {
	if strings.HasPrefix(e.why, "may be written") {
		return fault.Hintf("chmod go-w %s", e.path)
	}
	return ""
}

func isOurUID(uid int) bool { return uid == 0 || uid == os.Geteuid() }

func ownerOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// writtenByOthers goes by the mode. The group counts as others, unless it is a private one.
func writtenByOthers(path string, info fs.FileInfo) bool {
	perm := info.Mode().Perm()
	st, ok := info.Sys().(*syscall.Stat_t)
	return perm&0o002 != 0 || perm&0o020 != 0 && (!ok || !isPrivateGroup(accounts, int(st.Gid)) || hasACL(path))
}

// accounts is where the system's users and groups are listed.
var accounts = "/etc"

// isPrivateGroup reports whether a group has no members but us and root: it is the primary group of one of the two, no
// other account has it, and it lists nobody else. Where all of that cannot be read in passwd and group below dir, such
// as on a machine with a directory service, it is not private.
func isPrivateGroup(dir string, gid int) bool {
	me, group := strconv.Itoa(os.Geteuid()), strconv.Itoa(gid)
	ours := map[string]bool{}
	primary := false
	users, err := os.ReadFile(filepath.Join(dir, "passwd"))
	for line := range bytes.Lines(users) {
		f := strings.Split(strings.TrimSpace(string(line)), ":") // name, password, uid, gid, …
		if len(f) < 4 {
			continue
		}
		us := f[2] == me || f[2] == "0"
		ours[f[0]] = ours[f[0]] || us
		if f[3] == group && !us {
			return false
		}
		primary = primary || f[3] == group
	}
	groups, err2 := os.ReadFile(filepath.Join(dir, "group"))
	if err != nil || err2 != nil || !primary {
		return false
	}
	known := false
	for line := range bytes.Lines(groups) {
		f := strings.Split(strings.TrimSpace(string(line)), ":") // name, password, gid, members
		if len(f) < 4 || f[2] != group {
			continue
		}
		known = true
		for member := range strings.SplitSeq(f[3], ",") {
			if member = strings.TrimSpace(member); member != "" && !ours[member] {
				return false
			}
		}
	}
	return known
}
