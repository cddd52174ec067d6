// Package setup owns what the settings and this machine say to daemon and commands alike: the way to AWS with its CA
// bundle, the variables of what they start, and the name of role sessions. It refuses to take any of that from the
// environment of a shell.
package setup

import (
	"cmp"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync/atomic"

	"broker/internal/client"
	"broker/internal/environ"
	"broker/internal/lazyregexp"
	"broker/internal/profiles"
	"broker/internal/wire"
)

// Latest returns the settings as they were read last: settings that are broken change nothing. It reads the
// registry alone, so that no AWS file that is broken, or that another program keeps writing, takes part in it.
func Latest(store *profiles.Store, registry string) func() profiles.Settings {
	var last atomic.Pointer[profiles.Settings]
	files := profiles.Files{Registry: registry}
	return func() profiles.Settings {
		if set, err := store.Load(files); err == nil {
			if settings, err := set.Settings(); err == nil {
				last.Store(&settings)
			}
		}
		if settings := last.Load(); settings != nil {
			return *settings
		}
		return profiles.Settings{}
	}
}

// Route is the way to AWS: what the settings say, else what a service unit does. env is an environment that environ
// built, in which the variables are of a unit.
func Route(settings profiles.Settings, env func(string) string) profiles.Route {
	return profiles.Route{
		HTTPSProxy: cmp.Or(settings.HTTPSProxy, env("HTTPS_PROXY")),
		NoProxy:    cmp.Or(settings.NoProxy, env("NO_PROXY")),
		CABundle:   cmp.Or(settings.CABundle, env("AWS_CA_BUNDLE")),
	}
}

// Public is a route without its passwords, which others may see.
func Public(r profiles.Route) wire.Route {
	return wire.Route{HTTPSProxy: client.WithoutPassword(r.HTTPSProxy), NoProxy: r.NoProxy, CABundle: r.CABundle}
}

// Variables are the variables that come from the settings.
func Variables(home string, settings profiles.Settings) map[string]string {
	path, _ := environ.Path(home, settings.Path)
	vars := map[string]string{"PATH": path}
	if settings.GnuPGHome != "" {
		vars["GNUPGHOME"] = settings.GnuPGHome
	}
	if settings.PasswordStoreDir != "" {
		vars["PASSWORD_STORE_DIR"] = settings.PasswordStoreDir
	}
	return vars
}

// notInSessionName is what a role session name may not hold.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
var notInSessionName = lazyregexp.New(`[^\w+=,.@-]+`)

// SessionName is USER@HOST, so that CloudTrail shows who it was. In a container the uid may have no name.
func SessionName() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if name == "" {
		name = "uid-" + strconv.Itoa(os.Getuid())
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	host, _, _ = strings.Cut(host, ".")
	name = notInSessionName.ReplaceAllString(name+"@"+host, "-")
	return name[:min(len(name), 64)]
}
