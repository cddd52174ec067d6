package brokerd

import (
	"os"
	"path/filepath"
	"strings"

	"broker/internal/atomicfile"
	"broker/internal/client"
	"broker/internal/environ"
	"broker/internal/lockfile"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/wire"
)

// setup returns what status shows about a daemon.
func (p *program) setup(settings profiles.Settings) wire.Setup {
	_, refused := environ.Path(os.Getenv("HOME"), settings.Path)
	return wire.Setup{
		Home: paths.Home(), Registry: p.paths.Registry, StateDir: p.paths.State, KeyringDir: p.paths.Keyring,
		Socket: p.paths.Socket,
		Route:  client.Public(wire.Route(settings.Route(os.Getenv))), Path: settings.Path,
		LeftOut: append(environ.Dropped(settings.Has), refused...),
	}
}

// follow returns a function that copies settings into our environment, for the daemon's children. A variable of
// the unit applies if the settings do not set it.
func follow() func(profiles.Settings) {
	unit := map[string]string{"GNUPGHOME": os.Getenv("GNUPGHOME"), "PASSWORD_STORE_DIR": os.Getenv("PASSWORD_STORE_DIR")}
	last := ""
	return func(settings profiles.Settings) {
		key := strings.Join(append(settings.Path, settings.GnuPGHome, settings.PasswordStoreDir), "\n")
		if key == last {
			return
		}
		last = key
		vars := settings.Variables(os.Getenv("HOME"))
		for name, value := range unit {
			if vars[name] == "" && value == "" {
				_ = os.Unsetenv(name)
			} else if vars[name] == "" {
				vars[name] = value
			}
		}
		for name, value := range vars {
			_ = os.Setenv(name, value)
		}
	}
}

// lockPlaces returns the files that lock the daemon. If the home directory is not writable, the daemon writes its
// lock to its state directory.
func (p *program) lockPlaces() lockfile.Places {
	places := lockfile.Find(p.paths.State)
	if places.Moved == "" {
		return places
	}
	dir := filepath.Dir(places.File)
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = atomicfile.Check(places.File)
	}
	if _, none := os.Lstat(places.File); err != nil && none != nil {
		places.File, places.Moved = places.Moved, ""
	}
	return places
}
