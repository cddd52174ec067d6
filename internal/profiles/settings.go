package profiles

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"broker/internal/fault"
)

// Bounds of session_duration. AWS allows GetSessionToken 15 minutes to 36 hours.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
const (
	minSession = 15 * time.Minute
	maxSession = 36 * time.Hour
)

// A settingKey is one key that [settings] may have.
type settingKey struct {
	name     string
	values   string // the possible ones, for people
	fallback string // the default, as it would be written; empty where there is none
	// read checks a value and puts it into the settings. Its error follows the key's name in a message
	// and never quotes the value.
	read func(*Settings, string) error
	// apart says that another function reads the key, so that a wrong value does not stop Settings.
	apart bool
}

// settingKeys are all keys of [settings]. A new one is one row here, and its line in docs/settings.md.
var settingKeys = []settingKey{
	{name: keyKeyringBackend, values: "a name of `broker keyring list`", read: func(s *Settings, v string) error {
		s.KeyringBackend = v
		return nil
	}},
	{name: keySessionDuration, values: "15m to 36h", fallback: "12h", read: func(s *Settings, v string) (err error) {
		s.SessionDuration, err = ParseDuration(v)
		if err == nil && (s.SessionDuration < minSession || s.SessionDuration > maxSession) {
			err = errors.New("is not between 15m and 36h")
		}
		return err
	}},
	{name: keyLockAfter, values: "a time such as 8h; 0 is never", fallback: "0",
		read: func(s *Settings, v string) (err error) {
			s.LockAfter, err = ParseDuration(v)
			return err
		}},
	{name: keyLockOn, values: "suspend, screen", read: func(s *Settings, v string) (err error) {
		s.LockOn, err = words(v, "suspend", "screen")
		return err
	}},
	{name: keyMFAPrompt, values: "tty, gui", fallback: "tty,gui", read: func(s *Settings, v string) (err error) {
		s.MFAPrompt, err = words(v, "tty", "gui")
		return err
	}},
	{name: keyAudit, values: "optional, required", fallback: "optional", read: func(s *Settings, v string) error {
		if v != "required" && v != "optional" {
			return errors.New(`is neither "optional" nor "required"`)
		}
		s.AuditRequired = v == "required"
		return nil
	}},
	{name: keySTSEndpoint, values: "an https URL, or http on loopback", read: func(s *Settings, v string) error {
		s.STSEndpoint = v
		return checkEndpoint(v)
	}},
	{name: keyCatalog, values: "a path or a git repository", read: func(s *Settings, v string) error {
		s.Catalog = ExpandHome(v)
		return nil
	}},
	{name: keyCatalogPath, values: "a path in the repository", read: func(s *Settings, v string) error {
		s.CatalogPath = v
		return nil
	}},
	{name: keyHTTPSProxy, values: "a URL with http, https, socks5 or socks5h", read: func(s *Settings, v string) error {
		s.HTTPSProxy = v
		return CheckProxy(v)
	}},
	{name: keyNoProxy, values: "hosts with commas between", read: func(s *Settings, v string) error {
		s.NoProxy = v
		return nil
	}},
	{name: keyCABundle, values: "a PEM file of certificates", read: func(s *Settings, v string) error {
		s.CABundle = ExpandHome(v)
		return checkHomePath(v)
	}},
	{name: keyRegistry, values: "absolute paths of files, separated as in PATH",
		read: func(s *Settings, v string) (err error) {
			s.Registries, err = absolutePaths(v, func(path string) string { return path }) // HOME may be another one
			return err
		}},
	{name: keyPath, values: "directories, separated as in PATH", read: func(s *Settings, v string) (err error) {
		s.Path, err = absolutePaths(v, ExpandHome)
		return err
	}},
	{name: keyGnuPGHome, values: "a directory", read: func(s *Settings, v string) error {
		s.GnuPGHome = ExpandHome(v)
		return checkHomePath(v)
	}},
	{name: keyPasswordStore, values: "a directory", read: func(s *Settings, v string) error {
		s.PasswordStoreDir = ExpandHome(v)
		return checkHomePath(v)
	}},
	{name: keyBrowser, values: "a command", apart: true, read: func(_ *Settings, v string) error { // see Browser
		return checkCommand(v)
	}},
}

// settingNames are the keys of [settings], for the parser.
func settingNames() map[string]string {
	m := make(map[string]string, len(settingKeys))
	for _, k := range settingKeys {
		m[k.name] = k.name
	}
	return m
}

// Settings returns the [settings] of the registry, with defaults where it says
// nothing. Durations are written as 12h, 90m or a number of seconds. The error
// is a fault.Config that names file and line.
func (s *Set) Settings() (Settings, error) {
	out := Settings{Origins: map[string]Origin{}}
	b := s.block(registryFile, SectionSettings, "")
	for i := range settingKeys {
		k := &settingKeys[i]
		if set := b.find(k.name); set != nil {
			o := Origin{b.origin.File, set.line}
			if err := k.read(&out, set.value); err != nil && !k.apart {
				return Settings{}, fault.New(fault.Config, "%s: %s %w", o, k.name, err).
					WithHint("broker config set %s VALUE", k.name)
			}
			out.Origins[k.name] = o
		} else if k.fallback != "" {
			if err := k.read(&out, k.fallback); err != nil {
				return Settings{}, fault.New(fault.Internal, "the default of %s %w", k.name, err)
			}
		}
	}
	return out, nil
}

// SettingKeys are the keys that [settings] may have.
func SettingKeys() []string {
	names := make([]string, len(settingKeys))
	for i, k := range settingKeys {
		names[i] = k.name
	}
	return names
}

// Setting is one key of [settings] as the registry has it.
type Setting struct {
	Key     string
	Values  string // the possible ones, for people
	Value   string // as it is written; empty where the registry does not say
	Default string // as it would be written; empty where there is none
	Origin  Origin // the line of the value; the zero Origin where the registry does not say
}

// AllSettings lists the keys of [settings], in the order of the documentation, whether or not the registry has them.
// It checks no value.
func (s *Set) AllSettings() []Setting {
	b := s.block(registryFile, SectionSettings, "")
	all := make([]Setting, 0, len(settingKeys))
	for _, k := range settingKeys {
		one := Setting{Key: k.name, Values: k.values, Default: k.fallback}
		if set := b.find(k.name); set != nil {
			one.Value, one.Origin = set.value, Origin{b.origin.File, set.line}
		}
		all = append(all, one)
	}
	return all
}

// CheckSetting says whether [settings] may have this key with this value, by the rules of Settings, and returns the
// key in its own spelling. An empty value checks the key alone. The error is a fault.Usage; of an unknown key it
// names up to three near ones.
func CheckSetting(key, value string) (string, error) {
	for _, k := range settingKeys {
		if !strings.EqualFold(k.name, key) {
			continue
		}
		if value == "" {
			return k.name, nil
		}
		if err := k.read(new(Settings), value); err != nil {
			return "", fault.New(fault.Usage, "%s %w", k.name, err).WithHint("broker config list")
		}
		return k.name, nil
	}
	message := fmt.Sprintf("%.40q is not a setting", key)
	if near := Nearest(key, slices.Values(SettingKeys()), 3); len(near) > 0 {
		message += "; did you mean " + orList(near) + "?"
	}
	return "", fault.New(fault.Usage, "%s", message).WithHint("broker config list")
}

// ParseDuration reads 12h, 90m or a number of seconds. The error goes on after the name of what it is about.
func ParseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if n, errn := strconv.ParseInt(s, 10, 32); errn == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 0 {
		return 0, errors.New("is not a duration such as 12h, 90m or 3600")
	}
	return d, nil
}

// CheckProxy accepts the URL of a proxy for https: a scheme, a host, a port, and a name with a password. The error does
// not repeat it: there may be a password in it.
func CheckProxy(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "":
		return errors.New("is not a URL such as http://proxy.example.com:3128; " +
			"in a password write # as %23, / as %2F and @ as %40")
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" && u.Scheme != "socks5h":
		return errors.New("is not a URL with http, https, socks5 or socks5h, such as http://proxy.example.com:3128")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return errors.New("has more than a scheme, a host and a port, as in http://proxy.example.com:3128; " +
			"in a password write # as %23, / as %2F and ? as %3F")
	}
	return nil
}

// absolutePaths reads a list of paths such as "/opt/tools/bin:~/bin". Who may write to them is looked at where they are
// used.
func absolutePaths(s string, expand func(string) string) ([]string, error) {
	var list []string
	for _, path := range filepath.SplitList(s) {
		path = expand(path)
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("holds %q, which is not an absolute path", path)
		}
		list = append(list, path)
	}
	return list, nil
}

// words reads a list such as "tty,gui", of two words that there are, each at most once.
func words(s, one, other string) ([]string, error) {
	var list []string
	for word := range strings.SplitSeq(s, ",") {
		word = strings.TrimSpace(word)
		if word != one && word != other || slices.Contains(list, word) {
			return nil, fmt.Errorf("is not a list of %q and %q", one, other)
		}
		list = append(list, word)
	}
	return list, nil
}
