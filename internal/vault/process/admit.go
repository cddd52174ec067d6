package process

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/latch"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/system"
	"broker/internal/vault"
)

// belongs says to whom something in the keyring belongs.
type belongs struct {
	// Registry is the registry under which it was stored, and Home the home directory whose lock closes it. Both are
	// absolute. They are empty in items of version 0.1.0; Home is also empty if there was no home directory.
	Registry string `json:"registry,omitempty"`
	Home     string `json:"home,omitempty"`
}

// gone reports whether the registry is not there. That of an item of version 0.1.0, which names none, is not.
func (b belongs) gone() bool {
	_, err := os.Lstat(b.Registry)
	return errors.Is(err, fs.ErrNotExist)
}

// known is what belongs says. For an item of version 0.1.0, and if that registry is gone, as after a home directory was
// moved, it is the home that the system knows for the user, and the registry there.
func (b belongs) known() belongs {
	if b.gone() {
		b.Home = latch.OwnHome()
		b.Registry = paths.RegistryBelow(b.Home)
	}
	return b
}

// ours is to whom something belongs that is stored now.
func (e *errand) ours() belongs { return belongs{e.Registry, paths.Home()} }

// admit refuses the use of what belongs to another registry or to another home, and while that home is locked. A
// registry says where signed calls go. A home says which programs and CAs a "~" in the registry means. Variables of a
// shell can move both. The registry of the request is a path as the process that read the file had resolved it: it is
// compared, never looked at.
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
		"; allow it only if nobody else wrote it: it says where signed calls go",
		e.Registry, what, of.Registry, cmp.Or(of.Home, "(none)"))
	separator := string(os.PathListSeparator)
	if strings.Contains(e.Registry, separator) {
		return fault.New(fault.Config, "%w; a path with a %q in it cannot be allowed", f, separator)
	}
	return f.WithHint("env BROKER_CONFIG=%s broker config set registry %s", of.Registry,
		strings.Join(append(settings.Registries, e.Registry), separator))
}

// isOurs reports whether something belongs to our registry and our home.
func (e *errand) isOurs(of belongs) bool {
	home := system.RealPath(of.Home)
	return e.uses(of.Registry) && (of.Home == "" || home != "" && home == system.RealPath(paths.Home()))
}

// uses reports whether a path leads to the registry of the request. One that cannot be followed does not, even if that
// of the request cannot be, either: both are empty then.
func (e *errand) uses(registry string) bool {
	return e.Registry != "" && e.Registry == system.RealPath(registry)
}

// admitNew is admit for what would be stored, and for what is asked of AWS before: the home of this process has a
// registry, and variables lead to another.
func (e *errand) admitNew() error {
	usual := belongs{paths.RegistryBelow(paths.Home()), paths.Home()}
	if _, err := os.Lstat(usual.Registry); err != nil || e.uses(usual.Registry) {
		return nil
	}
	return e.admit("the keyring", usual)
}

// admitItem is admit for a key.
func (e *errand) admitItem(it item) error {
	return e.admit("the key of source "+it.Name, it.belongs)
}

// refuseLocked is vault.RefuseLocked for this request. It also goes by the home of the key, once that was read.
func (e *errand) refuseLocked() error {
	if err := vault.RefuseLocked(e.Op, e.StateDir); err != nil {
		return err
	}
	return latch.RefuseHome(e.home)
}
