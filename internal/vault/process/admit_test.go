//go:build unix

package process

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/lockfile"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/vault"
)

// TestKeyBelongsToItsRegistry: a registry in another place cannot use, read, change or remove a key, until the
// registry of the key allows it.
func TestKeyBelongsToItsRegistry(t *testing.T) {
	c := fileCaller(t)
	home := filepath.Dir(c.Dir)
	own, other := filepath.Join(home, "config"), filepath.Join(home, "other")
	say := func(text string) {
		t.Helper()
		if err := os.WriteFile(own, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", home)
	say("")
	c.Registry = own
	if _, err := c.Put(t.Context(), testKey("security"), profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	if err := c.Seal(t.Context(), "import", secret.New("what was in the file")); err != nil {
		t.Fatal(err)
	}
	another := testKey("security")
	another.AccessKeyID, another.Replace = "AKIAIOSFODNN7EXAMPL2", true
	uses := []struct {
		name string
		use  func() error
	}{
		{"open", func() error {
			_, err := c.Open(t.Context(), profiles.Source{Name: another.Name}, session.Call{}, secret.String{})
			return err
		}},
		{"devices", func() error { _, err := c.Devices(t.Context(), another.Name, profiles.Endpoint{}); return err }},
		{"describe", func() error { _, err := c.Describe(t.Context(), another.Name); return err }},
		{"set the seed", func() error { return c.SetSeed(t.Context(), another.Name, secret.New(testSeed)) }},
		{"remove the seed", func() error { return c.RemoveSeed(t.Context(), another.Name) }},
		{"replace", func() error { _, err := c.Put(t.Context(), another, profiles.Endpoint{}, false); return err }},
		{"seal", func() error { return c.Seal(t.Context(), "import", secret.New("other")) }},
		{"unseal", func() error { _, err := c.Unseal(t.Context(), "import"); return err }},
		{"forget", func() error { return c.ForgetSealed(t.Context(), "import") }},
		{"remove", func() error { return c.Remove(t.Context(), another.Name) }}, // last, because the others need it
	}
	refused := func(why, registry string) {
		t.Helper()
		c.Registry = registry
		for _, u := range uses {
			err := u.use()
			if f := fault.Of(err); !fault.Is(err, fault.NotConfirmed) || !strings.Contains(f.Message, own) {
				t.Errorf("%s, %s: %v", why, u.name, err)
			}
		}
	}
	refused("no registry", "")
	// The process that reads a registry says which one it is. A path that looks the same from here does not count.
	if err := os.Symlink(own, other+".link"); err != nil {
		t.Fatal(err)
	}
	refused("a link", other+".link")
	refused("no file", other)
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("another", other)
	want := fault.Hintf("env BROKER_CONFIG=%s broker config set registry %s", own, other)
	if got := fault.Of(uses[0].use()).Hint; got != want {
		t.Errorf("the hint is %s", got)
	}
	say("[settings]\nregistry = " + own + "\n")
	refused("it names another", other)
	// HOME decides what ~ means.
	say("[settings]\nregistry = ~/other\n")
	for _, u := range uses {
		if err := u.use(); !fault.Is(err, fault.Config) {
			t.Errorf("~, %s: %v", u.name, err)
		}
	}
	allowed := func(registry string) {
		t.Helper()
		c.Registry = registry
		for _, u := range uses[:len(uses)-2] {
			if err := u.use(); err != nil {
				t.Errorf("%s, %s: %v", registry, u.name, err)
			}
		}
	}
	say("")
	allowed(own)
	refused("still another", other)
	// Another home: HOME decides what "~" means in the registry.
	t.Setenv("HOME", t.TempDir())
	refused("another home", own)
	t.Setenv("HOME", home)
	c.Registry = other + ":x"
	f := fault.Of(uses[0].use())
	if f.Kind != fault.Config || f.Hint != "" || !strings.Contains(f.Error(), "cannot be allowed") {
		t.Errorf("a colon: %v", f)
	}
	// A path that cannot be resolved equals no other path.
	if err := os.Symlink("loop", filepath.Join(home, "loop")); err != nil {
		t.Fatal(err)
	}
	say("[settings]\nregistry = " + home + "/loop/config\n")
	refused("no registry, and an allowed one that cannot be followed", "")
	say("[settings]\nregistry = " + home + "/third:" + other + "\n")
	allowed(other)
	if err := c.Remove(t.Context(), another.Name); err != nil {
		t.Error(err)
	}
}

// TestNewKeyElsewhere: while the home directory has a registry, another registry stores nothing and makes no call
// to AWS until it is allowed.
func TestNewKeyElsewhere(t *testing.T) {
	c := fileCaller(t)
	home := filepath.Dir(c.Dir)
	t.Setenv("HOME", home)
	usual, other := paths.RegistryBelow(home), filepath.Join(home, "other")
	for _, path := range []string{usual, other} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	c.Registry = other
	store := func() error {
		_, err := c.Put(t.Context(), testKey("security"), profiles.Endpoint{}, false)
		return errors.Join(err, c.Seal(t.Context(), "import", secret.New("what was in the file")))
	}
	if err := store(); !fault.Is(err, fault.NotConfirmed) || !strings.Contains(err.Error(), usual) {
		t.Errorf("another registry: %v", err)
	}
	if err := os.WriteFile(usual, []byte("[settings]\nregistry = "+other+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store(); err != nil {
		t.Errorf("an allowed registry: %v", err)
	}
}

// TestKeyOfTheFirstVersion: an item that names no registry belongs to the registry in the user's home directory.
func TestKeyOfTheFirstVersion(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", lockfile.OwnHome())
	for registry, want := range map[string]bool{homeRegistry(): true, filepath.Join(home, "other"): false} {
		e := &errand{request: &request{Op: vault.OpOpen, Registry: registry, StateDir: filepath.Join(home, "state")}}
		if err := e.admitItem(item{Name: "s"}); (err == nil) != want || err != nil && !fault.Is(err, fault.NotConfirmed) {
			t.Errorf("%s: %v", registry, err)
		}
	}
}

// TestKeyIsLockedWithItsHome: the lock of the home in which a key was stored also locks the key, whatever HOME is
// now.
func TestKeyIsLockedWithItsHome(t *testing.T) {
	c := fileCaller(t)
	home := filepath.Dir(c.Dir)
	t.Setenv("HOME", home)
	c.Registry = filepath.Join(home, "config")
	if _, err := c.Put(t.Context(), testKey("security"), profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	file := paths.LockFileIn(paths.StateBelow(home))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(`{"version":1,"locked":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", t.TempDir())
	_, err := c.Describe(t.Context(), testKey("security").Name)
	if f := fault.Of(err); !fault.Is(err, fault.Locked) || f.Hint != fault.Hintf("HOME=%s broker unlock", home) {
		t.Errorf("got %v", err)
	}
	if err := c.Remove(t.Context(), testKey("security").Name); !fault.Is(err, fault.Locked) {
		t.Errorf("remove: %v", err)
	}
}

// TestKeyOfAMovedHome: if the registry of a key is gone, the key belongs to the registry in the user's home
// directory.
func TestKeyOfAMovedHome(t *testing.T) {
	e := &errand{request: &request{Op: vault.OpOpen, Registry: homeRegistry(), StateDir: t.TempDir()}}
	t.Setenv("HOME", lockfile.OwnHome())
	gone := filepath.Join(t.TempDir(), "gone")
	key := item{Name: "s", belongs: belongs{paths.RegistryBelow(gone), gone}}
	if err := e.admitItem(key); err != nil {
		t.Error(err)
	}
	e.Registry = filepath.Join(t.TempDir(), "config")
	if err := e.admitItem(key); !fault.Is(err, fault.NotConfirmed) {
		t.Errorf("another registry: %v", err)
	}
}
