package system

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Usual reports whether Broker or an AWS tool uses a path if no variable but HOME names another one: in the home that
// the system knows for us, or in HOME if that is ours, and through no symbolic link below it. What a message tells a
// person to change or remove has to be usual: a repository can set variables, and choose any other path. It can also
// choose a usual path for another purpose, such as a key for the state directory. So no path is usual in a process with
// such a variable.
func Usual(path string) bool {
	if moved() {
		return false
	}
	homes := ownHomes()
	if home, err := os.UserHomeDir(); err == nil {
		if access, err := AccessOfPath(home); err == nil && access.Ours {
			homes = append(homes, home)
		}
	}
	for _, home := range homes {
		if rest, ok := below(path, home); ok && usual(rest) {
			return true
		}
	}
	rest, ok := below(path, fmt.Sprintf("/run/user/%d", os.Geteuid()))
	return ok && strings.HasPrefix(rest, "broker")
}

// UsualForRoot is Usual for what a message tells a person to do as root: in the home that the system knows alone, if
// there is one. A directory on the way to a usual path is usual, too.
func UsualForRoot(path string) bool {
	if moved() {
		return false
	}
	for _, home := range ownHomes() {
		rest, ok := below(path, home)
		for _, u := range usualBelowHome {
			if ok && (usual(rest) || strings.HasPrefix(filepath.FromSlash(u), rest+string(filepath.Separator))) {
				return true
			}
		}
	}
	return false
}

// moved reports whether a variable moves a path of Broker.
func moved() bool {
	return slices.ContainsFunc([]string{"BROKER_STATE_DIR", "BROKER_RUNTIME_DIR", "BROKER_SOCKET", "BROKER_KEYRING_DIR",
		"BROKER_CONFIG"}, func(name string) bool { return os.Getenv(name) != "" })
}

// ownHomes are the names of the home that the system knows, or of HOME if it knows none that is there.
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

// below cuts a directory off a path that leads through no symbolic link from there to its last part.
func below(path, dir string) (rest string, ok bool) {
	separator := string(filepath.Separator)
	path = filepath.Clean(path)
	if rest, ok = strings.CutPrefix(path, strings.TrimSuffix(filepath.Clean(dir), separator)+separator); !ok {
		return "", false
	}
	real := filepath.Join(RealPath(filepath.Dir(path)), filepath.Base(path))
	return rest, real == filepath.Join(RealPath(dir), rest)
}

// usual reports whether a path below a home is one of usualBelowHome, or in it.
func usual(rest string) bool {
	for _, u := range usualBelowHome {
		if u = filepath.FromSlash(u); rest == u || strings.HasPrefix(rest, u+string(filepath.Separator)) {
			return true
		}
	}
	return false
}
