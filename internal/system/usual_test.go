//go:build unix

package system

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestUsual: a path that a variable or a symbolic link chose is not usual.
func TestUsual(t *testing.T) {
	home, elsewhere := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	state := filepath.Join(home, ".local/state/broker")
	if err := errors.Join(os.MkdirAll(state, 0o700), os.MkdirAll(elsewhere+"/broker", 0o700),
		os.Symlink("/", home+"/x"), os.Symlink(elsewhere, home+"/.config"), os.Symlink(elsewhere, home+"/.aws"),
		os.Symlink(elsewhere, state+"/run")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		state: true, state + "/lock.json": true, state + "/run": true, home + "/.local/share/broker/keyring": true,
		home + "/.aws":                     true, // the link itself
		state + "/run/x":                   false,
		home + "/.aws/credentials":         false,
		home + "/.config/broker/config":    false,
		home + "/x/etc":                    false,
		state + "/../../../x/etc":          false,
		home + "/.local/state/broker-more": false,
		home + "/docker":                   false,
		home:                               false,
		filepath.Dir(state):                false,
		elsewhere + "/broker":              false,
		"/etc":                             false,
		"/":                                false,
	} {
		if got := Usual(path); got != want {
			t.Errorf("Usual(%s) is %v", path, got)
		}
	}
	// A variable may choose a usual path for another purpose.
	t.Setenv("BROKER_STATE_DIR", home+"/.local/share/broker/keyring")
	if Usual(home+"/.local/share/broker/keyring") || UsualForRoot(KnownHome()+"/.local/state/broker") {
		t.Error("a path is usual although a variable overrides one")
	}
	t.Setenv("BROKER_STATE_DIR", "")
	// HOME differs from the home directory in the user database, which exists.
	if known := KnownHome(); known != "" {
		if _, err := os.Stat(known); err == nil && UsualForRoot(state) {
			t.Errorf("root would be told to change %s", state)
		}
		for path, want := range map[string]bool{
			known: false, known + "/.local": true, known + "/.local/state/broker": true, known + "/x": false,
		} {
			if got := UsualForRoot(path); got != want {
				t.Errorf("UsualForRoot(%s) is %v", path, got)
			}
		}
	}
}
