package vault

import (
	"os"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/latch"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/system"
)

// admit refuses the use of a key to a registry that it does not belong to, and while its home is locked. A registry says
// where signed calls go, and a variable of a shell can move the registry or the home.
func (e *errand) admit(it item) error {
	owner := it.Registry
	if e.home = it.Home; owner == "" { // version 0.1.0 did not note it
		e.home = latch.OwnHome()
		owner = paths.RegistryBelow(e.home)
	}
	if err := e.refuseLocked(); err != nil {
		return err
	}
	if system.SameFile(owner, e.Registry) {
		return nil
	}
	set, err := new(profiles.Store).Load(profiles.Files{Registry: owner})
	if err != nil {
		return err
	}
	settings, err := set.Settings()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(settings.Registries, func(path string) bool { return system.SameFile(path, e.Registry) }) {
		return nil
	}
	f := fault.New(fault.NotConfirmed, "the registry %s may not use the key of source %q, which belongs to the registry %s",
		e.Registry, it.Name, owner)
	separator := string(os.PathListSeparator)
	if strings.Contains(e.Registry, separator) {
		return fault.New(fault.NotConfirmed, "%w; a path with a %q in it cannot be allowed", f, separator)
	}
	return f.WithHint("env BROKER_CONFIG=%s broker config set registry %s", owner,
		strings.Join(append(settings.Registries, e.Registry), separator))
}
