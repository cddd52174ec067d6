// Package environ builds the environment of the daemon, which its children inherit: a list of variables that are
// kept after a check, and a PATH that is built and never inherited. So the environment is the same whichever
// shell, service manager or person starts the daemon. Variables that are not on the list are never passed on.
// Proxies and trusted CAs come from the settings or from the service unit, never from a client's shell.
package environ

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"broker/internal/paths"
	"broker/internal/system"
)

// leftOut names the variable that tells the daemon which variables its client left out when it started the daemon:
// names, separated by commas.
const leftOut = "BROKER_LEFT_OUT"

// rule reports whether a value may be kept.
type rule func(value string) bool

// kept returns the variables that are taken from any environment. Build adds the BROKER_* paths.
func kept() map[string]rule {
	return map[string]rule{
		"HOME": filepath.IsAbs, "USER": word, "LOGNAME": word, "TZ": timeZone, "TERM": word,
		"LANG": locale, "LANGUAGE": locale,

		"XDG_RUNTIME_DIR": func(v string) bool { return filepath.IsAbs(v) && system.PrivateDir(v) },
		"XDG_SESSION_ID":  word, "XDG_SESSION_TYPE": word, "XDG_SESSION_DESKTOP": word, "XDG_CURRENT_DESKTOP": locale,
		"DESKTOP_SESSION": word, "KDE_FULL_SESSION": word, "KDE_SESSION_VERSION": word,

		"DBUS_SESSION_BUS_ADDRESS": func(v string) bool { return localBus(v, false) },
		"DISPLAY":                  localDisplay,
		"WAYLAND_DISPLAY":          func(v string) bool { return word(v) || filepath.IsAbs(v) && ours(v) },
		"XAUTHORITY":               func(v string) bool { return filepath.IsAbs(v) && ours(v) },

		// The vault process checks the file itself and reports what is wrong with it.
		"BROKER_KEYRING_PASSPHRASE_FILE": printable,

		// Windows
		"SYSTEMROOT": filepath.IsAbs, "SYSTEMDRIVE": word, "WINDIR": filepath.IsAbs, "USERPROFILE": filepath.IsAbs,
		"USERNAME": word, "APPDATA": filepath.IsAbs, "LOCALAPPDATA": filepath.IsAbs, "PROGRAMDATA": filepath.IsAbs,
	}
}

type unitRule struct {
	ok     rule
	reason string // what to do instead of setting the variable in a shell
}

// ofUnit returns the variables that are taken only from a service manager, because only the user can write a unit.
func ofUnit() map[string]unitRule {
	return map[string]unitRule{
		"HTTPS_PROXY":             {printable, "broker config set https_proxy URL"},
		"NO_PROXY":                {printable, "broker config set no_proxy HOSTS"},
		"AWS_CA_BUNDLE":           {filepath.IsAbs, "broker config set ca_bundle FILE"},
		"SSL_CERT_FILE":           {filepath.IsAbs, "broker config set ca_bundle FILE"},
		"SSL_CERT_DIR":            {filepath.IsAbs, "broker config set ca_bundle FILE"},
		"GNUPGHOME":               {filepath.IsAbs, "broker config set gnupg_home DIRECTORY"},
		"PASSWORD_STORE_DIR":      {filepath.IsAbs, "broker config set password_store_dir DIRECTORY"},
		"DBUS_SYSTEM_BUS_ADDRESS": {systemBus, "only the service unit can set the address of the system bus"},
		// Prompt windows load files that these directories name. Broker's own paths below them have their own
		// variables: paths.Moved.
		"XDG_CONFIG_HOME":             {filepath.IsAbs, ""},
		"XDG_DATA_HOME":               {filepath.IsAbs, ""},
		"XDG_STATE_HOME":              {filepath.IsAbs, ""},
		"XDG_CACHE_HOME":              {filepath.IsAbs, ""},
		"AWS_CONFIG_FILE":             {filepath.IsAbs, ""},
		"AWS_SHARED_CREDENTIALS_FILE": {filepath.IsAbs, ""},
	}
}

// refused returns the reasons why other important variables were not kept.
func refused() map[string]string {
	return map[string]string{
		"DBUS_SESSION_BUS_ADDRESS": "it is not the address of a unix socket that you own",
		"XDG_RUNTIME_DIR":          "it is not a directory that you own and others cannot write to",
		"DISPLAY":                  "it is not a display of this machine",
		"WAYLAND_DISPLAY":          "it is not a socket that you own",
		"XAUTHORITY":               "it is not a file that you own",
		"LD_PRELOAD":               "every program that the daemon starts would load it",
		"LD_LIBRARY_PATH":          "every program that the daemon starts would load libraries from it",
		"LD_AUDIT":                 "every program that the daemon starts would load it",
		"DYLD_INSERT_LIBRARIES":    "every program that the daemon starts would load it",
		"GODEBUG":                  "it changes how TLS certificates are checked",
		"SSLKEYLOGFILE":            "it would log the TLS session keys",
	}
}

// Build returns the environment for a daemon: the variables to keep of from (in the form of os.Environ), the paths
// that p names, made absolute, and a PATH of the system's directories (see Path). unit says that from is the
// environment of a service unit. Build is idempotent.
func Build(from []string, p paths.Paths, unit bool) []string {
	env, kept, ofUnit := map[string]string{}, kept(), ofUnit()
	var left []string
	for _, kv := range from {
		name, value, _ := strings.Cut(kv, "=")
		name = canonical(name)
		if value == "" || name == "" {
			continue
		}
		rule, isKept := kept[name]
		special, isOfUnit := ofUnit[name]
		switch {
		case strings.ContainsFunc(value, control):
		case name == leftOut:
			left = append(left, strings.Split(value, ",")...)
			continue
		case isKept && rule(value), isOfUnit && unit && special.ok(value),
			strings.HasPrefix(name, "LC_") && word(name) && locale(value):
			env[name] = value
			continue
		}
		left = append(left, name)
	}
	if env["XDG_RUNTIME_DIR"] == "" && !slices.Contains(left, "XDG_RUNTIME_DIR") {
		if run := paths.LoginRuntime(env["HOME"]); run != "" { // the daemon also serves programs of the login session
			env["XDG_RUNTIME_DIR"] = run
		}
	}
	for name, path := range p.Moved() {
		if !strings.HasPrefix(name, "AWS_") || unit {
			env[name] = path
		}
	}
	left = slices.DeleteFunc(left, func(name string) bool { return reason(name) == "" || env[name] != "" })
	slices.Sort(left)
	if left = slices.Compact(left); len(left) > 0 {
		env[leftOut] = strings.Join(left, ",")
	}
	env["PATH"], _ = Path(env["HOME"], nil)
	var list []string
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// Apply replaces the environment of this process. The Go runtime reverts the settings of a GODEBUG that is gone.
func Apply(env []string) {
	os.Clearenv()
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		_ = os.Setenv(name, value)
	}
}

// Dropped returns the important variables that are missing in the daemon's environment, one sentence each. It
// skips variables that a setting has replaced.
func Dropped(has func(setting string) bool) []string {
	var list []string
	for name := range strings.SplitSeq(os.Getenv(leftOut), ",") {
		why := reason(name)
		command, mends := strings.CutPrefix(why, "broker config set ")
		if setting, _, _ := strings.Cut(command, " "); mends && has(setting) {
			continue
		}
		if why != "" {
			list = append(list, name+" was ignored: "+why)
		}
	}
	return list
}

// reason returns why a variable is not taken from a shell, or what to do instead. It is "" if nobody would miss
// the variable.
func reason(name string) string { return cmp.Or(ofUnit()[name].reason, refused()[name]) }

// Weighty returns the variables that redirect something, except for those of paths that Broker reads itself. For
// each it says whether a shell and whether a service unit may set it.
func Weighty() map[string]struct{ Shell, Unit bool } {
	list, kept := map[string]struct{ Shell, Unit bool }{}, kept()
	for name, special := range ofUnit() {
		if special.reason != "" {
			list[name] = struct{ Shell, Unit bool }{false, true}
		}
	}
	for name := range refused() {
		_, ok := kept[name]
		list[name] = struct{ Shell, Unit bool }{ok, ok}
	}
	return list
}

// Usable reports whether a variable for the environment of a prompt window may come from the shell of a client.
func Usable(name, value string) bool {
	rule, ok := kept()[name]
	return !strings.ContainsFunc(value, control) && (ok && rule(value) || strings.HasPrefix(name, "LC_") && locale(value))
}

// canonical returns the name under which this package knows a variable: curl and Go also read lower-case names of
// proxies, and on Windows names ignore case.
func canonical(name string) string {
	upper := strings.ToUpper(name)
	if name == "https_proxy" || name == "no_proxy" || windows {
		return upper
	}
	return name
}

// ProxyURL returns the value of a proxy variable as a URL: curl and Go read a bare host as an http URL.
func ProxyURL(value string) string {
	if value == "" || strings.Contains(value, "://") {
		return value
	}
	return "http://" + value
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

func printable(string) bool { return true } // Build rejects control characters in all values

// word reports whether a value is a name or number that no program takes for a path.
func word(v string) bool { return only(v, "_.@+-:") && v[0] != '.' }

// locale reports whether a value is one or more words. It allows no slash: glibc would load a locale from that
// path.
func locale(v string) bool { return only(v, "_.@+-:;,") }

// timeZone reports whether a value is a name of the time zone database or a POSIX time zone. It must not leave the
// directory of the database.
func timeZone(v string) bool {
	return only(v, "_+-:,/<>.") && v[0] != '/' && !strings.Contains(v, "..") && !strings.HasPrefix(v, ":/")
}

func only(v, more string) bool {
	return v != "" && !strings.ContainsFunc(v, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(more, r)
	})
}

// ours reports whether a file exists and only this user and root can change it.
func ours(path string) bool { return system.Trusted(path) == nil }

// localDisplay reports whether a DISPLAY is on this machine or forwarded by ssh. The owner of another display
// can read what is typed into a window.
func localDisplay(v string) bool {
	host, screen, found := strings.Cut(v, ":")
	if filepath.IsAbs(v) { // macOS: a socket of launchd
		return !strings.Contains(v, "..")
	}
	return found && (host == "" || host == "unix" || host == "localhost") && strings.Trim(screen, "0123456789.") == "" &&
		screen != ""
}

// localBus reports whether a D-Bus address is a single unix socket that this user owns (or root, for the system
// bus). It rejects lists, and addresses that start programs or leave the machine. dbus-launch of older systems
// uses an abstract socket, which has no owner; there the uid of the listener counts.
// https://dbus.freedesktop.org/doc/dbus-specification.html#addresses
func localBus(v string, root bool) bool {
	rest, ok := strings.CutPrefix(v, "unix:")
	if !ok || strings.ContainsAny(v, ";%") {
		return false
	}
	where, owner, known := "", 0, false
	for part := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(part, "=")
		switch {
		case key == "guid" && only(value, ""):
		case key == "path" && where == "" && filepath.IsAbs(value):
			where = value
			if info, err := os.Stat(value); err != nil || info.Mode().Type() != os.ModeSocket {
				return false
			}
			owner, known = system.OwnerOf(value)
		case key == "abstract" && where == "" && value != "":
			where = value
			owner, known = listener("@" + value)
		default:
			return false
		}
	}
	return known && (owner == os.Geteuid() || root && owner == 0)
}

func systemBus(v string) bool { return localBus(v, true) }
