package profiles

import (
	"cmp"
	"reflect"
	"sync/atomic"

	"broker/internal/environ"
)

// What daemon and commands make of the settings. None of it comes from the environment of a shell.

// Latest returns the settings as they were last read without an error, or none. It reads the registry alone, so no AWS
// file that is broken, or that another program keeps writing, takes part in it.
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

// Route is the way to AWS: what the settings say, else what a service unit says. env looks up a variable of the unit.
func (s Settings) Route(env func(string) string) Route {
	return Route{
		HTTPSProxy: cmp.Or(s.HTTPSProxy, environ.ProxyURL(env("HTTPS_PROXY"))),
		NoProxy:    cmp.Or(s.NoProxy, env("NO_PROXY")),
		CABundle:   cmp.Or(s.CABundle, env("AWS_CA_BUNDLE")),
	}
}

// Same reports whether two states of the settings have the same values, on whichever lines.
func (s *Settings) Same(other *Settings) bool {
	a, b := *s, *other
	a.Origins, b.Origins = nil, nil
	return reflect.DeepEqual(a, b)
}

// Variables returns the variables that the settings give to what Broker starts; home is for the PATH.
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
