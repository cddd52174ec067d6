package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/system"
	"broker/internal/vault"
)

func TestPassphrase(t *testing.T) {
	t.Parallel()
	c, ctx := freshCaller(t), t.Context()
	put := func() error {
		_, err := c.Put(ctx, testKey("security"), profiles.Endpoint{}, false)
		return err
	}
	// No keyring exists yet: every operation reports that, not a wrong passphrase, and creates nothing.
	for _, pass := range []string{"", "anything"} {
		c.SetPassphrase(secret.New(pass))
		for what, err := range map[string]error{"check": c.Check(ctx), "put": put(), "remove": c.Remove(ctx, "security")} {
			if !errors.Is(err, vault.ErrNotCreated) || !fault.Is(err, fault.NotFound) {
				t.Errorf("%s with passphrase %q before creation: %v", what, pass, err)
			}
		}
	}
	if _, err := os.Stat(c.Dir); err == nil {
		t.Fatal("the directory was created before Create")
	}
	if err := c.Create(ctx, secret.String{}); !errors.Is(err, vault.ErrNoPassphrase) {
		t.Errorf("create without a passphrase: %v", err)
	}
	c.Forget()
	if err := c.Create(ctx, secret.New(testPassphrase)); err != nil {
		t.Fatal(err)
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(ctx, secret.New("another one")); !errors.Is(err, vault.ErrExists) {
		t.Errorf("second create: %v", err)
	}

	before := snapshot(t, c.Dir)
	for pass, want := range map[string]error{"wrong": vault.ErrWrongPassphrase,
		testPassphrase + " ": vault.ErrWrongPassphrase, "": vault.ErrNoPassphrase} {
		c.SetPassphrase(secret.New(pass))
		key := testKey("security")
		key.Replace = true
		_, replace := c.Put(ctx, key, profiles.Endpoint{}, false)
		_, open := c.Open(ctx, testSource("security"), plainCall(), secret.String{})
		for what, err := range map[string]error{
			"check": c.Check(ctx), "put": put(), "replace": replace, "open": open, "remove": c.Remove(ctx, "security"),
			"seed": c.SetSeed(ctx, "security", secret.New(testSeed)), "unseed": c.RemoveSeed(ctx, "security"),
		} {
			if !errors.Is(err, want) || !fault.Is(err, fault.KeyringLocked) || strings.Contains(err.Error(), "correct horse") {
				t.Errorf("%s with passphrase %q: %v", what, pass, err)
			}
		}
	}
	if after := snapshot(t, c.Dir); after != before {
		t.Errorf("a wrong passphrase changed something:\n%s\n%s", before, after)
	}
	c.SetPassphrase(secret.New(testPassphrase))
	if _, err := c.Open(ctx, testSource("security"), plainCall(), secret.String{}); err != nil {
		t.Errorf("the right passphrase: %v", err)
	}
}

// snapshot returns every file of a directory with its mode and content.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s", e.Name(), info.Mode())
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %x", data)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPassphraseFile(t *testing.T) {
	c, ctx := fileCaller(t), t.Context()
	c.Forget()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good", testPassphrase+"\nsecond line\n", 0o600)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	must(t, mkfifo(fifo))
	foreign := write("foreign", testPassphrase, 0o600)
	if os.Getuid() == 0 {
		if err := os.Chown(foreign, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	} else {
		foreign = "/etc/hostname"
	}
	for path, want := range map[string]string{
		good: "", write("crlf", testPassphrase+"\r\n", 0o400): "", write("bare", testPassphrase, 0o600): "",
		write("open", testPassphrase, 0o644): "open to others", link: "symbolic link", fifo: "not a regular file", dir: "not a regular file",
		foreign: "belongs to another user", write("empty", "\n"+testPassphrase, 0o600): "empty", filepath.Join(dir, "none"): "no such file",
		"relative":                       "not an absolute path",
		write("wrong", "wrong\n", 0o600): "wrong passphrase", write("huge", strings.Repeat("x", 70000), 0o600): "larger",
	} {
		t.Setenv(passphraseFile, path)
		c.Forget()
		err := c.Check(ctx)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", filepath.Base(path), err, want)
		}
	}
	// The key that it opened is kept, so the file is not read for each call. Forget deletes the key.
	t.Setenv(passphraseFile, good)
	c.Forget()
	must(t, c.Check(ctx))
	t.Setenv(passphraseFile, filepath.Join(dir, "none"))
	if err := c.Check(ctx); err != nil || !isKey(c.Key()) {
		t.Errorf("with the key from before: %v", err)
	}
	if c.Forget(); c.Check(ctx) == nil {
		t.Error("the key was not forgotten")
	}
	// A passphrase that was set takes precedence.
	t.Setenv(passphraseFile, filepath.Join(dir, "wrong"))
	c.SetPassphrase(secret.New(testPassphrase))
	if err := c.Check(ctx); err != nil {
		t.Error(err)
	}
}

func TestDirectoryRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, dir string)
		text  string
		root  bool
	}{
		"0777":    {func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o777)) }, "mode 0777", false},
		"0750":    {func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o750)) }, "mode 0750", false},
		"sticky":  {func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o777|os.ModeSticky)) }, "open to others", false},
		"foreign": {func(t *testing.T, dir string) { must(t, os.Chown(dir, 65534, 65534)) }, "belongs to another user", true},
		"file": {func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir))
			must(t, os.WriteFile(dir, nil,
				0o600))
		}, "not a directory", false},
		"fifo":     {func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)); must(t, mkfifo(dir)) }, "not a directory", false},
		"symlink":  {func(t *testing.T, dir string) { must(t, os.Rename(dir, dir+"2")); must(t, os.Symlink(dir+"2", dir)) }, "symbolic link", false},
		"relative": {nil, "not an absolute path", false},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.root && os.Getuid() != 0 {
				t.Skip("NOT TESTED: needs root to give a directory away")
			}
			t.Parallel()
			c := fileCaller(t)
			if _, err := c.Put(t.Context(), testKey("security"), profiles.Endpoint{}, false); err != nil {
				t.Fatal(err)
			}
			if tc.spoil == nil {
				c.Dir = "keyring"
			} else {
				tc.spoil(t, c.Dir)
			}
			for what, err := range map[string]error{
				"check": c.Check(t.Context()), "remove": c.Remove(t.Context(), "security"), "create": c.Create(t.Context(), secret.New("x")),
			} {
				if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rowsOf returns the rows of a table that are named, or all.
func rowsOf[R any](t *testing.T, table map[string]R, only []string) map[string]R {
	t.Helper()
	if len(only) == 0 {
		return table
	}
	rows := map[string]R{}
	for _, name := range only {
		row, found := table[name]
		if !found {
			t.Fatalf("there is no row %q", name)
		}
		rows[name] = row
	}
	return rows
}

func TestDamagedItem(t *testing.T) {
	testDamagedItem(t, "flipped", "symlink", "open", "another's")
}

// TestDamagedItemLong has all rows.
func TestDamagedItemLong(t *testing.T) { testDamagedItem(t) }

func testDamagedItem(t *testing.T, only ...string) {
	t.Helper()
	t.Parallel()
	for name, spoil := range rowsOf(t, map[string]func(t *testing.T, path string){
		"cut":     func(t *testing.T, path string) { must(t, os.Truncate(path, 100)) },
		"empty":   func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) },
		"flipped": func(t *testing.T, path string) { edit(t, path, func(b []byte) []byte { b[len(b)-30] ^= 1; return b }) },
		"text":    func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("a.b.c.d.e"), 0o600)) },
		"no alg":  func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("e30.e30.e30.e30.e30"), 0o600)) },
		"huge":    func(t *testing.T, path string) { must(t, os.Truncate(path, 1<<20)) },
		"symlink": func(t *testing.T, path string) {
			must(t, os.Rename(path, path+"2"))
			must(t, os.Symlink(path+"2", path))
		},
		"fifo":      func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, mkfifo(path)) },
		"directory": func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Mkdir(path, 0o700)) },
		"open":      func(t *testing.T, path string) { must(t, os.Chmod(path, 0o644)) },
		"another's": func(t *testing.T, path string) {
			data, err := os.ReadFile(filepath.Join(filepath.Dir(path), itemKey("other")))
			must(t, err)
			must(t, os.WriteFile(path, data, 0o600))
		},
	}, only) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, ctx := fileCaller(t), t.Context()
			for _, source := range []string{"security", "other"} {
				if _, err := c.Put(ctx, testKey(source), profiles.Endpoint{}, false); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(c.Dir, itemKey("security"))
			spoil(t, path)
			before := snapshot(t, c.Dir)
			key := testKey("security")
			key.Replace = true
			_, put := c.Put(ctx, key, profiles.Endpoint{}, false)
			_, open := c.Open(ctx, testSource("security"), plainCall(), secret.String{})
			for what, err := range map[string]error{"open": open, "put": put, "seed": c.SetSeed(ctx, "security", secret.New(testSeed))} {
				if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), itemKey("security")) || !strings.Contains(err.Error(), "left as it is") {
					t.Errorf("%s: %v", what, err)
				}
			}
			if after := snapshot(t, c.Dir); before != after {
				t.Errorf("something was changed:\n%s\n%s", before, after)
			}
			if _, err := c.Open(ctx, testSource("other"), plainCall(), secret.String{}); err != nil {
				t.Errorf("the other source: %v", err)
			}
		})
	}
}

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, change(data), 0o600))
}

// TestCheckItemLost: usable keys stay accessible if the check item is gone.
func TestCheckItemLost(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, path string){
		"removed": func(t *testing.T, path string) { must(t, os.Remove(path)) },
		"cut":     func(t *testing.T, path string) { must(t, os.Truncate(path, 40)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, ctx := oldCaller(t, "security"), t.Context()
			spoil(t, filepath.Join(c.Dir, checkKey))
			if _, err := c.Open(ctx, testSource("security"), plainCall(), secret.String{}); err != nil {
				t.Errorf("open: %v", err)
			}
			if err := c.Create(ctx, secret.New("another")); !errors.Is(err, vault.ErrExists) {
				t.Errorf("create over stored keys: %v", err)
			}
			c.SetPassphrase(secret.New("wrong"))
			if _, err := c.Put(ctx, testKey("two"), profiles.Endpoint{}, false); !errors.Is(err, vault.ErrWrongPassphrase) {
				t.Errorf("put with a wrong passphrase: %v", err)
			}
			c.Forget()
			if err := c.Check(ctx); !errors.Is(err, vault.ErrNoPassphrase) {
				t.Errorf("no passphrase: %v", err)
			}
		})
	}
	c := oldCaller(t)
	must(t, os.Truncate(filepath.Join(c.Dir, checkKey), 40))
	if err := c.Check(t.Context()); !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "check item") {
		t.Errorf("only a damaged check item: %v", err)
	}
}

func TestModes(t *testing.T) {
	t.Setenv("BROKER_TEST_VAULT", "main")
	for _, mask := range []int{0, 0o077, 0o777} {
		exe := vaultExe(t)
		old := system.Umask(mask)
		home, err := os.MkdirTemp("/tmp", "modes")
		must(t, err)
		must(t, os.Chmod(home, 0o700))
		c := &vault.Caller{Exe: exe, Backend: func() string { return vault.File }, Dir: home + "/a/keyring",
			StateDir: home + "/state", Registry: testRegistry, Timeout: patience}
		err = c.Create(t.Context(), secret.New(testPassphrase))
		if err == nil {
			_, err = c.Put(t.Context(), testKey("security"), profiles.Endpoint{}, false)
		}
		system.Umask(old)
		must(t, err)
		for path, want := range map[string]os.FileMode{
			"a": 0o700, "a/keyring": 0o700, "a/keyring/" + itemKey("security"): 0o600, "a/keyring/" + checkKey: 0o600, "a/keyring/" + lockName: 0o600,
			"a/keyring/" + keyFileNames[0]: 0o600, "a/keyring/" + keyFileNames[1]: 0o600,
		} {
			if info, err := os.Stat(filepath.Join(home, path)); err != nil || info.Mode().Perm() != want {
				t.Errorf("umask %03o: %s: %v, %v", mask, path, info.Mode(), err)
			}
		}
		_ = os.RemoveAll(home)
	}
}

// written returns the request of a Caller as it would be written, for tests that start the process themselves.
func written(t *testing.T, backend string, c *vault.Caller, q *request) []byte {
	t.Helper()
	q.Backend, q.Dir, q.StateDir, q.Registry, q.TimeoutMS = backend, c.Dir, c.StateDir, c.Registry, patience.Milliseconds()
	q.Passphrase = secret.New(testPassphrase).Reveal()
	data, err := json.Marshal(q)
	must(t, err)
	return data
}

// TestReadOnly: without write permission, the old item stays.
func TestReadOnly(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: needs root to become another user")
	}
	t.Run("read-only directory", func(t *testing.T) {
		home, err := os.MkdirTemp("/tmp", "nobody")
		must(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(home) })
		must(t, os.Chmod(home, 0o711))
		exe := filepath.Join(home, "exe")
		data, err := os.ReadFile(vaultExe(t))
		must(t, err)
		must(t, os.WriteFile(exe, data, 0o755))
		must(t, os.Mkdir(home+"/his", 0o700))
		must(t, os.Chown(home+"/his", 65534, 65534))
		c := &vault.Caller{Dir: home + "/his/keyring", StateDir: home + "/his/state", Registry: home + "/his/config"}
		as := func(uid uint32, q *request) *vault.Fault {
			t.Helper()
			cmd := exec.Command(exe, "vault")
			cmd.Stdin = bytes.NewReader(written(t, vault.File, c, q))
			cmd.SysProcAttr = asUser(uid)
			out, err := cmd.Output()
			must(t, err)
			var a answer
			must(t, json.Unmarshal(out, &a))
			return a.Fault
		}
		for _, q := range []*request{{Op: vault.OpCreate}, putRequest(testKey("security"), profiles.Endpoint{}, false)} {
			if f := as(65534, q); f != nil {
				t.Fatal(f.Message)
			}
		}
		must(t, os.Chmod(c.Dir, 0o500))
		before := snapshot(t, c.Dir)
		seed := seedRequest("security", secret.New(testSeed))
		if f := as(65534, seed); f == nil || f.Kind != fault.Keyring || !strings.Contains(f.Message, "permission denied") {
			t.Errorf("write: %+v", f)
		}
		if f := as(65534, &request{Op: vault.OpRemove, Source: "security"}); f == nil || f.Kind != fault.Keyring {
			t.Errorf("remove: %+v", f)
		}
		if f := as(65534, &request{Op: vault.OpDescribe, Source: "security"}); f != nil {
			t.Errorf("read: %+v", f)
		}
		if after := snapshot(t, c.Dir); after != before {
			t.Errorf("changed:\n%s\n%s", before, after)
		}
		// Another user gets nothing from it, not even root.
		if f := as(0, &request{Op: vault.OpDescribe, Source: "security"}); f == nil || !strings.Contains(f.Message, "belongs to another user") {
			t.Errorf("root: %+v", f)
		}
		must(t, os.Chmod(c.Dir, 0o700))
		if f := as(65534, seed); f != nil {
			t.Errorf("writable again: %+v", f)
		}
	})
}

// TestNothingInPlainText searches every file for the secrets.
func TestNothingInPlainText(t *testing.T) {
	t.Parallel()
	c, ctx := fileCaller(t), t.Context()
	key := testKey("security")
	key.Seed = secret.New(testSeed)
	if _, err := c.Put(ctx, key, profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open(ctx, testSource("security"), mfaCall(), secret.New("918273")); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(filepath.Dir(c.Dir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		for _, s := range []string{testSecret, testSeed, testPassphrase, "918273", testKeyID, testSerial} {
			if bytes.Contains(data, []byte(s)) {
				t.Errorf("%s contains %q", path, s)
			}
		}
		return err
	})
	if err != nil || files < 4 {
		t.Errorf("%d files, %v", files, err)
	}
}
