package cli

import (
	"context"
	"os"
	"strings"

	"broker/internal/client"
	"broker/internal/environ"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/wire"
)

// emptyEnv has no variables: a command takes no route from the environment of its shell.
func emptyEnv(string) string { return "" }

// route is the way to AWS for what a command asks itself: that of the settings.
func (p *program) route() profiles.Route {
	return p.store.Latest(p.paths.Registry)().Route(emptyEnv)
}

// vaultEnv is the environment for the vault processes of a command: what the daemon's would have.
func (p *program) vaultEnv() []string {
	env := environ.Build(os.Environ(), p.paths, false)
	for name, value := range p.store.Latest(p.paths.Registry)().Variables(os.Getenv("HOME")) {
		env = append(env, name+"="+value)
	}
	// A person may be asked by gpg on the terminal of this very command.
	if tty := os.Getenv("GPG_TTY"); strings.HasPrefix(tty, "/dev/") {
		env = append(env, "GPG_TTY="+tty)
	}
	return env
}

// explainRoute adds to a failed call where the variables of this shell differ from the route that the call took.
func (p *program) explainRoute(err error) error {
	f := fault.Of(err)
	if err == nil || f.Kind != fault.Network && f.Kind != fault.BadAnswer {
		return err
	}
	route := client.Public(wire.Route(p.route()))
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
	t, err := p.openTerminal()
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
