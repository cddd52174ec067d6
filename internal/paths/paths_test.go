//go:build unix

package paths

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// clean empties every variable that FromEnv reads.
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
	for name, pair := range map[string][2]string{
		"tilde":             {got.Config, "/home/x/c"},
		"relative":          {got.Credentials, filepath.Join(cwd, "rel/creds")},
		"relative XDG base": {got.Registry, "/home/x/.config/broker/config"},
		"state":             {got.State, "/s/broker"},
		"runtime":           {got.Runtime, run + "/broker"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %s, want %s", name, pair[0], pair[1])
		}
	}
	t.Setenv("BROKER_SOCKET", "/q/s")
	if got, _ := FromEnv(); got.Socket != "/q/s" || got.Runtime != run+"/broker" {
		t.Errorf("BROKER_SOCKET moves the socket alone: %+v", got)
	}
	t.Setenv("XDG_RUNTIME_DIR", run+"/gone")
	t.Setenv("BROKER_SOCKET", "")
	if got, _ := FromEnv(); got.Socket != "/s/broker/run/broker.sock" {
		t.Errorf("a runtime directory that is not there must not be used: %s", got.Socket)
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
		t.Errorf("uses the runtime directory of another user: %s", got.Socket)
	}
}

func TestNoHome(t *testing.T) {
	clean(t)
	t.Setenv("HOME", "")
	if _, err := FromEnv(); err == nil || !strings.Contains(err.Error(), "HOME") {
		t.Errorf("got %v, want an error that names HOME", err)
	}
}
