package process

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/lockfile"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/system"
	"broker/internal/vault"
)

// belongs says which registry and home an item in the keyring belongs to.
type belongs struct {
	// Registry is the registry for which the item was stored, and Home the home directory whose lock also locks
	// the item. Both are absolute. They are empty in items of version 0.1.0; Home is also empty if there was no
	// home directory.
	Registry string `json:"registry,omitempty"`
	Home     string `json:"home,omitempty"`
}

// gone reports whether the registry does not exist. For an item of version 0.1.0, which names none, it is true.
func (b belongs) gone() bool {
	_, err := os.Lstat(b.Registry)
	return errors.Is(err, fs.ErrNotExist)
}

// known returns b, or a default: the home directory that the system knows for the user, and the registry there.
// The default applies to items of version 0.1.0, and if the registry is gone, for example after a home directory
// was moved.
func (b belongs) known() belongs {
	if b.gone() {
		b.Home = lockfile.OwnHome()
		b.Registry = paths.RegistryBelow(b.Home)
	}
	return b
}

// ours returns what a new item belongs to.
func (e *errand) ours() belongs { return belongs{e.Registry, paths.Home()} }

// admit refuses access to an item that belongs to another registry or home, and while the home of the item is
// locked. A registry decides where signed calls go, and a home decides which programs and CAs a "~" in the
// registry means; variables of a shell can redirect both. The registry in the request is a path that the process
// which read the file has resolved: it is only compared, never opened.
func (e *errand) admit(what string, of belongs) error {
	if e.home = of.Home; of.Registry == "" {
		e.home = of.known().Home
	}
	if err := e.refuseLocked(); err != nil {
		return err
	}
	if e.isOurs(of) {
		return nil
	}
	if of = of.known(); e.isOurs(of) {
		return nil
	}
	set, err := e.store.Load(profiles.Files{Registry: of.Registry})
	if err != nil {
		return err
	}
	settings, err := set.Settings()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(settings.Registries, e.uses) {
		return nil
	}
	f := fault.New(fault.NotConfirmed, "the registry %s may not use %s, which belongs to the registry %s and the home %s"+
		"; allow it only if you alone wrote that registry: it decides where signed calls go",
		e.Registry, what, of.Registry, cmp.Or(of.Home, "(none)"))
	separator := string(os.PathListSeparator)
	if strings.Contains(e.Registry, separator) {
		return fault.New(fault.Config, "%w; a path that contains %q cannot be allowed", f, separator)
	}
	return f.WithHint("env BROKER_CONFIG=%s broker config set registry %s", of.Registry,
		strings.Join(append(settings.Registries, e.Registry), separator))
}

// isOurs reports whether an item belongs to our registry and our home.
func (e *errand) isOurs(of belongs) bool {
	home := system.RealPath(of.Home)
	return e.uses(of.Registry) && (of.Home == "" || home != "" && home == system.RealPath(paths.Home()))
}

// uses reports whether a path leads to the registry of the request. A path that cannot be resolved never does,
// even if that of the request cannot be resolved either: both are empty then.
func (e *errand) uses(registry string) bool {
	return e.Registry != "" && e.Registry == system.RealPath(registry)
}

// admitNew is admit for new items, and for calls to AWS before they are stored. It refuses if the home directory
// of this process has a registry but variables lead to another one.
func (e *errand) admitNew() error {
	usual := belongs{paths.RegistryBelow(paths.Home()), paths.Home()}
	if _, err := os.Lstat(usual.Registry); err != nil || e.uses(usual.Registry) {
		return nil
	}
	return e.admit("the keyring", usual)
}

// admitItem is admit for a key.
func (e *errand) admitItem(it item) error {
	return e.admit(fmt.Sprintf("the key of source %q", it.Name), it.belongs)
}

// refuseLocked is vault.RefuseLocked for this request. Once the key has been read, it also checks the lock of the
// key's home.
func (e *errand) refuseLocked() error {
	if err := vault.RefuseLocked(e.Op, e.StateDir); err != nil {
		return err
	}
	return lockfile.RefuseHome(e.home)
}
