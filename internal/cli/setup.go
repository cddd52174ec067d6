package cli

import (
	"cmp"
	"context"
	"os"
	"strings"
	"sync/atomic"

	"broker/internal/client"
	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/wire"
)

// latest returns the settings as they were read last: settings that are broken change nothing. It reads the registry
// alone, so that no AWS file that is broken, or that another program keeps writing, takes part in it.
func (p *program) latest(store *profiles.Store) func() profiles.Settings {
	var last atomic.Pointer[profiles.Settings]
	files := profiles.Files{Registry: p.paths.Registry}
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

// routeOf is the way to AWS: what the settings say, else what a service unit does. env is an environment that environ
// built, in which the variables are of a unit.
func routeOf(settings profiles.Settings, env func(string) string) profiles.Route {
	return profiles.Route{
		HTTPSProxy: cmp.Or(settings.HTTPSProxy, env("HTTPS_PROXY")),
		NoProxy:    cmp.Or(settings.NoProxy, env("NO_PROXY")),
		CABundle:   cmp.Or(settings.CABundle, env("AWS_CA_BUNDLE")),
	}
}

// publicRoute is a route without its passwords, which others may see.
func publicRoute(r profiles.Route) wire.Route {
	return wire.Route{HTTPSProxy: client.WithoutPassword(r.HTTPSProxy), NoProxy: r.NoProxy, CABundle: r.CABundle}
}

// emptyEnv has no variables: a command takes no route from the environment of its shell.
func emptyEnv(string) string { return "" }

// route is the way to AWS for what a command asks itself: that of the settings.
func (p *program) route() profiles.Route {
	return routeOf(p.latest(&p.store)(), emptyEnv)
}

// fromSettings are the variables that come from the settings.
func fromSettings(home string, settings profiles.Settings) map[string]string {
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

// vaultEnv is the environment for the vault processes of a command: what the daemon's would have.
func (p *program) vaultEnv() []string {
	env := environ.Build(os.Environ(), p.paths, false)
	for name, value := range fromSettings(os.Getenv("HOME"), p.latest(&p.store)()) {
		env = append(env, name+"="+value)
	}
	// A person may be asked by gpg on the terminal of this very command.
	if tty := os.Getenv("GPG_TTY"); strings.HasPrefix(tty, "/dev/") {
		env = append(env, "GPG_TTY="+tty)
	}
	return env
}

// setup is what status tells of a daemon.
func (p *program) setup(settings profiles.Settings) wire.Setup {
	_, refused := environ.Path(os.Getenv("HOME"), settings.Path)
	return wire.Setup{
		Registry: p.paths.Registry, StateDir: p.paths.State, KeyringDir: p.paths.Keyring, Socket: p.paths.Socket,
		Route: publicRoute(routeOf(settings, os.Getenv)), Path: settings.Path, LeftOut: append(environ.Dropped(), refused...),
	}
}

// follow takes over from the settings what the daemon's children find in their environment. What a unit says holds
// where the settings say nothing.
func follow() func(profiles.Settings) {
	unit := map[string]string{"GNUPGHOME": os.Getenv("GNUPGHOME"), "PASSWORD_STORE_DIR": os.Getenv("PASSWORD_STORE_DIR")}
	last := ""
	return func(settings profiles.Settings) {
		key := strings.Join(append(settings.Path, settings.GnuPGHome, settings.PasswordStoreDir), "\n")
		if key == last {
			return
		}
		last = key
		vars := fromSettings(os.Getenv("HOME"), settings)
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

// explainRoute adds to a failed call where the variables of this shell differ from the route that the call took.
func (p *program) explainRoute(err error) error {
	f := fault.Of(err)
	if err == nil || f.Kind != fault.Network && f.Kind != fault.BadAnswer {
		return err
	}
	route := publicRoute(p.route())
	return client.OtherRoute(f, &route)
}

// A shellSetting is a variable of this shell that the settings could keep.
type shellSetting struct{ variable, setting, value string }

// offerShell offers to keep in the settings what this shell has for the way to AWS, and the settings do not: the
// daemon takes nothing of that from a shell. Without a terminal, or with yes, it says what to type.
func (p *program) offerShell(ctx context.Context, settings profiles.Settings, backend string, yes bool) error {
	var list []shellSetting
	add := func(setting, have string, variables ...string) {
		for _, name := range variables {
			if value := os.Getenv(name); value != "" && have == "" {
				list = append(list, shellSetting{name, setting, value})
				return
			}
		}
	}
	add("https_proxy", settings.HTTPSProxy, "HTTPS_PROXY", "https_proxy")
	add("no_proxy", settings.NoProxy, "NO_PROXY", "no_proxy")
	add("ca_bundle", settings.CABundle, "AWS_CA_BUNDLE")
	if backend == "pass" {
		add("gnupg_home", settings.GnuPGHome, "GNUPGHOME")
		add("password_store_dir", settings.PasswordStoreDir, "PASSWORD_STORE_DIR")
	}
	if len(list) == 0 {
		return nil
	}
	var say []string
	for i, l := range list {
		if l.setting == "https_proxy" {
			list[i].value = client.ProxyURL(l.value)
		}
		say = append(say, l.variable+"="+fault.Line(client.WithoutPassword(list[i].value)))
	}
	if yes || !hasTerminal() {
		for _, l := range list {
			hint := fault.Hintf("broker config set %s %s", l.setting, client.WithoutPassword(l.value))
			p.warn([]string{"your shell has " + l.variable + ", which Broker takes from its settings alone; " + string(hint)})
		}
		return nil
	}
	t, err := openTerminal()
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }()
	question := "Your shell has " + strings.Join(say, ", ") + ".\nKeep it in the settings, for all calls to AWS? [y/N] "
	answer, err := t.line(ctx, question)
	if err != nil || !strings.EqualFold(answer, "y") && !strings.EqualFold(answer, "yes") {
		return err
	}
	var keys []profiles.KeyValue
	for _, l := range list {
		if _, err := checkSetting(l.setting, l.value); err != nil {
			return fault.New(fault.Usage, "%s of this shell: %w", l.variable, err).
				WithHint("broker config set %s VALUE", l.setting)
		}
		keys = append(keys, profiles.KeyValue{Key: l.setting, Value: l.value})
	}
	return p.editRegistry(func(src []byte) ([]byte, error) {
		return profiles.SetSection(src, profiles.SectionSettings, "", keys)
	})
}
