package profiles

import (
	"cmp"
	"reflect"
	"sync/atomic"

	"broker/internal/environ"
)

// This file derives what the daemon and the commands use from the settings. Nothing comes from a shell's environment.

// Latest returns a function that returns the settings as of their last successful read, or the zero Settings
// before the first one. It reads only the registry. A broken AWS file, or one that another program keeps
// rewriting, does not affect it.
func (s *Store) Latest(registry string) func() Settings {
	var last atomic.Pointer[Settings]
	files := Files{Registry: registry}
	return func() Settings {
		if set, err := s.Load(files); err == nil {
			if settings, err := set.Settings(); err == nil {
				last.Store(&settings)
			}
		}
		if settings := last.Load(); settings != nil {
			return *settings
		}
		return Settings{}
	}
}

// Route returns how to reach AWS: from the settings, or else from the service unit's environment. env looks up a
// variable of the unit.
func (s Settings) Route(env func(string) string) Route {
	return Route{
		HTTPSProxy: cmp.Or(s.HTTPSProxy, environ.ProxyURL(env("HTTPS_PROXY"))),
		NoProxy:    cmp.Or(s.NoProxy, env("NO_PROXY")),
		CABundle:   cmp.Or(s.CABundle, env("AWS_CA_BUNDLE")),
	}
}

// Same reports whether two Settings hold the same values. It ignores the lines that the values were read from.
func (s *Settings) Same(other *Settings) bool {
	a, b := *s, *other
	a.Origins, b.Origins = nil, nil
	return reflect.DeepEqual(a, b)
}

// Variables returns the environment variables that the settings give to the programs that Broker starts. home is
// the home directory that PATH is built for.
func (s Settings) Variables(home string) map[string]string {
	path, _ := environ.Path(home, s.Path)
	vars := map[string]string{"PATH": path}
	if s.GnuPGHome != "" {
		vars["GNUPGHOME"] = s.GnuPGHome
	}
	if s.PasswordStoreDir != "" {
		vars["PASSWORD_STORE_DIR"] = s.PasswordStoreDir
	}
	return vars
}
