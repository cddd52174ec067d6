// Package environ owns the environment that the daemon lives in, and that its children inherit: built from a list of
// variables that are kept and checked, and a PATH that is made, not taken. So it is the same whichever shell, service
// manager or person starts the daemon. It refuses to pass on anything that is not on the list: proxies and trusted
// CAs come from the settings or from the service unit, never from a client's shell.
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

// leftOut tells the daemon of the variables that a client, which starts it, left out: names with commas between.
const leftOut = "BROKER_LEFT_OUT"

// A rule reports whether a value may be kept.
type rule func(value string) bool

// kept are the variables that are taken from everywhere. BROKER_* paths are not among them: see Build.
var kept = map[string]rule{
	"HOME": filepath.IsAbs, "USER": word, "LOGNAME": word, "TZ": timeZone, "TERM": word,
	"LANG": locale, "LANGUAGE": locale,

	"XDG_RUNTIME_DIR": func(v string) bool { return filepath.IsAbs(v) && system.PrivateDir(v) },
	"XDG_SESSION_ID":  word, "XDG_SESSION_TYPE": word, "XDG_SESSION_DESKTOP": word, "XDG_CURRENT_DESKTOP": locale,
	"DESKTOP_SESSION": word, "KDE_FULL_SESSION": word, "KDE_SESSION_VERSION": word,

	"DBUS_SESSION_BUS_ADDRESS": func(v string) bool { return localBus(v, false) },
	"DISPLAY":                  localDisplay,
	"WAYLAND_DISPLAY":          func(v string) bool { return word(v) || filepath.IsAbs(v) && ours(v) },
	"XAUTHORITY":               func(v string) bool { return filepath.IsAbs(v) && ours(v) },

	// The vault process looks at the file itself, and says what is wrong with it.
	"BROKER_KEYRING_PASSPHRASE_FILE": printable,

	// of Windows
	"SYSTEMROOT": filepath.IsAbs, "SYSTEMDRIVE": word, "WINDIR": filepath.IsAbs, "USERPROFILE": filepath.IsAbs,
	"USERNAME": word, "APPDATA": filepath.IsAbs, "LOCALAPPDATA": filepath.IsAbs, "PROGRAMDATA": filepath.IsAbs,
}

// ofUnit are the variables that are taken from a service manager alone, since only the user can write a unit. Each
// has its reason why a shell does not lend it, with what to do instead.
var ofUnit = map[string]struct {
	ok     rule
	reason string
}{
	"HTTPS_PROXY":             {printable, "broker config set https_proxy URL"},
	"NO_PROXY":                {printable, "broker config set no_proxy HOSTS"},
	"AWS_CA_BUNDLE":           {filepath.IsAbs, "broker config set ca_bundle FILE"},
	"SSL_CERT_FILE":           {filepath.IsAbs, "broker config set ca_bundle FILE"},
	"SSL_CERT_DIR":            {filepath.IsAbs, "broker config set ca_bundle FILE"},
	"GNUPGHOME":               {filepath.IsAbs, "broker config set gnupg_home DIRECTORY"},
	"PASSWORD_STORE_DIR":      {filepath.IsAbs, "broker config set password_store_dir DIRECTORY"},
	"DBUS_SYSTEM_BUS_ADDRESS": {systemBus, "the address of the system bus comes from the service unit"},
	// A window loads what the files there name. Broker's own paths below them have their own variables: paths.Moved.
	"XDG_CONFIG_HOME":             {filepath.IsAbs, ""},
	"XDG_DATA_HOME":               {filepath.IsAbs, ""},
	"XDG_STATE_HOME":              {filepath.IsAbs, ""},
	"XDG_CACHE_HOME":              {filepath.IsAbs, ""},
	"AWS_CONFIG_FILE":             {filepath.IsAbs, ""},
	"AWS_SHARED_CREDENTIALS_FILE": {filepath.IsAbs, ""},
}

// refused are the reasons why a variable of weight was not kept, beside those of ofUnit.
var refused = map[string]string{
	"DBUS_SESSION_BUS_ADDRESS": "it is not the address of a unix socket of yours",
	"XDG_RUNTIME_DIR":          "it is not a directory of yours that others cannot write to",
	"DISPLAY":                  "it is not a display of this machine",
	"WAYLAND_DISPLAY":          "it is not a socket of yours",
	"XAUTHORITY":               "it is not a file of yours",
	"LD_PRELOAD":               "programs of yours would load it",
	"LD_LIBRARY_PATH":          "programs of yours would load from it",
	"LD_AUDIT":                 "programs of yours would load it",
	"DYLD_INSERT_LIBRARIES":    "programs of yours would load it",
	"GODEBUG":                  "it changes how TLS is checked",
	"SSLKEYLOGFILE":            "it gives away what TLS hides",
}

// Build returns the environment for a daemon: what is kept of from, which is in the form of os.Environ, with the paths
// that p names made absolute, and a PATH of the system's directories (see Path). unit says that from is that of a
// service manager's unit. Build of what Build returned is the same.
func Build(from []string, p paths.Paths, unit bool) []string {
	env := map[string]string{}
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
	for name, path := range p.Moved() {
		if !strings.HasPrefix(name, "AWS_") || unit {
			env[name] = path
		}
	}
	left = slices.DeleteFunc(left, func(name string) bool { return Reason(name) == "" || env[name] != "" })
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

// Apply makes an environment that of this process. The Go runtime takes back what GODEBUG had switched.
func Apply(env []string) {
	os.Clearenv()
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		_ = os.Setenv(name, value)
	}
}

// Dropped are the variables of weight that the daemon's environment was built without, one sentence each. It leaves
// out those that a setting replaces by now.
func Dropped(has func(setting string) bool) []string {
	var list []string
	for name := range strings.SplitSeq(os.Getenv(leftOut), ",") {
		why := Reason(name)
		command, mends := strings.CutPrefix(why, "broker config set ")
		if setting, _, _ := strings.Cut(command, " "); mends && has(setting) {
			continue
		}
		if why != "" {
			list = append(list, name+" was not taken: "+why)
		}
	}
	return list
}

// Reason is why a variable is not taken from a shell, or what to do instead; empty where nobody would miss it.
func Reason(name string) string { return cmp.Or(ofUnit[name].reason, refused[name]) }

// Weighty lists the variables that redirect something, beside those of paths that Broker reads itself. It says of each
// whether a shell and whether a service unit may set it.
func Weighty() map[string]struct{ Shell, Unit bool } {
	list := map[string]struct{ Shell, Unit bool }{}
	for name, special := range ofUnit {
		if special.reason != "" {
			list[name] = struct{ Shell, Unit bool }{false, true}
		}
	}
	for name := range refused {
		_, ok := kept[name]
		list[name] = struct{ Shell, Unit bool }{ok, ok}
	}
	return list
}

// Usable reports whether a variable of a window's environment may come from the shell of a client.
func Usable(name, value string) bool {
	rule, ok := kept[name]
	return !strings.ContainsFunc(value, control) && (ok && rule(value) || strings.HasPrefix(name, "LC_") && locale(value))
}

// canonical is the name under which a variable is known here: curl and Go read proxies in small letters too, and on
// Windows the case of a name means nothing.
func canonical(name string) string {
	upper := strings.ToUpper(name)
	if name == "https_proxy" || name == "no_proxy" || windows {
		return upper
	}
	return name
}

// ProxyURL is the value of a variable for a proxy as a URL: curl and Go take a host alone for one of http.
func ProxyURL(value string) string {
	if value == "" || strings.Contains(value, "://") {
		return value
	}
	return "http://" + value
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

func printable(string) bool { return true } // Build refuses control characters in all

// word is a name or number, which no program takes for a path.
func word(v string) bool { return only(v, "_.@+-:") && v[0] != '.' }

// locale is a word, or several: glibc takes one with a slash for a path from where to load it.
func locale(v string) bool { return only(v, "_.@+-:;,") }

// timeZone is a name of the database or a POSIX one, and no path out of it.
func timeZone(v string) bool {
	return only(v, "_+-:,/<>.") && v[0] != '/' && !strings.Contains(v, "..") && !strings.HasPrefix(v, ":/")
}

func only(v, more string) bool {
	return v != "" && !strings.ContainsFunc(v, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(more, r)
	})
}

// ours reports whether a file is there and nobody but us and root can change it.
func ours(path string) bool { return system.Trusted(path) == nil }

// localDisplay reports whether a DISPLAY is of this machine, or forwarded by ssh: what is typed into a window
// elsewhere is read there.
func localDisplay(v string) bool {
	host, screen, found := strings.Cut(v, ":")
	if filepath.IsAbs(v) { // macOS: a socket of launchd's
		return !strings.Contains(v, "..")
	}
	return found && (host == "" || host == "unix" || host == "localhost") && strings.Trim(screen, "0123456789.") == "" &&
		screen != ""
}

// localBus reports whether an address of D-Bus is one unix socket whose owner is us (or root, for the system's bus).
// Addresses that start programs or leave the machine are not, nor are lists. dbus-launch of older systems has an
// abstract socket, which has no owner: who listens there is asked.
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
