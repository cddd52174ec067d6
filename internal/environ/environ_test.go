//go:build unix

package environ

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"broker/internal/paths"
)

// built returns the result of Build for some variables and HOME, without HOME and PATH.
func built(t *testing.T, unit bool, vars ...string) []string {
	t.Helper()
	first := Build(append([]string{"HOME=/home/x", "PATH=node_modules/.bin:."}, vars...), paths.Paths{}, unit)
	if again := Build(first, paths.Paths{}, unit); !slices.Equal(again, first) {
		t.Errorf("Build is not idempotent: got\n%q, want\n%q", again, first)
	}
	var rest []string
	for _, kv := range first {
		switch {
		case kv == "HOME=/home/x":
		case strings.HasPrefix(kv, "PATH="):
			for _, dir := range filepath.SplitList(strings.TrimPrefix(kv, "PATH=")) {
				if !filepath.IsAbs(dir) {
					t.Errorf("PATH holds %q", dir)
				}
			}
		default:
			rest = append(rest, kv)
		}
	}
	return rest
}

// plain gives this process the environment of the default paths.
func plain(t *testing.T) {
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BROKER_CONFIG", "BROKER_KEYRING_DIR",
		"BROKER_STATE_DIR", "BROKER_RUNTIME_DIR", "BROKER_SOCKET"} {
		t.Setenv(name, "")
	}
}

// shortDir returns a directory whose name leaves room for the path of a socket.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "env")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func socketAt(t *testing.T, name string) string {
	t.Helper()
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return name
}

// TestBuildKeeps: variables that are on the list and pass their check.
func TestBuildKeeps(t *testing.T) {
	plain(t)
	dir := shortDir(t)
	bus := socketAt(t, filepath.Join(dir, "bus"))
	cookie := filepath.Join(dir, "cookie")
	if err := os.WriteFile(cookie, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, kv := range []string{
		"USER=paul", "LOGNAME=paul.o@example.com", "LANG=de_DE.UTF-8", "LC_TIME=en_DK.UTF-8@euro", "LANGUAGE=de:en",
		"TZ=Europe/Berlin", "TZ=CET-1CEST,M3.5.0,M10.5.0/3",
		"XDG_RUNTIME_DIR=" + dir, "XDG_SESSION_TYPE=wayland", "XDG_CURRENT_DESKTOP=ubuntu:GNOME",
		"DBUS_SESSION_BUS_ADDRESS=unix:path=" + bus, "DBUS_SESSION_BUS_ADDRESS=unix:path=" + bus + ",guid=0123abcd",
		"DBUS_SESSION_BUS_ADDRESS=unix:guid=0123abcd,path=" + bus,
		"DISPLAY=:0", "DISPLAY=:0.0", "DISPLAY=unix:1", "DISPLAY=localhost:10.0",
		"DISPLAY=/private/tmp/com.apple.launchd.x/org.xquartz:0",
		"WAYLAND_DISPLAY=wayland-0", "WAYLAND_DISPLAY=" + bus, "XAUTHORITY=" + cookie, "BROKER_KEYRING_PASSPHRASE_FILE=/p",
		"TERM=xterm-256color",
	} {
		for _, unit := range []bool{false, true} {
			if got := built(t, unit, kv); len(got) != 1 || got[0] != kv {
				t.Errorf("%s, unit %v: built %q", kv, unit, got)
			}
		}
	}
	for _, kv := range []string{"HTTPS_PROXY=http://paul:secret@proxy:3128", "NO_PROXY=.internal,10.0.0.0/8",
		"AWS_CA_BUNDLE=/ca.pem", "SSL_CERT_FILE=/ca.pem", "GNUPGHOME=/g", "PASSWORD_STORE_DIR=/p",
		"XDG_CONFIG_HOME=/c", "XDG_DATA_HOME=/d", "XDG_STATE_HOME=/s", "XDG_CACHE_HOME=/x",
		"AWS_CONFIG_FILE=/c", "AWS_SHARED_CREDENTIALS_FILE=/c", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + bus} {
		if got := built(t, true, kv); len(got) != 1 || got[0] != kv {
			t.Errorf("%s in a unit: built %q", kv, got)
		}
	}
	// From a shell's base directories Broker derives its own paths and nothing else.
	t.Setenv("XDG_CONFIG_HOME", "/c")
	// as the empty Paths say
	if got := built(t, false, "XDG_CONFIG_HOME=/c"); !slices.Equal(got, []string{"BROKER_CONFIG="}) {
		t.Errorf("XDG_CONFIG_HOME in a shell: built %q", got)
	}
	t.Setenv("XDG_CONFIG_HOME", "")
	if got := built(t, true, "https_proxy=http://proxy:3128"); len(got) != 1 || got[0] != "HTTPS_PROXY=http://proxy:3128" {
		t.Errorf("in lower case: built %q", got)
	}
}

// TestBuildDrops: variables that are not on the list or fail their check. The important ones are reported, without
// their values.
func TestBuildDrops(t *testing.T) {
	plain(t)
	dir := shortDir(t)
	bus := socketAt(t, filepath.Join(dir, "bus"))
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	named := []string{
		"LD_PRELOAD=/evil.so", "LD_LIBRARY_PATH=/evil", "LD_AUDIT=/evil.so", "DYLD_INSERT_LIBRARIES=/evil",
		"GODEBUG=x509sha1=1", "SSLKEYLOGFILE=/evil",
		"XDG_RUNTIME_DIR=/tmp", "XDG_RUNTIME_DIR=evil", "XDG_RUNTIME_DIR=" + open, "XDG_RUNTIME_DIR=/evil/gone",
		"DBUS_SESSION_BUS_ADDRESS=unixexec:path=/evil", "DBUS_SESSION_BUS_ADDRESS=tcp:host=evil,port=1",
		"DBUS_SESSION_BUS_ADDRESS=autolaunch:", "DBUS_SESSION_BUS_ADDRESS=unix:path=bus",
		"DBUS_SESSION_BUS_ADDRESS=unix:path=" + bus + ";unixexec:path=/evil",
		"DBUS_SESSION_BUS_ADDRESS=unix:path=" + bus + ",argv0=evil",
		"DBUS_SESSION_BUS_ADDRESS=unix:path=" + dir + "/file",
		"DBUS_SESSION_BUS_ADDRESS=unix:path=/evil/gone", "DBUS_SESSION_BUS_ADDRESS=unix:path=%2Fevil",
		"DBUS_SESSION_BUS_ADDRESS=unix:abstract=evil-" + filepath.Base(dir), "DBUS_SESSION_BUS_ADDRESS=unix:guid=00",
		"DISPLAY=evil.example.com:0", "DISPLAY=192.0.2.1:0", "DISPLAY=evil", "DISPLAY=:", "DISPLAY=:0;evil",
		"WAYLAND_DISPLAY=../evil", "WAYLAND_DISPLAY=/evil/gone", "XAUTHORITY=evil", "XAUTHORITY=/evil/gone",
	}
	for _, kv := range named {
		name, _, _ := strings.Cut(kv, "=")
		if got := built(t, false, kv); len(got) != 1 || got[0] != leftOut+"="+name {
			t.Errorf("%s: built %q", kv, got)
		}
	}
	for _, kv := range []string{"HTTPS_PROXY=http://paul:secret@evil", "https_proxy=http://evil", "NO_PROXY=x",
		"AWS_CA_BUNDLE=/evil", "SSL_CERT_FILE=/evil", "SSL_CERT_DIR=/evil", "GNUPGHOME=/evil", "PASSWORD_STORE_DIR=/evil"} {
		name, _, _ := strings.Cut(kv, "=")
		if got := built(t, false, kv); len(got) != 1 || got[0] != leftOut+"="+strings.ToUpper(name) {
			t.Errorf("%s in a shell: built %q", kv, got)
		}
	}
	for _, kv := range []string{
		"HTTP_PROXY=http://evil", "ALL_PROXY=socks5://evil", "AWS_PROFILE=evil", "AWS_SECRET_ACCESS_KEY=secret",
		"AWS_ENDPOINT_URL=http://evil", "AWS_CONFIG_FILE=/evil", "GOTRACEBACK=crash",
		"PYTHONPATH=/evil", "GIT_SSH_COMMAND=evil", "GTK_MODULES=evil", "BASH_ENV=/evil", "IFS=x", "LANG=/evil",
		"LANG=../evil", "LC_ALL=/evil", "LC_/=x", "LANGUAGE=a/b", "TZ=/evil", "TZ=:/evil", "TZ=a/../../evil",
		"XDG_CONFIG_HOME=evil", "XDG_CONFIG_DIRS=/evil", "XDG_DATA_DIRS=/evil", "USER=a/b", "USER=a\nb", "TERM=../evil",
		"BROKER_OUTER_BUS=evil", "BROKER_PROFILE=evil", "PINENTRY_USER_DATA=evil",
		"LISTEN_FDS=1", "SYSTEMD_EXEC_PID=1", "EMPTY=", "=C:=x", "NOTHING", "BROKER_LEFT_OUT=evil,words",
	} {
		if got := built(t, false, kv); len(got) != 0 {
			t.Errorf("%q: built %q", kv, got)
		}
	}
	got := built(t, true, "HTTPS_PROXY=a\nb", "AWS_CA_BUNDLE=relative", "GNUPGHOME=relative")
	if !slices.Equal(got, []string{leftOut + "=AWS_CA_BUNDLE,GNUPGHOME,HTTPS_PROXY"}) {
		t.Errorf("in a unit: %q", got)
	}
	// The daemon also reports what its client left out.
	t.Setenv(leftOut, "HTTPS_PROXY,evil\x1b[2J")
	none := func(string) bool { return false }
	if got := Dropped(none); len(got) != 1 || got[0] != "HTTPS_PROXY was ignored: broker config set https_proxy URL" {
		t.Errorf("%q", got)
	}
	// A variable that a setting has replaced since is not reported.
	t.Setenv(leftOut, "HTTPS_PROXY,SSL_CERT_DIR,SSL_CERT_FILE")
	mended := func(setting string) bool { return setting == "ca_bundle" }
	if got := Dropped(mended); len(got) != 1 || !strings.HasPrefix(got[0], "HTTPS_PROXY ") {
		t.Errorf("after a setting: %q", got)
	}
}

// TestBuildPaths: paths that variables name are absolute for the daemon, which has another working directory. The
// variables of AWS tools are taken only from a unit.
func TestBuildPaths(t *testing.T) {
	plain(t)
	t.Setenv("HOME", "/home/x")
	t.Setenv("BROKER_CONFIG", "evil/config")
	t.Setenv("AWS_CONFIG_FILE", "~/c")
	p, err := paths.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	env := Build(os.Environ(), p, false)
	if !slices.Contains(env, "BROKER_CONFIG="+cwd+"/evil/config") || slices.Contains(env, "AWS_CONFIG_FILE=/home/x/c") {
		t.Errorf("in a shell: %q", env)
	}
	if env := Build(os.Environ(), p, true); !slices.Contains(env, "AWS_CONFIG_FILE=/home/x/c") {
		t.Errorf("in a unit: %q", env)
	}
}

// TestPath: directories that others may write to, and relative ones, are never in the PATH.
func TestPath(t *testing.T) {
	dir := t.TempDir()
	mk := func(name string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, open, sticky := mk("good", 0o755), mk("open", 0o777), mk("sticky", 0o777|os.ModeSticky)
	below, belowSticky := mk("open/bin", 0o755), mk("sticky/bin", 0o755)
	link, far := filepath.Join(dir, "link"), filepath.Join(dir, "far")
	for name, to := range map[string]string{link: good, far: below} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	nix := mk("home/.nix-profile/bin", 0o755)
	path, refused := Path(filepath.Join(dir, "home"), []string{good, link, belowSticky, open, sticky, below, far,
		"relative", filepath.Join(dir, "gone")})
	list := filepath.SplitList(path)
	for _, want := range []string{"/usr/bin", "/bin", nix, good, link, belowSticky} {
		if !slices.Contains(list, want) {
			t.Errorf("%s is missing in %q", want, list)
		}
	}
	for _, bad := range []string{open, sticky, below, far, "relative", "", "."} {
		if slices.Contains(list, bad) {
			t.Errorf("%q is in %q", bad, list)
		}
	}
	if len(refused) != 5 {
		t.Errorf("refused: %q", refused)
	}
	if slices.Index(list, good) > slices.Index(list, "/bin") || slices.Index(list, nix) < slices.Index(list, "/bin") {
		t.Errorf("the setting, the system, packages: %q", list)
	}
}
