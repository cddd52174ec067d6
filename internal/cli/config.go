package cli

import (
	"bytes"
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/bundle"
	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/vault"
)

func (p *program) configCommand() *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "show and change settings",
		UsageText: "broker config list\n" +
			"broker config set lock_after 8h",
		Subcommands: []*cli.Command{
			{
				Name:         "get",
				Usage:        "print the value of a setting, or its default",
				UsageText:    "broker config get lock_after",
				ArgsUsage:    "KEY",
				BashComplete: p.completeFrom(profiles.SettingKeys()),
				Action:       p.configGet,
			},
			{
				Name:         "set",
				Usage:        "check a value and write it to the registry",
				UsageText:    "broker config set lock_after 8h",
				ArgsUsage:    "KEY VALUE",
				Flags:        []cli.Flag{&cli.BoolFlag{Name: "yes", Usage: "do not ask before another registry may use the keys"}},
				BashComplete: p.completeSetting,
				Action:       p.configSet,
			},
			{
				Name:         "unset",
				Usage:        "remove a setting, so that its default applies",
				UsageText:    "broker config unset lock_after",
				ArgsUsage:    "KEY",
				BashComplete: p.completeFrom(profiles.SettingKeys()),
				Action:       p.configUnset,
			},
			{
				Name:  "list",
				Usage: "list all settings with their values, defaults and origins",
				UsageText: "broker config list\n" +
					"broker config list --json",
				Flags:  []cli.Flag{jsonFlag()},
				Action: p.configList,
			},
		},
	}
}

func (p *program) configGet(c *cli.Context) error {
	typed, err := one(c, "key")
	if err != nil {
		return err
	}
	key, err := profiles.CheckSetting(typed, "")
	if err != nil {
		return err
	}
	set, err := p.set()
	if err != nil {
		return err
	}
	for _, s := range set.AllSettings() {
		if value := cmp.Or(s.Value, s.Default); s.Key == key && value != "" {
			p.raw(fault.Line(value))
			return nil
		}
	}
	return exitError(1)
}

func (p *program) configSet(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) > 2 {
		return fault.New(fault.Usage, "config set takes one value; put quotes around a value with blanks").
			WithHint("broker config set %s %s", args[0], strings.Join(args[1:], " "))
	}
	if len(args) != 2 || args[1] == "" {
		return fault.New(fault.Usage, "config set needs a key and its value").WithHint("broker config set KEY VALUE")
	}
	key, err := checkSetting(args[0], args[1])
	if err != nil {
		return err
	}
	if key == "registry" && !c.Bool("yes") {
		if err := p.confirmRegistries(c.Context, args[1]); err != nil {
			return err
		}
	}
	p.auditOptional = key == "audit" && args[1] == "optional"
	err = p.editRegistry(func(src []byte) ([]byte, error) {
		return profiles.SetSection(src, profiles.SectionSettings, "", []profiles.KeyValue{{Key: key, Value: args[1]}})
	})
	if fault.Is(err, fault.Usage) {
		return fault.Of(err).WithHint("broker config list")
	}
	if err != nil {
		return err
	}
	p.say("%s = %s", key, fault.Line(shownSetting(key, args[1])))
	return nil
}

// confirmRegistries shows what each registry in value redirects, unless it may already use the keys of this
// registry, and asks for confirmation.
func (p *program) confirmRegistries(ctx context.Context, value string) error {
	_, settings, err := p.settings()
	if err != nil {
		return err
	}
	asked := false
	for _, path := range filepath.SplitList(value) {
		if slices.Contains(settings.Registries, path) {
			continue
		}
		other, err := p.store.Load(profiles.Files{Registry: path})
		if err != nil {
			return err
		}
		asked = true
		list := other.Redirects()
		p.say("%s decides to which endpoints the keys of %s go, and which programs run for them. It sets:",
			fault.Line(path), fault.Line(p.paths.Registry))
		for _, r := range list {
			p.say("  %s", fault.Line(r.String()))
		}
		if len(list) == 0 {
			p.say("  only sources and roles")
		}
	}
	if !asked {
		return nil
	}
	return p.confirm(ctx, "May it use these keys, even after it changes?")
}

// checkSetting is profiles.CheckSetting, and also checks the file or backend that a value names.
func checkSetting(typed, value string) (key string, err error) {
	if key, err = profiles.CheckSetting(typed, value); err != nil {
		return "", err
	}
	switch key {
	case "ca_bundle":
		_, err = bundle.Read(profiles.ExpandHome(value))
	case "keyring_backend":
		if err = vault.CheckBackend(value); err != nil {
			return "", fault.New(fault.Usage, "%w", err).WithHint("broker keyring list")
		}
	}
	if err != nil {
		return "", fault.New(fault.Usage, "%s: %w", key, err).WithHint("broker config list")
	}
	return key, nil
}

// configUnset removes a key from [settings], wherever it is in that section. It also removes a value that Settings
// refuses, and a key that Broker does not know.
func (p *program) configUnset(c *cli.Context) error {
	typed, err := one(c, "key")
	if err != nil {
		return err
	}
	key, unknown := profiles.CheckSetting(typed, "")
	if unknown != nil {
		key = typed
	}
	removed := false
	p.auditOptional = key == "audit"
	err = p.editRegistry(func(src []byte) ([]byte, error) {
		dst, err := profiles.RemoveKeys(src, profiles.SectionSettings, "", key)
		removed = !bytes.Equal(src, dst)
		return dst, err
	})
	switch {
	case err != nil:
		return err
	case removed:
		p.say("%s is no longer set", fault.Line(key))
		return nil
	case unknown != nil:
		return unknown
	}
	return fault.New(fault.Failed, "%s is not set", key).WithHint("broker config list")
}

// shownSetting returns the value of a setting without the password in a proxy's URL. `config get` prints the full
// value.
func shownSetting(key, value string) string {
	if key == "https_proxy" {
		return client.WithoutPassword(value)
	}
	return value
}

// settingJSON is one setting in `broker config list --json`.
type settingJSON struct {
	Key     string `json:"key"`
	Values  string `json:"values"`          // the possible values, for people
	Value   string `json:"value,omitempty"` // the value in the registry
	Default string `json:"default,omitempty"`
	Origin  string `json:"origin,omitempty"`
}

func (p *program) configList(c *cli.Context) error {
	set, err := p.set()
	if err != nil {
		return err
	}
	out := []settingJSON{}
	for _, s := range set.AllSettings() {
		one := settingJSON{Key: s.Key, Values: s.Values, Value: shownSetting(s.Key, s.Value), Default: s.Default}
		if s.Value != "" {
			one.Origin = s.Origin.String()
		}
		out = append(out, one)
	}
	if c.Bool("json") {
		return p.printJSON(out)
	}
	w := p.table("KEY", "VALUE", "DEFAULT", "FROM", "POSSIBLE VALUES")
	for _, s := range out {
		w.row(s.Key, s.Value, s.Default, s.Origin, s.Values)
	}
	return w.print()
}
