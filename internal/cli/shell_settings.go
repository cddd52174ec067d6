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

// emptyEnv returns no variables, because a command takes no route from the environment of its shell.
func emptyEnv(string) string { return "" }

// route returns the route to AWS for the calls of a command itself: the route in the settings.
func (p *program) route() profiles.Route {
	return p.store.Latest(p.paths.Registry)().Route(emptyEnv)
}

// vaultEnv returns the environment for the vault processes of a command, the same as the daemon would use.
func (p *program) vaultEnv() []string {
	env := environ.Build(os.Environ(), p.paths, false)
	for name, value := range p.store.Latest(p.paths.Registry)().Variables(os.Getenv("HOME")) {
		env = append(env, name+"="+value)
	}
	// gpg may prompt on the terminal of this command.
	if tty := os.Getenv("GPG_TTY"); strings.HasPrefix(tty, "/dev/") {
		env = append(env, "GPG_TTY="+tty)
	}
	return env
}

// explainRoute adds to a failed call how the variables of this shell differ from the route that the call took.
func (p *program) explainRoute(err error) error {
	f := fault.Of(err)
	if err == nil || f.Kind != fault.Network && f.Kind != fault.BadAnswer {
		return err
	}
	route := client.Public(wire.Route(p.route()))
	return client.OtherRoute(f, &route)
}

// A shellSetting is a variable of this shell that can be kept in the settings.
type shellSetting struct{ variable, setting, value string }

// shellSettings returns the variables that the settings lack. The daemon takes no route to AWS from a shell. For a
// proxy that is not valid, shellSettings prints a warning.
func (p *program) shellSettings(settings profiles.Settings, backend string) []shellSetting {
	var list []shellSetting
	add := func(setting, have string, variables ...string) {
		for _, name := range variables {
			if value := os.Getenv(name); value != "" && have == "" {
				if setting == "https_proxy" {
					value = environ.ProxyURL(value)
					if err := profiles.CheckProxy(value); err != nil {
						p.warn([]string{name + " of this shell " + err.Error() +
							"; Broker takes it from its settings: broker config set https_proxy URL"})
						return
					}
				}
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
	return list
}

// shown returns the variable with its value, for people.
func (l shellSetting) shown() string {
	return l.variable + "=" + fault.Line(client.WithoutPassword(l.value))
}

// command returns the command that keeps the variable in the settings. A password has to be added by hand.
func (l shellSetting) command() fault.Hint {
	return fault.Hintf("broker config set %s %s", l.setting, client.WithoutPassword(l.value))
}

// offerShell offers to keep in the settings what this shell sets and the settings lack. Without a terminal, or with
// yes, it prints the command to run.
func (p *program) offerShell(ctx context.Context, settings profiles.Settings, backend string, yes bool) error {
	list := p.shellSettings(settings, backend)
	if len(list) == 0 {
		return nil
	}
	if yes || !hasTerminal() {
		for _, l := range list {
			p.warn([]string{"your shell has " + l.variable + ", which Broker reads only from its settings; " +
				string(l.command())})
		}
		return nil
	}
	var say []string
	for _, l := range list {
		say = append(say, l.shown())
	}
	question := "Your shell has " + strings.Join(say, ", ") + ".\nKeep it in the settings, for all calls to AWS? [y/N] "
	answer, err := p.question(ctx, question)
	if err != nil || !yesIs(answer) {
		return err
	}
	return p.keepShell(list)
}

// keepShell writes the variables to the settings.
func (p *program) keepShell(list []shellSetting) error {
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
