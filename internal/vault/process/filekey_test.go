package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/99designs/keyring"

	"broker/internal/fault"
	"broker/internal/lockfile"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/stretch"
	"broker/internal/vault"
)

// sealOld writes an item in the old format, without a key: sealed with the passphrase itself.
func sealOld(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	lib, err := library(dir, secret.New(testPassphrase))
	if err == nil {
		err = lib.Set(keyring.Item{Key: name, Label: "broker: " + name, Data: data})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// homeRegistry returns the registry to which an item belongs that names none.
func homeRegistry() string { return paths.RegistryBelow(lockfile.OwnHome()) }

// oldCaller returns a Caller, with the passphrase, on a file keyring in the old format, without a key.
func oldCaller(t *testing.T, sources ...string) *vault.Caller {
	t.Helper()
	c := freshCaller(t)
	c.Registry = homeRegistry()
	must(t, os.MkdirAll(c.Dir, 0o700))
	sealOld(t, c.Dir, checkKey, []byte(checkText))
	for _, name := range sources {
		data, err := encodeItem(item{Name: name, AccessKeyID: testKeyID, Secret: secret.New(testSecret)})
		must(t, err)
		sealOld(t, c.Dir, itemKey(name), data)
	}
	c.SetPassphrase(secret.New(testPassphrase))
	return c
}

// builtKeyring returns a Caller, with the passphrase, on a keyring that broker 0.1.0+dfad183 wrote: two sources,
// one with a seed.
func builtKeyring(t *testing.T) *vault.Caller {
	t.Helper()
	c := freshCaller(t)
	c.Registry = homeRegistry()
	copyDir(t, "testdata/old-keyring", c.Dir)
	c.SetPassphrase(secret.New(testPassphrase))
	return c
}

// copyDir copies the files of a directory with private modes.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.MkdirAll(to, 0o700))
	entries, err := os.ReadDir(from)
	must(t, err)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(from, e.Name()))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(to, e.Name()), data, 0o600))
	}
}

// another returns a Caller on the same keyring that knows only what opens it.
func another(c *vault.Caller, opens secret.String) *vault.Caller {
	n := sibling(c)
	n.SetPassphrase(opens)
	return n
}

// sealedWith returns which items of a keyring a text opens, and all items.
func sealedWith(t *testing.T, dir string, text secret.String) (opened, all []string) {
	t.Helper()
	all, err := (&fileRing{dir: dir}).items()
	must(t, err)
	for _, name := range all {
		if _, err := decryptWith(text, dir, name); err == nil {
			opened = append(opened, name)
		} else if !errors.Is(err, errWrongKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	return opened, all
}

// wantResealed fails unless every item opens with the key, none opens with the passphrase, and the Caller has the
// key.
func wantResealed(t *testing.T, c *vault.Caller, items int) {
	t.Helper()
	if !isKey(c.Key()) {
		t.Error("the caller still has the passphrase")
	}
	if opened, all := sealedWith(t, c.Dir, c.Key()); len(all) != items || len(opened) != items {
		t.Errorf("the key opens %v of %v, want %d", opened, all, items)
	}
	if opened, _ := sealedWith(t, c.Dir, secret.New(testPassphrase)); len(opened) > 0 {
		t.Errorf("the passphrase itself opens %v", opened)
	}
	for _, name := range keyFileNames {
		if info, err := os.Stat(filepath.Join(c.Dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// TestGuessOffline: an attacker has the files of a keyring whose passphrase is "a". In the old format, a guess at
// any item cost a few milliseconds. Now no item opens with the passphrase, and each guess at the key costs an
// argon2id.
func TestGuessOffline(t *testing.T) {
	t.Setenv("BROKER_TEST_STRETCH", "real")
	old := freshCaller(t)
	must(t, os.MkdirAll(old.Dir, 0o700))
	lib, err := library(old.Dir, secret.New("a"))
	must(t, err)
	must(t, lib.Set(keyring.Item{Key: checkKey, Data: []byte(checkText)}))
	if opened, _ := sealedWith(t, old.Dir, secret.New("a")); len(opened) != 1 {
		t.Fatal("the guess does not open the old format: the test proves nothing")
	}
	fresh := freshCaller(t)
	must(t, fresh.Create(t.Context(), secret.New("a")))
	for what, c := range map[string]*vault.Caller{"new": fresh, "old": old} {
		c.SetPassphrase(secret.New("a"))
		if _, err := c.Put(t.Context(), testKey("security"), profiles.Endpoint{}, false); err != nil {
			t.Fatal(err)
		}
		if opened, all := sealedWith(t, c.Dir, secret.New("a")); len(opened) > 0 || len(all) != 2 {
			t.Errorf("%s: the passphrase opens %v of %v", what, opened, all)
		}
		for _, name := range keyFileNames {
			data, err := os.ReadFile(filepath.Join(c.Dir, name))
			must(t, err)
			f, err := decodeKeyFile(data)
			must(t, err)
			if f.Stretch.MemoryKiB < 64<<10 || f.Stretch.Passes < 3 || len(f.Stretch.Salt) < 16 {
				t.Errorf("%s: %s is stretched with %+v, weaker than SECURITY.md says", what, name, f.Stretch)
			}
			// Cheaper parameters in the file do not make a guess cheaper.
			f.Stretch.Passes--
			if _, ok := f.open(secret.New("a")); ok {
				t.Errorf("%s: %s opens with other parameters", what, name)
			}
		}
	}
	if fresh.Key().Reveal() == old.Key().Reveal() {
		t.Error("two keyrings have the same key")
	}
}

// TestResealOldKeyring: the items of an older program are sealed with a key at the first use of the right
// passphrase.
func TestResealOldKeyring(t *testing.T) {
	testResealOldKeyring(t, "check", "open")
}

// TestResealOldKeyringLong has all rows.
func TestResealOldKeyringLong(t *testing.T) { testResealOldKeyring(t) }

func testResealOldKeyring(t *testing.T, only ...string) {
	t.Helper()
	t.Parallel()
	for what, use := range rowsOf(t, map[string]func(c *vault.Caller) error{
		"check":    func(c *vault.Caller) error { return c.Check(t.Context()) },
		"describe": func(c *vault.Caller) error { _, err := c.Describe(t.Context(), "other one"); return err },
		"seed":     func(c *vault.Caller) error { return c.SetSeed(t.Context(), "other one", secret.New(testSeed)) },
		"drop": func(c *vault.Caller) error {
			return errors.Join(c.Drop(t.Context(), "security", ""), c.Check(t.Context()))
		},
		"open": func(c *vault.Caller) error {
			_, err := c.Open(t.Context(), testSource("security"), plainCall(), secret.String{})
			return err
		},
	}, only) {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := builtKeyring(t)
			before := snapshot(t, c.Dir)
			if c.Probe(t.Context()); snapshot(t, c.Dir) != before {
				t.Error("a probe wrote to the keyring")
			}
			for _, pass := range []string{"", "wrong", testPassphrase + " "} {
				if err := use(another(c, secret.New(pass))); !fault.Is(err, fault.KeyringLocked) {
					t.Errorf("passphrase %q: %v", pass, err)
				}
			}
			must(t, os.RemoveAll(filepath.Join(c.Dir, lockName)))
			if snapshot(t, c.Dir) != before {
				t.Error("a wrong passphrase changed the keyring")
			}
			must(t, use(c))
			wantResealed(t, c, 3)
			// Everything can be read with the key alone, and with the passphrase.
			for _, opens := range []secret.String{c.Key(), secret.New(testPassphrase)} {
				n := another(c, opens)
				info, err := n.Describe(t.Context(), "security")
				if err != nil || info.AccessKeyID != testKeyID || !info.HasSeed {
					t.Errorf("%+v, %v", info, err)
				}
				if _, err := n.Describe(t.Context(), "other one"); err != nil {
					t.Error(err)
				}
			}
			after := snapshot(t, c.Dir)
			must(t, another(c, secret.New(testPassphrase)).Check(t.Context()))
			if err := another(c, secret.New("wrong")).Check(t.Context()); !errors.Is(err, vault.ErrWrongPassphrase) {
				t.Errorf("wrong passphrase: %v", err)
			}
			if snapshot(t, c.Dir) != after {
				t.Error("it was resealed with another key")
			}
		})
	}
}

// TestResealAtOnce: several processes open the old keyring at the same time, some of them while they hold the
// lock.
func TestResealAtOnce(t *testing.T) {
	t.Parallel()
	c := builtKeyring(t)
	callers := make([]*vault.Caller, vault.MaxProcesses)
	var wg sync.WaitGroup
	for i := range callers {
		callers[i] = another(c, secret.New(testPassphrase))
		wg.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = callers[i].Open(t.Context(), testSource("security"), plainCall(), secret.String{})
			} else {
				err = callers[i].SetSeed(t.Context(), "other one", secret.New(testSeed))
			}
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for _, n := range callers {
		wantResealed(t, n, 3)
	}
}

// TestReadDuringReseal: a process that has checked the passphrase keeps reading while another one seals the items
// with the key.
func TestReadDuringReseal(t *testing.T) {
	t.Parallel()
	c := builtKeyring(t)
	readers := []*fileRing{}
	for _, readOnly := range []bool{true, false} {
		for _, proven := range []bool{true, false} {
			r, err := openFile(c.Dir, secret.New(testPassphrase))
			must(t, err)
			r.readOnly = true
			if proven {
				must(t, r.prove(t.Context()))
			}
			r.readOnly = readOnly
			readers = append(readers, r)
		}
	}
	must(t, c.Check(t.Context()))
	for i, r := range readers {
		if _, err := r.get(t.Context(), itemKey("security")); err != nil {
			t.Errorf("reader %d: %v", i, err)
		}
	}
}

// TestResealInterrupted: there is a key, but items are sealed with the passphrase, because a run was killed, a
// backup was restored, or both. A program without space to write reads all items and keeps the passphrase for
// that.
func TestResealInterrupted(t *testing.T) {
	t.Parallel()
	for what, names := range map[string][]string{
		"all": {checkKey, itemKey("security"), itemKey("other one")}, "one": {itemKey("security")}, "check item": {checkKey},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := builtKeyring(t)
			must(t, c.Check(t.Context()))
			for _, name := range names {
				data, err := os.ReadFile(filepath.Join("testdata/old-keyring", name))
				must(t, err)
				must(t, os.WriteFile(filepath.Join(c.Dir, name), data, 0o600))
			}
			reader, err := openFile(c.Dir, secret.New(testPassphrase))
			must(t, err)
			reader.readOnly = true
			for _, name := range []string{"security", "other one"} {
				if _, err := reader.get(t.Context(), itemKey(name)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if !reader.found.IsZero() {
				t.Error("a key that does not open all items was returned")
			}
			n := another(c, secret.New(testPassphrase))
			must(t, n.Check(t.Context()))
			wantResealed(t, n, 3)
			if n.Key().Reveal() != c.Key().Reveal() {
				t.Error("the keyring has another key")
			}
		})
	}
}

// TestResealFullDisk: if nothing can be written, the old keyring works as before, and a notice says why it is not
// resealed.
func TestResealFullDisk(t *testing.T) {
	t.Parallel()
	c := freshCaller(t)
	full := smallDisk(t, c.Dir)
	if full == nil {
		t.Skip("NOT TESTED: needs root to mount a file system to fill")
	}
	c.Registry = homeRegistry()
	copyDir(t, "testdata/old-keyring", c.Dir)
	var mu sync.Mutex
	var notices []string
	c.Notice = func(_, line string) { mu.Lock(); notices = append(notices, line); mu.Unlock() }
	works := func(what string, notice string) {
		t.Helper()
		notices = nil
		c.SetPassphrase(secret.New(testPassphrase))
		for range 2 { // the second time with what the first call left in the caller
			for _, name := range []string{"security", "other one"} {
				if _, err := c.Open(t.Context(), testSource(name), plainCall(), secret.String{}); err != nil {
					t.Errorf("%s: %s: %v", what, name, err)
				}
			}
		}
		if c.Key().Reveal() != testPassphrase {
			t.Errorf("%s: the caller keeps a key that does not open all items", what)
		}
		if mu.Lock(); !slices.ContainsFunc(notices, func(s string) bool { return strings.Contains(s, notice) }) {
			t.Errorf("%s: %q does not say %q", what, notices, notice)
		}
		mu.Unlock()
	}
	before := snapshot(t, c.Dir)
	free := full(t)
	works("no key", "still sealed with its passphrase alone, and works as before")
	free()
	for _, left := range []string{lockName} { // a key file that could be placed after all is fine too
		_ = os.Remove(filepath.Join(c.Dir, left))
	}
	if after := snapshot(t, c.Dir); after != before {
		t.Errorf("something was left behind:\n%s\n%s", before, after)
	}
	// The disk becomes full after the key was written.
	f, _, err := newKeyFile(secret.New(testPassphrase))
	must(t, err)
	r, err := openFile(c.Dir, secret.New(testPassphrase))
	must(t, err)
	must(t, r.placeKeyFile(f))
	free = full(t)
	works("a key", "part of the keyring is still sealed with its passphrase alone")
	free()
	must(t, c.Check(t.Context()))
	wantResealed(t, c, 3)
}

// respell changes the content of a file with the key.
func respell(t *testing.T, path string, change func(f *keyFile)) {
	t.Helper()
	edit(t, path, func(data []byte) []byte {
		f, err := decodeKeyFile(data)
		must(t, err)
		change(f)
		data, err = json.Marshal(f)
		must(t, err)
		return data
	})
}

// TestKeyFileSpoiled: one of the two files with the key is enough, even if the other one has other content. A
// damaged file is set aside and rewritten; other problems are reported. If both are damaged, the error names one
// of them, and neither is overwritten.
func TestKeyFileSpoiled(t *testing.T) {
	testKeyFileSpoiled(t, "cut", "open", "fifo", "memory", "cheaper")
}

// TestKeyFileSpoiledLong has all rows.
func TestKeyFileSpoiledLong(t *testing.T) { testKeyFileSpoiled(t) }

func testKeyFileSpoiled(t *testing.T, only ...string) {
	t.Helper()
	t.Parallel()
	type spoiler = func(t *testing.T, path string)
	again := func(change func(f *keyFile)) spoiler {
		return func(t *testing.T, path string) {
			t.Helper()
			respell(t, path, change)
		}
	}
	const same = "same" // the change is within the limits, so only the authentication detects it
	type row struct {
		spoil func(t *testing.T, path string)
		says  string
	}
	for name, tc := range rowsOf(t, map[string]row{
		"cut":   {func(t *testing.T, path string) { must(t, os.Truncate(path, 100)) }, "not the JSON"},
		"empty": {func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) }, "not the JSON"},
		"huge":  {func(t *testing.T, path string) { must(t, os.Truncate(path, 1<<20)) }, "larger than"},
		"two": {func(t *testing.T, path string) {
			edit(t, path, func(b []byte) []byte { return append(b, b...) })
		}, "text after"},
		"unknown": {func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte(`{"version":1,"x":1}`), 0o600))
		}, "not the JSON"},
		"version 0": {again(func(f *keyFile) { f.Version = 0 }), "not the JSON"},
		"open":      {func(t *testing.T, path string) { must(t, os.Chmod(path, 0o666)) }, "open to others"},
		"fifo":      {func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, mkfifo(path)) }, "not a regular file"},
		"directory": {func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o700))
		}, "not a regular file"},
		"symlink": {func(t *testing.T, path string) {
			must(t, os.Rename(path, path+"2"))
			must(t, os.Symlink(path+"2", path))
		}, "symbolic link"},
		// What a hostile file may cost: a gigabyte of memory, hours of time.
		"memory": {again(func(f *keyFile) { f.Stretch.MemoryKiB = 1 << 20 }), "invalid parameters for the key derivation"},
		"passes": {again(func(f *keyFile) { f.Stretch.Passes = 1 << 30 }), "invalid parameters for the key derivation"},
		"lanes":  {again(func(f *keyFile) { f.Stretch.Lanes = 0 }), "invalid parameters for the key derivation"},

		"cheaper": {again(func(f *keyFile) { f.Stretch.MemoryKiB++ }), same},
		"flipped": {again(func(f *keyFile) { f.Sealed[20] ^= 1 }), same},
		"sum":     {again(func(f *keyFile) { f.Sum[0] ^= 1 }), same},
	}, only) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fileCaller(t)
			put(t, c, testKey("security"))
			key := c.Key()
			paths := []string{filepath.Join(c.Dir, keyFileNames[0]), filepath.Join(c.Dir, keyFileNames[1])}
			whole, err := os.ReadFile(paths[0])
			must(t, err)
			describe := func() (told string, perr, kerr error) {
				byPassphrase, byKey := another(c, secret.New(testPassphrase)), another(c, key)
				var mu sync.Mutex
				byPassphrase.Notice = func(_, line string) { mu.Lock(); defer mu.Unlock(); told += line }
				_, perr = byPassphrase.Describe(t.Context(), "security")
				_, kerr = byKey.Describe(t.Context(), "security")
				return told, perr, kerr
			}
			for i, path := range paths {
				tc.spoil(t, path)
				if told, perr, kerr := describe(); perr != nil || kerr != nil || !strings.Contains(told, keyFileNames[i]) {
					t.Errorf("one is intact: %v, %v, told %q", perr, kerr, told)
				}
				if now, err := readOwn(path, maxKeyFile); err == nil && !bytes.Equal(now, whole) {
					t.Errorf("it was not repaired: %s", now)
				}
				must(t, os.RemoveAll(path))
				must(t, os.RemoveAll(path+"2"))
				must(t, os.WriteFile(path, whole, 0o600))
			}
			tc.spoil(t, paths[0])
			tc.spoil(t, paths[1])
			before := snapshot(t, c.Dir)
			_, perr, kerr := describe()
			if after := snapshot(t, c.Dir); after != before {
				t.Errorf("something was written:\n%s\n%s", before, after)
			}
			if tc.says == same {
				if !errors.Is(perr, vault.ErrWrongPassphrase) {
					t.Errorf("both damaged: %v", perr)
				}
				return
			}
			for _, err := range []error{perr, kerr, c.Create(t.Context(), secret.New("x"))} {
				if errors.Is(err, vault.ErrExists) { // from Create, which does not read further
					continue
				}
				if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), tc.says) ||
					!strings.Contains(err.Error(), paths[0]) {
					t.Errorf("both damaged: %v", err)
				}
			}
		})
	}
}

// TestKeyFilesLost: without the two files the right passphrase opens nothing. The error says what is missing, even
// if the caller has the key as the daemon does, and nothing is written.
func TestKeyFilesLost(t *testing.T) {
	t.Parallel()
	c := fileCaller(t)
	put(t, c, testKey("security"))
	for _, name := range keyFileNames {
		must(t, os.Remove(filepath.Join(c.Dir, name)))
	}
	before := snapshot(t, c.Dir)
	for opens, kind := range map[string]fault.Kind{c.Key().Reveal(): fault.Keyring, testPassphrase: fault.KeyringLocked} {
		_, err := another(c, secret.New(opens)).Describe(t.Context(), "security")
		if !fault.Is(err, kind) || !strings.Contains(err.Error(), "key.json and key-copy.json are missing in "+c.Dir) ||
			!strings.Contains(err.Error(), "only a backup") || fault.Of(err).Hint != fault.Hintf("ls -l %s", c.Dir) {
			t.Errorf("%v", err)
		}
	}
	if after := snapshot(t, c.Dir); after != before {
		t.Errorf("something was written:\n%s\n%s", before, after)
	}
}

// TestKeyFileNewer: files of a newer program are neither read in part nor ignored.
func TestKeyFileNewer(t *testing.T) {
	t.Parallel()
	c := fileCaller(t)
	put(t, c, testKey("security"))
	must(t, os.WriteFile(filepath.Join(c.Dir, keyFileNames[0]), []byte(`{"version":2,"argon3":{}}`), 0o600))
	before := snapshot(t, c.Dir)
	for _, opens := range []secret.String{c.Key(), secret.New(testPassphrase)} {
		_, err := another(c, opens).Describe(t.Context(), "security")
		if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "newer version of Broker") {
			t.Errorf("got %v", err)
		}
	}
	if snapshot(t, c.Dir) != before {
		t.Error("something was written")
	}
}

// TestKeyFileLost: each of the two files is restored by the next program that knows the passphrase.
func TestKeyFileLost(t *testing.T) {
	t.Parallel()
	c := fileCaller(t)
	put(t, c, testKey("security"))
	for _, name := range keyFileNames {
		must(t, os.Remove(filepath.Join(c.Dir, name)))
		if _, err := another(c, c.Key()).Describe(t.Context(), "security"); err != nil {
			t.Errorf("without %s, by the key: %v", name, err)
		}
		if _, err := another(c, secret.New(testPassphrase)).Describe(t.Context(), "security"); err != nil {
			t.Errorf("without %s: %v", name, err)
		}
		wantResealed(t, c, 2)
	}
}

// TestKeyOfAnotherKeyring: a key that a caller kept from a keyring that was recreated counts as no key.
func TestKeyOfAnotherKeyring(t *testing.T) {
	c, ctx := fileCaller(t), t.Context()
	must(t, os.RemoveAll(c.Dir))
	must(t, another(c, secret.String{}).Create(ctx, secret.New("another passphrase")))
	if err := c.Check(ctx); !errors.Is(err, vault.ErrNoPassphrase) {
		t.Errorf("got %v", err)
	}
	path := filepath.Join(t.TempDir(), "words")
	must(t, os.WriteFile(path, []byte("another passphrase\n"), 0o600))
	t.Setenv(passphraseFile, path)
	stale := c.Key().Reveal()
	if err := c.Check(ctx); err != nil || c.Key().Reveal() == stale {
		t.Errorf("with the passphrase file: %v", err)
	}
}

// TestForgetDuringCall: a key that arrives in an answer after Forget is not kept.
func TestForgetDuringCall(t *testing.T) {
	t.Parallel()
	c := freshCaller(t)
	told := false
	c.Notice = func(_, line string) { // before the answer
		told = strings.Contains(line, "weak")
		c.Forget()
	}
	must(t, c.Create(t.Context(), secret.New("a")))
	if !told {
		t.Error("no notice about a weak passphrase")
	}
	if !c.Key().IsZero() {
		t.Error("the key was kept")
	}
	c.Notice = func(_, line string) { t.Errorf("told of a good passphrase: %s", line) }
	c.Dir += "2"
	must(t, c.Create(t.Context(), secret.New("nearby-otter-lamp-vast")))
}

// TestCreateInterrupted: a key that a killed create left is used if the passphrase opens it, and does not get in
// the way otherwise.
func TestCreateInterrupted(t *testing.T) {
	t.Parallel()
	for pass, same := range map[string]bool{testPassphrase: true, "another passphrase": false} {
		c := fileCaller(t)
		key := c.Key().Reveal()
		must(t, os.Remove(filepath.Join(c.Dir, checkKey)))
		if err := c.Check(t.Context()); !errors.Is(err, vault.ErrNotCreated) {
			t.Errorf("got %v", err)
		}
		must(t, c.Create(t.Context(), secret.New(pass)))
		if (c.Key().Reveal() == key) != same {
			t.Errorf("%q: the same key: %v", pass, !same)
		}
		put(t, c, testKey("security"))
		if _, err := another(c, secret.New(pass)).Describe(t.Context(), "security"); err != nil {
			t.Error(err)
		}
	}
}

func FuzzDecodeKeyFile(f *testing.F) {
	good, _, err := newKeyFile(secret.New(testPassphrase))
	if err != nil {
		f.Fatal(err)
	}
	data, _ := json.Marshal(good)
	f.Add(data)
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := decodeKeyFile(b); err == nil && (k.Version != keyFileVersion || k.Stretch.Check() != nil) {
			t.Errorf("%q was accepted", b)
		}
	})
}

// BenchmarkFileGet reads an item of an unlocked file keyring. In the old format the check item was opened first.
func BenchmarkFileGet(b *testing.B) {
	dir := b.TempDir()
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	must(os.Chmod(dir, 0o700))
	sealOld(b, dir, checkKey, []byte(checkText))
	sealOld(b, dir, itemKey("security"), []byte("item"))
	pass := secret.New(testPassphrase)
	old := func() {
		for _, name := range []string{checkKey, itemKey("security")} {
			_, err := decryptWith(pass, dir, name)
			must(err)
		}
	}
	sealed := filepath.Join(b.TempDir(), "keyring")
	must(os.Mkdir(sealed, 0o700))
	must(os.CopyFS(sealed, os.DirFS(dir)))
	must(os.Chmod(filepath.Join(sealed, checkKey), 0o600))
	must(os.Chmod(filepath.Join(sealed, itemKey("security")), 0o600))
	r, err := openFile(sealed, pass)
	must(err)
	must(r.prove(b.Context()))
	key := r.found
	fresh := func() {
		r, err := openFile(sealed, key)
		must(err)
		_, err = r.get(b.Context(), itemKey("security"))
		must(err)
	}
	var before, now time.Duration
	for b.Loop() { // alternating, so that a busy machine affects both alike
		start := time.Now()
		old()
		middle := time.Now()
		fresh()
		before, now = before+middle.Sub(start), now+time.Since(middle)
	}
	b.ReportMetric(float64(now.Microseconds())/float64(b.N), "new-µs/op")
	b.ReportMetric(float64(before.Microseconds())/float64(b.N), "old-µs/op")
	b.ReportMetric(float64(now)/float64(before), "new/old")
}

// BenchmarkGuess is one guess at a passphrase, at an item of the old format and at the key.
func BenchmarkGuess(b *testing.B) {
	dir := b.TempDir()
	sealOld(b, dir, checkKey, []byte(checkText))
	cheap := newStretch
	newStretch = stretch.New
	f, _, err := newKeyFile(secret.New(testPassphrase))
	newStretch = cheap
	if err != nil {
		b.Fatal(err)
	}
	var item, key time.Duration
	for b.Loop() {
		start := time.Now()
		_, _ = decryptWith(secret.New("a guess"), dir, checkKey)
		middle := time.Now()
		_, _ = f.open(secret.New("a guess"))
		item, key = item+middle.Sub(start), key+time.Since(middle)
	}
	b.ReportMetric(float64(b.N)/item.Seconds(), "old-guesses/s")
	b.ReportMetric(float64(b.N)/key.Seconds(), "new-guesses/s")
}

// TestResealKilledLong kills the process that reseals an old keyring at each system call that changes a file. At
// any moment the passphrase opens every key, also for a program that cannot write, and the next program completes
// the work.
func TestResealKilledLong(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("strace is not installed, and CI is set")
		}
		t.Skip("NOT TESTED: strace is not installed")
	}
	calls := []string{"/^rename", "/^unlink", "mkdirat", "write", "fsync", "fchmodat"}
	stages := map[string]int{}
	for _, call := range calls {
		for when, ended := 1, false; !ended; when++ {
			if when > 200 {
				t.Fatalf("%s never ends", call)
			}
			c := builtKeyring(t)
			cmd := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call,
				"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", call, when), c.Exe, "vault")
			cmd.Env = vault.Environment(os.Environ(), []string{vault.File})
			cmd.Stdin = bytes.NewReader(written(t, vault.File, c, &request{Op: vault.OpCheck}))
			out, _ := cmd.Output()
			var a answer
			ended = json.Unmarshal(out, &a) == nil && a.Fault == nil
			if ended && a.Key == "" {
				t.Errorf("%s %d: it finished without a key", call, when)
			}
			opened, all := sealedWith(t, c.Dir, secret.New(testPassphrase))
			_, err := os.Stat(filepath.Join(c.Dir, keyFileNames[0]))
			stages[fmt.Sprintf("%d of %d sealed with the passphrase, key %v", len(opened), len(all), err == nil)]++
			reader, err := openFile(c.Dir, secret.New(testPassphrase))
			must(t, err)
			reader.readOnly = true
			for _, name := range []string{"security", "other one"} {
				if _, err := load(t.Context(), reader, name); err != nil {
					t.Errorf("%s %d: the key of %s is lost: %v", call, when, name, err)
				}
			}
			must(t, c.Check(t.Context()))
			wantResealed(t, c, 3)
			must(t, c.SetSeed(t.Context(), "other one", secret.New(testSeed)))
			if left, _ := filepath.Glob(filepath.Join(c.Dir, stagingPattern)); len(left) > 0 {
				t.Errorf("%s %d: left behind: %v", call, when, left)
			}
		}
	}
	t.Log(stages)
	before, after := stages["3 of 3 sealed with the passphrase, key false"], stages["0 of 3 sealed with the passphrase, key true"]
	if before == 0 || after == 0 {
		t.Errorf("it was not killed before and after: %v", stages)
	}
}

// TestResealReadOnly: a directory that its owner may only read works as before, with the passphrase.
func TestResealReadOnly(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: needs root to become another user")
	}
	const nameless = 3000001 // not in the user database, so HOME is the home directory
	home, err := os.MkdirTemp("/tmp", "nobody")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	must(t, os.Chmod(home, 0o711))
	exe := filepath.Join(home, "exe")
	data, err := os.ReadFile(vaultExe(t))
	must(t, err)
	must(t, os.WriteFile(exe, data, 0o755))
	c := &vault.Caller{Dir: home + "/his/keyring", StateDir: home + "/his/state", Registry: paths.RegistryBelow(home + "/his")}
	copyDir(t, "testdata/old-keyring", c.Dir)
	must(t, os.WriteFile(filepath.Join(c.Dir, lockName), nil, 0o600))
	must(t, filepath.WalkDir(home+"/his", func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, nameless, nameless))
	}))
	must(t, os.Chmod(c.Dir, 0o500))
	before := snapshot(t, c.Dir)
	ask := func() answer {
		t.Helper()
		cmd := exec.Command(exe, "vault")
		cmd.Stdin = bytes.NewReader(written(t, vault.File, c, &request{Op: vault.OpDescribe, Source: "security"}))
		cmd.Env = append(os.Environ(), "HOME="+home+"/his")
		cmd.SysProcAttr = asUser(nameless)
		out, err := cmd.Output()
		must(t, err)
		var a answer
		must(t, json.Unmarshal(out, &a))
		if a.Fault != nil {
			t.Errorf("read: %+v", a.Fault)
		}
		return a
	}
	if a := ask(); a.Key != "" {
		t.Error("a key that opens nothing was returned")
	}
	if after := snapshot(t, c.Dir); after != before {
		t.Errorf("changed:\n%s\n%s", before, after)
	}
	must(t, os.Chmod(c.Dir, 0o700))
	if a := ask(); a.Key == "" {
		t.Error("the directory is writable again, but the keyring was not sealed with a key")
	}
}
