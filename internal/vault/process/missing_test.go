//go:build unix

package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/lockfile"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/vault"
)

// TestMissingKeyNamesThePlace: if variables redirect the file keyring or the registry, the error says where the
// key was searched for and where it is, and does not tell the user to add it again.
func TestMissingKeyNamesThePlace(t *testing.T) {
	usual, moved := fileCaller(t), freshCaller(t)
	home := filepath.Dir(usual.Dir)
	t.Setenv("HOME", home)
	must(t, os.MkdirAll(filepath.Dir(paths.KeyringBelow(home)), 0o700))
	must(t, os.Rename(usual.Dir, paths.KeyringBelow(home)))
	usual.Dir, usual.Registry = paths.KeyringBelow(home), paths.RegistryBelow(home)
	must(t, os.MkdirAll(filepath.Dir(usual.Registry), 0o700))
	must(t, os.WriteFile(usual.Registry, nil, 0o600))
	if _, err := usual.Put(t.Context(), testKey("security"), profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	check := func(name string, c *vault.Caller, source string, kind fault.Kind, hint fault.Hint, says ...string) {
		t.Helper()
		_, err := c.Describe(t.Context(), source)
		f := fault.Of(err)
		if f.Kind != kind || f.Hint != hint {
			t.Errorf("%s: kind %s, hint %q: %v", name, f.Kind, f.Hint, err)
		}
		for _, text := range says {
			if !strings.Contains(f.Message, text) {
				t.Errorf("%s: %q is missing in %q", name, text, f.Message)
			}
		}
	}
	back := fault.Hint("unset BROKER_KEYRING_DIR XDG_DATA_HOME")
	moved.Registry = usual.Registry
	check("nothing in the moved one", moved, "security", fault.Config, back, moved.Dir, usual.Dir)
	must(t, moved.Create(t.Context(), secret.New(testPassphrase)))
	check("another key in the moved one", moved, "security", fault.Config, back, moved.Dir, usual.Dir)
	check("in neither", moved, "other", fault.NotFound, "broker add other", moved.Dir)
	check("in the usual one", usual, "other", fault.NotFound, "broker add other", usual.Dir)

	moved.Registry = filepath.Join(filepath.Dir(moved.Dir), "config")
	check("another registry too", moved, "other", fault.NotFound,
		"unset BROKER_CONFIG XDG_CONFIG_HOME BROKER_KEYRING_DIR XDG_DATA_HOME", moved.Dir, moved.Registry, usual.Registry)

	// Another HOME: the default place is in the home directory that the system knows.
	known := lockfile.OwnHome()
	t.Setenv("HOME", filepath.Dir(moved.Dir))
	e := &errand{request: &request{Op: vault.OpDescribe, Backend: vault.File, Source: "s",
		Dir: paths.KeyringBelow(paths.Home()), Registry: paths.RegistryBelow(paths.Home())}}
	if got, want := e.wayBack(known), fault.Hintf("export HOME=%s", known); got != want {
		t.Errorf("another HOME: %s, want %s", got, want)
	}
	e.Dir = moved.Dir
	want := fault.Hintf("unset BROKER_KEYRING_DIR XDG_DATA_HOME && export HOME=%s", known)
	if got := e.wayBack(known); got != want {
		t.Errorf("another HOME and keyring: %s, want %s", got, want)
	}
}
