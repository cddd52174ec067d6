//go:build unix

package paths

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"broker/internal/system"
)

// clean unsets every variable that FromEnv reads.
func clean(t *testing.T) {
	for _, v := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BROKER_CONFIG", "BROKER_KEYRING_DIR", "BROKER_STATE_DIR",
		"BROKER_RUNTIME_DIR", "BROKER_SOCKET", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(v, "")
	}
	t.Setenv("HOME", "/home/x")
}

func TestDefaults(t *testing.T) {
	clean(t)
	got, err := FromEnv()
	want := Paths{
		Config:      "/home/x/.aws/config",
		Credentials: "/home/x/.aws/credentials",
		AWS:         "/home/x/.aws",
		Registry:    "/home/x/.config/broker/config",
		Keyring:     "/home/x/.local/share/broker/keyring",
		State:       "/home/x/.local/state/broker",
		Runtime:     "/home/x/.local/state/broker/run",
		Socket:      "/home/x/.local/state/broker/run/broker.sock",
	}
	if err != nil || got != want {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestOverrides(t *testing.T) {
	clean(t)
	run := t.TempDir()
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", "~/c")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "rel/creds")
	t.Setenv("XDG_CONFIG_HOME", "not/absolute")
	t.Setenv("XDG_STATE_HOME", "/s")
	t.Setenv("XDG_RUNTIME_DIR", run)
	got, err := FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	runtime := run + "/broker-bc648c93" // a suffix, because the state directory is not below HOME
	for name, pair := range map[string][2]string{
		"tilde":             {got.Config, "/home/x/c"},
		"relative":          {got.Credentials, filepath.Join(cwd, "rel/creds")},
		"relative XDG base": {got.Registry, "/home/x/.config/broker/config"},
		"state":             {got.State, "/s/broker"},
		"runtime":           {got.Runtime, runtime},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %s, want %s", name, pair[0], pair[1])
		}
	}
	t.Setenv("BROKER_SOCKET", "/q/s")
	if got, _ := FromEnv(); got.Socket != "/q/s" || got.Runtime != runtime {
		t.Errorf("BROKER_SOCKET moved more than the socket: %+v", got)
	}
	t.Setenv("XDG_RUNTIME_DIR", run+"/gone")
	t.Setenv("BROKER_SOCKET", "")
	if got, _ := FromEnv(); got.Socket != "/s/broker/run/broker.sock" {
		t.Errorf("a missing runtime directory was used: %s", got.Socket)
	}
}

// TestRuntimeOfItsOwn: a shell that overrides registry, state or keyring in any way gets another socket than a
// shell that does not. If the variables name the default places, the socket is the default one.
func TestRuntimeOfItsOwn(t *testing.T) {
	run := t.TempDir()
	seen := map[string]string{}
	socket := func(name string, env ...string) string {
		t.Helper()
		var got Paths
		t.Run(name, func(t *testing.T) {
			clean(t)
			for i := 0; i < len(env); i += 2 {
				t.Setenv(env[i], env[i+1])
			}
			var err error
			if got, err = FromEnv(); err != nil {
				t.Fatal(err)
			}
		})
		return got.Socket
	}
	for _, with := range [][]string{nil, {"XDG_RUNTIME_DIR", run}} {
		plain := socket("plain", with...)
		seen[plain] = "plain"
		for _, same := range [][]string{{"BROKER_CONFIG", "/home/x/.config/broker/config"},
			{"XDG_CONFIG_HOME", "/home/x/.config/"}, {"BROKER_STATE_DIR", "~/.local/state/broker"},
			{"BROKER_KEYRING_DIR", "/home/x/.local/share/../share/broker/keyring"}, {"XDG_DATA_HOME", "relative"},
			{"AWS_CONFIG_FILE", "/elsewhere"}} {
			if got := socket(same[0], append(same, with...)...); got != plain {
				t.Errorf("%v: %s, want %s", same, got, plain)
			}
		}
		for _, other := range [][]string{{"BROKER_CONFIG", "evil"}, {"BROKER_CONFIG", "/evil"}, {"XDG_CONFIG_HOME", "/evil"},
			{"XDG_STATE_HOME", "/evil"}, {"XDG_DATA_HOME", "/evil"},
			{"BROKER_STATE_DIR", "/evil"}, {"BROKER_KEYRING_DIR", "/evil"},
			{"BROKER_STATE_DIR", "/evil", "BROKER_CONFIG", "/evil"}, {"HOME", "/home/y", "XDG_CONFIG_HOME", "/home/x/.config"}} {
			got := socket(other[0], append(other, with...)...)
			if was, twice := seen[got]; twice {
				t.Errorf("%v: %s, the same as for %s", other, got, was)
			}
			seen[got] = strings.Join(other, "=")
		}
		moved := append([]string{"BROKER_CONFIG", "/evil", "BROKER_RUNTIME_DIR", "/r"}, with...)
		if got := socket("named", moved...); got != "/r/broker.sock" {
			t.Errorf("BROKER_RUNTIME_DIR is set, got %s", got)
		}
	}
}

// TestLoginRuntime: without XDG_RUNTIME_DIR, as under cron, the daemon is that of the login session. A home that is not
// that of the user, and a directory that others can write to, have a daemon of their own.
func TestLoginRuntime(t *testing.T) {
	clean(t)
	home, uid := system.KnownHome(), strconv.Itoa(os.Getuid())
	if home == "" {
		t.Skip("this user has no home directory")
	}
	logins = t.TempDir()
	t.Cleanup(func() { logins = "/run/user" })
	run := filepath.Join(logins, uid)
	below := filepath.Join(home, ".local/state/broker/run")
	check := func(want, other string) {
		t.Helper()
		if got, err := FromEnv(); err != nil || got.Runtime != want || got.Other != other {
			t.Errorf("%s and %s, %v; want %s and %s", got.Runtime, got.Other, err, want, other)
		}
	}
	t.Setenv("HOME", home)
	check(below, "")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	check(run+"/broker", below)
	t.Setenv("XDG_RUNTIME_DIR", logins+"/gone")
	check(below, run+"/broker")
	t.Setenv("XDG_RUNTIME_DIR", run)
	check(run+"/broker", below)
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("BROKER_RUNTIME_DIR", "/r")
	check("/r", "")
	t.Setenv("BROKER_RUNTIME_DIR", "")
	t.Setenv("BROKER_SOCKET", "/r/s")
	check(run+"/broker", "")
	t.Setenv("BROKER_SOCKET", "")
	t.Setenv("HOME", "/home/x")
	check("/home/x/.local/state/broker/run", "")
	t.Setenv("HOME", home)
	if err := os.Chmod(run, 0o770); err != nil {
		t.Fatal(err)
	}
	check(below, "")
}

// TestSharedRuntimeDir: a directory that others may write to does not count as the user's own, not even for root.
func TestSharedRuntimeDir(t *testing.T) {
	clean(t)
	run := t.TempDir()
	for _, mode := range []os.FileMode{0o777, 0o777 | os.ModeSticky, 0o775} {
		if err := os.Chmod(run, mode); err != nil {
			t.Fatal(err)
		}
		t.Setenv("XDG_RUNTIME_DIR", run)
		if got, _ := FromEnv(); strings.HasPrefix(got.Socket, run) {
			t.Errorf("%v: a shared directory is used: %s", mode, got.Socket)
		}
	}
}

func TestForeignRuntimeDir(t *testing.T) {
	clean(t)
	if os.Getuid() != 0 {
		t.Skip("needs root to make a directory of another user")
	}
	run := t.TempDir()
	if err := os.Chown(run, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_RUNTIME_DIR", run)
	if got, _ := FromEnv(); strings.HasPrefix(got.Socket, run) {
		t.Errorf("the runtime directory of another user is used: %s", got.Socket)
	}
}

// TestNoHome: the error is reported once, however many paths need HOME.
func TestNoHome(t *testing.T) {
	for home, want := range map[string]string{
		"":          "HOME is not set; set it to your home directory",
		"some/home": `HOME is "some/home", which is not an absolute path; set it to your home directory`,
	} {
		clean(t)
		t.Setenv("HOME", home)
		if _, err := FromEnv(); err == nil || err.Error() != want {
			t.Errorf("HOME=%s: %v", home, err)
		}
	}
}

// TestDoorByItsConfig: the AWS config of a door leads to the door, also where BROKER_DOOR was not passed on.
func TestDoorByItsConfig(t *testing.T) {
	clean(t)
	t.Setenv("BROKER_RUNTIME_DIR", "/r")
	for config, want := range map[string]string{
		"/r/doors/exec-7/config": "/r/doors/exec-7", "/r/doors/config": "", "/r/overlays/7/config": "", "": "",
		"/r/doors/../doors/a/config": "/r/doors/a",
	} {
		t.Setenv("AWS_CONFIG_FILE", config)
		t.Setenv("BROKER_DOOR", "")
		if got, err := FromEnv(); err != nil || got.Door != want {
			t.Errorf("%s: %q, %v", config, got.Door, err)
		}
		t.Setenv("BROKER_DOOR", "/other")
		if got, err := FromEnv(); err != nil || got.Door != "/other" {
			t.Errorf("%s with BROKER_DOOR: %q, %v", config, got.Door, err)
		}
	}
}
