package system

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Usual reports whether a path is one that Broker or an AWS tool uses by default, with no variable set but HOME.
// It must be in the home directory that the system knows for this user, or in HOME if this user owns that, and go
// through no symbolic link below it. Messages must only tell a person to change or remove a usual path: a
// repository can set variables and so choose any other path. It can also choose a usual path for another purpose,
// such as a key for the state directory. So no path is usual in a process with such a variable.
func Usual(path string) bool {
	if moved() {
		return false
	}
	for _, home := range usualHomes() {
		if rest, ok := below(path, home); ok && usual(rest) {
			return true
		}
	}
	rest, ok := below(path, fmt.Sprintf("/run/user/%d", os.Geteuid()))
	return ok && strings.HasPrefix(rest, "broker")
}

// usualHomes returns the home directories of Usual.
func usualHomes() []string {
	homes := ownHomes()
	if home, err := os.UserHomeDir(); err == nil {
		if access, err := AccessOfPath(home); err == nil && access.Ours {
			homes = append(homes, home)
		}
	}
	return homes
}

// AboveUsual reports whether a directory is between the home directory of Usual and a usual path, such as ~/.config.
// A person may be told to change its mode, but not to remove it.
func AboveUsual(path string) bool {
	if moved() {
		return false
	}
	return slices.ContainsFunc(usualHomes(), func(home string) bool {
		rest, ok := below(path, home)
		return ok && aboveUsual(rest)
	})
}

// UsualForRoot is Usual for what a message tells a person to do as root. Only the home directory that the system
// knows counts, if it exists. A directory above a usual path is usual, too.
func UsualForRoot(path string) bool {
	return !moved() && slices.ContainsFunc(ownHomes(), func(home string) bool {
		rest, ok := below(path, home)
		return ok && (usual(rest) || aboveUsual(rest))
	})
}

// moved reports whether a variable overrides a path of Broker.
func moved() bool {
	return slices.ContainsFunc([]string{"BROKER_STATE_DIR", "BROKER_RUNTIME_DIR", "BROKER_SOCKET", "BROKER_KEYRING_DIR",
		"BROKER_CONFIG"}, func(name string) bool { return os.Getenv(name) != "" })
}

// ownHomes returns the names of the home directory that the system knows; if it knows none that exists, HOME.
func ownHomes() []string {
	var homes []string
	known := KnownHome()
	if _, err := os.Stat(known); err == nil {
		homes = append(homes, known)
	}
	home, err := os.UserHomeDir()
	if err == nil && (len(homes) == 0 || RealPath(home) == RealPath(known)) {
		homes = append(homes, home)
	}
	return homes
}

// below returns the path relative to dir. ok is false if the path is not below dir or goes through a symbolic link
// between dir and its last element.
func below(path, dir string) (rest string, ok bool) {
	separator := string(filepath.Separator)
	path = filepath.Clean(path)
	if rest, ok = strings.CutPrefix(path, strings.TrimSuffix(filepath.Clean(dir), separator)+separator); !ok {
		return "", false
	}
	real := filepath.Join(RealPath(filepath.Dir(path)), filepath.Base(path))
	return rest, real == filepath.Join(RealPath(dir), rest)
}

// usual reports whether a path below a home directory is one of usualBelowHome, or inside of it.
func usual(rest string) bool {
	for _, u := range usualBelowHome {
		if u = filepath.FromSlash(u); rest == u || strings.HasPrefix(rest, u+string(filepath.Separator)) {
			return true
		}
	}
	return false
}

// aboveUsual reports whether a path below a home directory leads to one of usualBelowHome.
func aboveUsual(rest string) bool {
	return slices.ContainsFunc(usualBelowHome, func(u string) bool {
		return strings.HasPrefix(filepath.FromSlash(u), rest+string(filepath.Separator))
	})
}
