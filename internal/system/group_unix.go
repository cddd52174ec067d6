//go:build unix

package system

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// WritableByOthers reports whether the mode of a file lets users other than its owner write to it. A group counts
// as others, with three exceptions: root's group, admin on macOS (its members become root with their own
// password), and a private group (umask 002).
func WritableByOthers(path string, info fs.FileInfo) bool {
	perm := info.Mode().Perm()
	if perm&0o022 != 0o020 {
		return perm&0o002 != 0
	}
	const admin = 80
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return true
	case st.Gid == 0 || runtime.GOOS == "darwin" && st.Gid == admin:
		return hasACL(path)
	}
	return hasACL(path) || !isPrivateGroup(accounts, int(st.Gid))
}

// accounts is the directory in which the system lists users and groups.
var accounts = "/etc"

// isPrivateGroup reports whether a group has no members but this user and root: it is the primary group of one of
// the two, no other account has it, and it lists nobody else. If passwd and group below dir do not show all of
// that, such as on a machine with a directory service, the group is not private.
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
