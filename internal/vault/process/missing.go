package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"broker/internal/fault"
	"broker/internal/lockfile"
	"broker/internal/paths"
	"broker/internal/system"
	"broker/internal/vault"
)

// errNoKey means that no key is stored for a source.
var errNoKey = errors.New("no key is stored")

func noKey(source string) error {
	return because(fault.NotFound, errNoKey, fmt.Sprintf("no key is stored for source %q", source),
		fault.Hintf("broker add %s", source))
}

// explainMissing adds where the key was searched for. If variables redirect the file keyring or the registry, and
// the default one exists, the hint leads back to the default: a user must not be told to type a key into a
// directory that a repository chose.
func (e *errand) explainMissing(err error) error {
	var f *fault.Error
	if !errors.Is(err, errNoKey) && !errors.Is(err, vault.ErrNotCreated) || !errors.As(err, &f) {
		return err
	}
	c := *f
	there := ", exists"
	if errors.Is(err, errNoKey) {
		there = ", holds it"
		c.Message += " in " + vault.Place(e.Backend, e.Dir, os.Getenv("PASSWORD_STORE_DIR"))
	}
	for _, home := range usualHomes() {
		switch dir, registry := paths.KeyringBelow(home), paths.RegistryBelow(home); {
		case e.Backend == vault.File && !samePath(e.Dir, dir) && e.isIn(dir, err):
			c.Kind = fault.Config // what is missing is elsewhere
			c.Message += "; the usual file keyring, " + dir + there
		case e.Registry != "" && !samePath(e.Registry, registry) && isThere(registry):
			c.Message += "; the registry in use is " + e.Registry + ", and the usual one is " + registry
		default:
			continue
		}
		c.Message += "; add the key only if you chose this place yourself"
		c.Hint = e.wayBack(home)
		return &c
	}
	return &c
}

// usualHomes returns the home directories that contain the files if no variable redirects them.
func usualHomes() []string {
	return slices.DeleteFunc([]string{paths.Home(), lockfile.OwnHome()}, func(home string) bool { return home == "" })
}

// isIn reports whether a file keyring holds what is missing: the key of the source, or anything at all.
func (e *errand) isIn(dir string, missing error) bool {
	if errors.Is(missing, errNoKey) {
		return isThere(filepath.Join(dir, itemKey(e.Source)))
	}
	items, _ := (&fileRing{dir: dir}).items()
	return len(items) > 0
}

// wayBack returns the command that makes a shell use the files below a home directory again.
func (e *errand) wayBack(home string) fault.Hint {
	var names []string
	if now := paths.Home(); now != "" && !samePath(e.Registry, paths.RegistryBelow(now)) {
		names = append(names, paths.RegistryVariables()...)
	}
	if now := paths.Home(); now != "" && !samePath(e.Dir, paths.KeyringBelow(now)) {
		names = append(names, paths.KeyringVariables()...)
	}
	back := fault.Hintf("unset %s", names)
	switch {
	case samePath(home, paths.Home()):
		return back
	case len(names) == 0:
		return fault.Hintf("export HOME=%s", home)
	}
	return fault.Hintf("%s && export HOME=%s", back, home)
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func samePath(a, b string) bool { return system.RealPath(a) == system.RealPath(b) }
