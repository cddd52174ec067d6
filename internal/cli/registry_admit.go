package cli

import (
	"os"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/system"
	"broker/internal/vault"
)

// admitRegistry refuses the keyring to a registry that a variable of the shell names: it could send the keys'
// signatures and codes where it likes. The registry of the home admits others by the setting registry. A file keyring
// that was moved too is not that of the home, and needs no yes.
func (p *program) admitRegistry(backend string) error {
	home := paths.Home()
	if home != "" && (system.SameFile(p.paths.Registry, paths.RegistryBelow(home)) ||
		backend == vault.File && !system.SameFile(p.paths.Keyring, paths.KeyringBelow(home))) {
		return nil
	}
	var admitted []string
	if home != "" {
		set, err := new(profiles.Store).Load(profiles.Files{Registry: paths.RegistryBelow(home)})
		if err != nil {
			return err
		}
		settings, err := set.Settings()
		if err != nil {
			return err
		}
		admitted = settings.Registries
	}
	if slices.ContainsFunc(admitted, func(path string) bool { return system.SameFile(path, p.paths.Registry) }) {
		return nil
	}
	list := strings.Join(append(admitted, p.paths.Registry), string(os.PathListSeparator))
	return fault.New(fault.NotConfirmed, "the registry %s may not use the keys of this home yet", p.paths.Registry).
		WithHint("env -u BROKER_CONFIG -u XDG_CONFIG_HOME broker config set registry %s", list)
}
