package profiles

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"broker/internal/fault"
)

// The bounds of session_duration. AWS allows 15 minutes to 36 hours for GetSessionToken.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
const (
	minSession = 15 * time.Minute
	maxSession = 36 * time.Hour
)

// A settingKey describes one key of [settings].
type settingKey struct {
	name     string
	values   string // possible values, for people
	fallback string // the default, as a user would write it; empty if there is none
	// read checks a value and stores it in the settings. Its error continues the key's name in a message and never
	// quotes the value.
	read func(*Settings, string) error
	// apart means that another function reads the key, so that Settings does not fail for a wrong value.
	apart bool
}

// settingKeys lists all keys of [settings]. A new key needs one row here and a line in docs/settings.md.
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
	{name: keyLockAfter, values: "a duration such as 8h; 0 means never", fallback: "0",
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
	{name: keyNotices, values: "on, off", fallback: "on", read: func(s *Settings, v string) error {
		if v != "on" && v != "off" {
			return errors.New(`is neither "on" nor "off"`)
		}
		s.Notices = v == "on"
		return nil
	}},
	{name: keyAudit, values: "optional, required", fallback: "optional", read: func(s *Settings, v string) error {
		if v != "required" && v != "optional" {
			return errors.New(`is neither "optional" nor "required"`)
		}
		s.AuditRequired = v == "required"
		return nil
	}},
	{name: keyMaxAge, values: "a number of days such as 90d", read: func(s *Settings, v string) (err error) {
		if s.MaxAge, err = ParseDuration(v); err != nil || s.MaxAge == 0 || s.MaxAge%day != 0 {
			return errors.New("is not a number of days such as 90d")
		}
		return nil
	}},
	{name: keyGuardCommands, values: "patterns with commas between; default means the list of the documentation",
		fallback: "default", apart: true, read: func(_ *Settings, v string) error {
			_, err := parseCommands(v)
			return err
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
			s.Registries, err = absolutePaths(v, func(path string) string { return path }) // as written: HOME may differ
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

// Settings returns the [settings] of the registry, with defaults for missing keys. Durations have units, such as
// 12h or 90m. The error is a fault.Config with file and line.
func (s *Set) Settings() (Settings, error) {
	out := Settings{Origins: map[string]Origin{}}
	b := s.block(registryFile, SectionSettings, "")
	for i := range settingKeys {
		k := &settingKeys[i]
		if set := b.find(k.name); set != nil {
			o := Origin{b.origin.File, set.line}
			if k.apart {
				out.Origins[k.name] = o
				continue
			}
			if err := k.read(&out, set.value); err != nil {
				return Settings{}, fault.New(fault.Config, "%s: %s %w", o, k.name, err).WithHint("%s", k.mend(err))
			}
			out.Origins[k.name] = o
		} else if k.fallback != "" && !k.apart {
			if err := k.read(&out, k.fallback); err != nil {
				return Settings{}, fault.New(fault.Internal, "the default of %s %w", k.name, err)
			}
		}
	}
	return out, nil
}

// SettingKeys returns the keys that [settings] may have.
func SettingKeys() []string {
	names := make([]string, len(settingKeys))
	for i, k := range settingKeys {
		names[i] = k.name
	}
	return names
}

// SettingWords returns the possible values of a setting that takes fixed words, such as "optional" and "required"
// for audit. It is empty for other settings.
func SettingWords(key string) (list []string) {
	for i := range settingKeys {
		k := &settingKeys[i]
		for word := range strings.SplitSeq(k.values, ", ") {
			if k.name == key && !strings.Contains(word, " ") {
				list = append(list, word)
			}
		}
	}
	return list
}

// Setting is one key of [settings], as written in the registry.
type Setting struct {
	Key     string
	Values  string // possible values, for people
	Value   string // as written; empty if the registry does not set it
	Default string // as a user would write it; empty if there is none
	Origin  Origin // the line of the value; the zero Origin if the registry does not set it
}

// AllSettings lists the keys of [settings] in the order of the documentation, whether or not the registry sets
// them. It checks no value.
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

// CheckSetting checks whether [settings] may have this key with this value, by the rules of Settings, and returns
// the key in its canonical spelling. With an empty value it checks only the key. The error is a fault.Usage; for
// an unknown key it lists up to three similar ones.
func CheckSetting(key, value string) (string, error) {
	for _, k := range settingKeys {
		if !strings.EqualFold(k.name, key) {
			continue
		}
		if value == "" {
			return k.name, nil
		}
		if err := k.read(new(Settings), value); err != nil {
			f := fault.New(fault.Usage, "%s %w", k.name, err).WithHint("broker config list")
			if errors.As(err, new(noUnit)) {
				f = f.WithHint("%s", k.mend(err))
			}
			return "", f
		}
		return k.name, nil
	}
	return "", fault.New(fault.Usage, "%.40q is not a setting%s", key,
		didYouMean(Nearest(key, slices.Values(SettingKeys()), 3))).WithHint("broker config list")
}

// ParseDuration reads a duration with units, such as 12h, 90m, 1h30m or 7d; 0 needs no unit. A day has 24 hours, and
// days come first. The error continues the name of the setting or flag in a message.
func ParseDuration(s string) (time.Duration, error) {
	wrong := errors.New("is not a duration such as 12h, 90m, 1h30m or 7d")
	if n, err := strconv.ParseUint(s, 10, 31); err == nil && n > 0 {
		return 0, noUnit(n)
	}
	var long time.Duration
	if count, rest, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseUint(count, 10, 16)
		if err != nil {
			return 0, wrong
		}
		if long, s = time.Duration(n)*day, rest; s == "" {
			return long, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > math.MaxInt64-long {
		return 0, wrong
	}
	return long + d, nil
}

// FormatDuration writes a duration in whole seconds, without zero units at the end: 8h, 1h30m, 20s. From two
// whole days on, it writes days: 24h, 36h, 2d, 7d.
func FormatDuration(d time.Duration) string {
	if d >= 2*day && d%day == 0 {
		return strconv.Itoa(days(d)) + "d"
	}
	text := d.Round(time.Second).String()
	if rest, ok := strings.CutSuffix(text, "m0s"); ok {
		text = rest + "m"
	}
	if rest, ok := strings.CutSuffix(text, "h0m"); ok {
		text = rest + "h"
	}
	return text
}

// noUnit is the error for a duration that is a plain number.
type noUnit uint64

func (n noUnit) Error() string { return "has no unit; write " + n.example() }

// example returns the number with the most likely unit: nobody means 8 seconds by 8, 15 hours by 15, or 3600 hours by
// 3600.
func (n noUnit) example() string {
	switch {
	case n <= 12, n == 24:
		return fmt.Sprintf("%dh", n)
	case n < 900:
		return fmt.Sprintf("%dm", n)
	}
	return fmt.Sprintf("%ds", n)
}

// mend returns the command that replaces a wrong value.
func (k *settingKey) mend(err error) fault.Hint {
	if n, ok := errors.AsType[noUnit](err); ok {
		return fault.Hintf("broker config set %s %s", k.name, n.example())
	}
	return fault.Hintf("broker config set %s VALUE", k.name)
}

// CheckProxy accepts the URL of an https proxy: scheme, host, port, and a user name with a password. The error
// does not quote the URL, since it may contain a password.
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

// absolutePaths reads a list of paths such as "/opt/tools/bin:~/bin". Whether other users can write to them is
// checked where they are used.
func absolutePaths(s string, expand func(string) string) ([]string, error) {
	var list []string
	for _, path := range filepath.SplitList(s) {
		path = expand(path)
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("contains %q, which is not an absolute path", path)
		}
		list = append(list, path)
	}
	return list, nil
}

// words reads a list such as "tty,gui": of the two allowed words, each at most once.
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
