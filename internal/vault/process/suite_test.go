package process

import (
	"bytes"
	"context"
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

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/vault"
)

// bed is a keyring of a test's own, unlocked. What is nil a keyring does not have, or not in a way that a test can bring about.
type bed struct {
	backend string
	// thorough tests try every moment and every name, others a few.
	thorough bool
	// caller is a new way to it.
	caller func(t *testing.T) *vault.Caller
	// lock closes it, with nobody there to open it; unlock opens it again.
	lock, unlock func(t *testing.T)
	// mute lets a prompt come that nobody sees, for a keyring that is locked; the test gives DISPLAY.
	mute func(t *testing.T) (stop func())
	// stop ends what serves the keyring, with its bus; start brings it back, unlocked.
	stop, start func(t *testing.T)
	// freeze stops its service in the middle of life.
	freeze func(t *testing.T) (thaw func())
	// spoil puts bytes in the place of an item, which are nothing that the library or we would write.
	spoil func(t *testing.T, key string, data []byte)
	// full makes it so that nothing can be written.
	full func(t *testing.T) (free func())
	// crash are the system calls at which a writer is killed, one after the other, and how often at most.
	crash map[string]int
	// room is how many bytes an item may have; 0 where nothing is known of a limit.
	room int
	// left counts what a crash has left behind.
	left func() int
}

// beds are how to make the keyrings that can be tested here; those of one system are in files of it.
var beds = map[string]func(*testing.T) *bed{vault.File: fileBed}

// TestKeyrings is the one suite of behaviour, over the keyring that needs nothing but us.
func TestKeyrings(t *testing.T) { testKeyrings(t, false, vault.File) }

// TestKeyringsLong is the suite over every keyring, with writers killed at every moment.
func TestKeyringsLong(t *testing.T) { testKeyrings(t, true, vault.Backends()...) }

func testKeyrings(t *testing.T, thorough bool, backends ...string) {
	for _, backend := range backends {
		make := beds[backend]
		if make == nil {
			t.Logf("NOT TESTED: %s has no bed", backend)
			continue
		}
		t.Run(backend, func(t *testing.T) {
			for _, behaviour := range []struct {
				name string
				test func(*testing.T, *bed)
			}{
				{"life", testLife},
				{"kept session", testKeptIn},
				{"sealed", testSealedIn},
				{"hostile names", testHostileNames},
				{"writers at once", testWriters},
				{"changed behind our back", testChanged},
				{"damaged", testDamagedIn},
				{"write fails", testFull},
				{"killed writer", testKilled},
				{"locked", testLocked},
				{"prompt that nobody answers", testPrompt},
				{"gone and back", testBack},
				{"slow", testSlow},
				{"try", testTry},
			} {
				t.Run(behaviour.name, func(t *testing.T) {
					b := make(t)
					b.thorough = thorough
					behaviour.test(t, b)
				})
			}
		})
	}
}

// unique is a name that no other test stores at the same time: the kernel's keyring is one for all of a user.
func unique(t *testing.T, name string) string {
	return fmt.Sprintf("%s %d %s", name, os.Getpid(), t.Name())
}

func put(t *testing.T, c *vault.Caller, key vault.Key) {
	t.Helper()
	if _, err := c.Put(t.Context(), key, profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Remove(context.Background(), key.Name) })
}

func contextAfter(ctx context.Context, d time.Duration) (context.Context, func()) {
	cut, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(d, cancel)
	return cut, func() { timer.Stop(); cancel() }
}

const otherKeyID = "AKIAIOSFODNN7REPLACE"

func testLife(t *testing.T, b *bed) {
	c, ctx, name := b.caller(t), t.Context(), unique(t, "security $(x)\n'\"")
	must(t, c.Check(ctx))
	if _, err := c.Open(ctx, testSource(name), plainCall(), secret.String{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("open of what is not there: %v", err)
	}
	if err := c.SetSeed(ctx, name, secret.New(testSeed)); !fault.Is(err, fault.NotFound) {
		t.Errorf("seed of what is not there: %v", err)
	}
	if _, err := c.Put(ctx, testKey(name), profiles.Endpoint{}, true); err != nil {
		t.Fatal(err)
	}
	use := func(want string) {
		t.Helper()
		source := testSource(name)
		source.AccessKeyID = ""
		if creds, err := c.Open(ctx, source, plainCall(), secret.String{}); err != nil || creds.Subject != want {
			t.Errorf("open: %q, %v", creds.Subject, err)
		}
	}
	use(testKeyID + "/wJal/0")
	must(t, c.SetSeed(ctx, name, secret.New(testSeed)))
	if _, err := c.Put(ctx, vault.Key{Name: name, AccessKeyID: otherKeyID, Secret: secret.New("otherSecret")}, profiles.Endpoint{}, false); !errors.Is(err, vault.ErrExists) {
		t.Errorf("put over another key: %v", err)
	}
	if _, err := c.Put(ctx, vault.Key{Name: name, AccessKeyID: otherKeyID, Secret: secret.New("otherSecret"), Replace: true, KeepSeed: true}, profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	use(otherKeyID + "/othe/0")
	if info, err := c.Describe(ctx, name); err != nil || info.AccessKeyID != otherKeyID || !info.HasSeed {
		t.Errorf("after replace: %+v, %v", info, err)
	}
	must(t, c.RemoveSeed(ctx, name))
	if info, err := c.Describe(ctx, name); err != nil || info.HasSeed {
		t.Errorf("after the seed was removed: %+v, %v", info, err)
	}
	must(t, c.Remove(ctx, name))
	if err := c.Remove(ctx, name); !fault.Is(err, fault.NotFound) {
		t.Errorf("second remove: %v", err)
	}
	if _, err := c.Describe(ctx, name); !fault.Is(err, fault.NotFound) {
		t.Errorf("after remove: %v", err)
	}
}

// testKeptIn: what is kept serves another caller, and goes when it is told to or with its source.
func testKeptIn(t *testing.T, b *bed) {
	c, ctx, name := b.caller(t), t.Context(), unique(t, "security")
	must(t, os.MkdirAll(filepath.Dir(c.StateDir), 0o700))
	must(t, os.WriteFile(callsFile(c.StateDir), nil, 0o600))
	put(t, c, testKey(name))
	login := func(code string) {
		t.Helper()
		if _, err := c.Open(ctx, testSource(name), dayCall(), secret.New(code)); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() bool {
		t.Helper()
		again := b.caller(t)
		again.StateDir = c.StateDir
		creds, err := again.Open(ctx, testSource(name), dayCall(), secret.String{})
		if err == nil && creds.SessionToken.Reveal() != keptToken || err != nil && !fault.Is(err, fault.LoginNeeded) {
			t.Errorf("open: %v", err)
		}
		return err == nil
	}
	login("123456")
	if data, _ := os.ReadFile(callsFile(c.StateDir)); !kept() || strings.Count(string(data), "\n") != 1 {
		t.Errorf("another caller has to ask: calls %q", data)
	}
	for range 2 {
		must(t, c.Drop(ctx, name))
	}
	if kept() {
		t.Error("it is there after drop")
	}
	login("123457")
	must(t, c.Remove(ctx, name))
	put(t, c, testKey(name))
	if kept() {
		t.Error("it outlived its source")
	}
}

func testSealedIn(t *testing.T, b *bed) {
	c, ctx, name := b.caller(t), t.Context(), unique(t, "sealed")
	lines := 900 // 18,900 bytes
	if b.room > 0 {
		if err := c.Seal(ctx, name, secret.New(strings.Repeat("x", b.room+1))); !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), fmt.Sprintf("%d bytes at most", b.room)) {
			t.Errorf("more than there is room for: %v", err)
		}
		if _, err := c.Unseal(ctx, name); !fault.Is(err, fault.NotFound) {
			t.Errorf("after that: %v", err)
		}
		lines = b.room / 30
	}
	text := secret.New(strings.Repeat("what import took out\n", lines))
	must(t, c.Seal(ctx, name, text))
	t.Cleanup(func() { _ = c.ForgetSealed(context.Background(), name) })
	if back, err := c.Unseal(ctx, name); err != nil || back.Reveal() != text.Reveal() {
		t.Errorf("%d bytes, %v", len(back.Reveal()), err)
	}
	must(t, c.ForgetSealed(ctx, name))
	if _, err := c.Unseal(ctx, name); !fault.Is(err, fault.NotFound) {
		t.Errorf("after it was forgotten: %v", err)
	}
}

func testHostileNames(t *testing.T, b *bed) {
	c, ctx := b.caller(t), t.Context()
	names := []string{"../../etc/passwd", "a/b", "$(touch /tmp/x)", "-rf", "a\nb", "a\x00b", "\x1b[31m", "'; rm", "ü", strings.Repeat("n", 900), ".", "CON", "a b"}
	if !b.thorough {
		names = names[:6]
	}
	for i, name := range names {
		names[i] = name + unique(t, "")
	}
	for i, name := range names {
		key := testKey(name)
		key.AccessKeyID = fmt.Sprintf("AKIAIOSFODNN7NAME%03d", i)
		put(t, c, key)
	}
	for i, name := range names {
		if info, err := c.Describe(ctx, name); err != nil || info.AccessKeyID != fmt.Sprintf("AKIAIOSFODNN7NAME%03d", i) {
			t.Errorf("describe %q: %+v, %v", name, info, err)
		}
		source := testSource(name)
		source.AccessKeyID = ""
		_, err := c.Open(ctx, source, mfaCall(), secret.String{})
		if !fault.Is(err, fault.LoginNeeded) || strings.ContainsAny(err.Error()+string(fault.Of(err).Hint), "\n\x00\x1b") {
			t.Errorf("open %q: %v", name, err)
		}
		if err := c.Remove(ctx, name); err != nil {
			t.Errorf("remove %q: %v", name, err)
		}
	}
}

func testWriters(t *testing.T, b *bed) {
	c, ctx := b.caller(t), t.Context()
	name := func(i int) string { return unique(t, fmt.Sprint("source", i)) }
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := c.Put(ctx, testKey(name(i)), profiles.Endpoint{}, false); err != nil {
				t.Error(err)
			}
			if err := c.SetSeed(ctx, name(i), secret.New(testSeed)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range 8 {
		if info, err := c.Describe(ctx, name(i)); err != nil || !info.HasSeed {
			t.Errorf("source%d: %+v, %v", i, info, err)
		}
	}
	// Somebody who holds the lock is waited for, until the deadline, and readers do not mind him.
	path := filepath.Join(c.StateDir, "keyring.lock")
	if b.backend == vault.File {
		path = filepath.Join(c.Dir, lockName)
	}
	free, err := lockFile(ctx, path)
	must(t, err)
	if err := eventually(c, unanswered, func() error { return c.RemoveSeed(ctx, name(1)) }); !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "another process holds") {
		t.Errorf("while locked: %v", err)
	}
	if info, err := c.Describe(ctx, name(1)); err != nil || !info.HasSeed {
		t.Errorf("read while locked: %+v, %v", info, err)
	}
	free()
	for i := range 8 {
		if err := c.Remove(ctx, name(i)); err != nil {
			t.Error(err)
		}
	}
}

// testChanged: another program of ours changed the item; nothing here remembers the old one.
func testChanged(t *testing.T, b *bed) {
	c, other, ctx, name := b.caller(t), b.caller(t), t.Context(), unique(t, "security")
	put(t, c, testKey(name))
	if _, err := c.Open(ctx, testSource(name), plainCall(), secret.String{}); err != nil {
		t.Fatal(err)
	}
	key := testKey(name)
	key.AccessKeyID, key.Replace = otherKeyID, true
	put(t, other, key)
	if _, err := c.Open(ctx, testSource(name), plainCall(), secret.String{}); !errors.Is(err, vault.ErrKeyChanged) {
		t.Errorf("the registry's key is not the keyring's: %v", err)
	}
	source := testSource(name)
	source.AccessKeyID = otherKeyID
	if creds, err := c.Open(ctx, source, plainCall(), secret.String{}); err != nil || !strings.HasPrefix(creds.Subject, otherKeyID) {
		t.Errorf("the new key: %q, %v", creds.Subject, err)
	}
}

// testDamagedIn: a damaged item is named, not deleted, and not replaced unasked.
func testDamagedIn(t *testing.T, b *bed) {
	if b.spoil == nil {
		t.Skip("its own table is TestDamagedItem")
	}
	c, ctx, name, other := b.caller(t), t.Context(), unique(t, "security"), unique(t, "other")
	put(t, c, testKey(name))
	put(t, c, testKey(other))
	for _, value := range []string{"", "not json", `{"Data":5}`, `{"Key":"x","Data":"e30="}`, `null`, `{"Key":"x","Data":"` + strings.Repeat("x", 5000)} {
		b.spoil(t, itemKey(name), []byte(value))
		key := testKey(name)
		key.Replace = true
		_, replaced := c.Put(ctx, key, profiles.Endpoint{}, false)
		_, opened := c.Open(ctx, testSource(name), plainCall(), secret.String{})
		for what, err := range map[string]error{"put": replaced, "open": opened, "seed": c.SetSeed(ctx, name, secret.New(testSeed))} {
			if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), itemKey(name)) || !strings.Contains(err.Error(), "left as it is") {
				t.Errorf("%q, %s: %v", value, what, err)
			}
		}
	}
	if _, err := c.Open(ctx, testSource(other), plainCall(), secret.String{}); err != nil {
		t.Errorf("the other source: %v", err)
	}
	must(t, c.Remove(ctx, name))
	if _, err := c.Describe(ctx, name); !fault.Is(err, fault.NotFound) {
		t.Errorf("after remove: %v", err)
	}
}

// testFull: if a write fails, since the disk is full or read-only, the old item stays.
func testFull(t *testing.T, b *bed) {
	if b.full == nil {
		t.Skip("what it is written to is not ours to fill")
	}
	c, ctx, name := b.caller(t), t.Context(), unique(t, "security")
	put(t, c, testKey(name))
	free := b.full(t)
	err := c.SetSeed(ctx, name, secret.New(testSeed))
	if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "old item stays") {
		t.Errorf("got %v", err)
	}
	if info, err := c.Describe(ctx, name); err != nil || info.HasSeed {
		t.Errorf("after: %+v, %v", info, err)
	}
	free()
	if err := c.SetSeed(ctx, name, secret.New(testSeed)); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// testKilled kills a writer at every moment of a write. First at each system call that touches a file, in whatever
// process of its group, then all at a random moment. There is the old key or the new one, and the next write cleans up.
func testKilled(t *testing.T, b *bed) {
	c, ctx, name := b.caller(t), t.Context(), unique(t, "security")
	ids := []string{"AKIAAAAAAAAAAAAAAAAA", "AKIABBBBBBBBBBBBBBBB"}
	key := func(i int) vault.Key {
		return vault.Key{Name: name, AccessKeyID: ids[i%2], Secret: secret.New(fmt.Sprint("secret", i)), Replace: true}
	}
	put(t, c, key(0))
	holds := func(moment string) string {
		t.Helper()
		info, err := c.Describe(ctx, name)
		if err != nil {
			t.Fatalf("%s: the key is lost: %v", moment, err)
		}
		if !slices.Contains(ids, info.AccessKeyID) {
			t.Fatalf("%s: holds %s", moment, info.AccessKeyID)
		}
		return info.AccessKeyID
	}
	outcomes, leftovers := map[bool]int{}, 0
	// round writes the key that is not there, as far as it gets.
	round := func(moment string, write func(vault.Key)) {
		t.Helper()
		old := holds(moment)
		next := key(1)
		if old == ids[1] {
			next = key(0)
		}
		write(next)
		outcomes[holds(moment) != old]++
		if b.left != nil {
			leftovers += b.left()
		}
	}

	crash := b.crash
	if !b.thorough && len(crash) > 0 {
		crash = map[string]int{"/^rename": crash["/^rename"], "/^unlink": min(crash["/^unlink"], 3), "/^wait": crash["/^wait"]} // before and after the one that counts
	}
	if _, err := exec.LookPath("strace"); err != nil && len(crash) > 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("strace is not installed, and CI is set")
		}
		t.Log("NOT TESTED: strace is not installed, so only random moments are tried")
		crash = nil
	}
	for call, most := range crash {
		for when := 1; when <= most; when++ {
			ended := false
			round(fmt.Sprintf("%s %d", call, when), func(next vault.Key) {
				q := putRequest(next, profiles.Endpoint{}, false)
				cmd := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call,
					"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", call, when), c.Exe, "vault")
				cmd.Env = vault.Environment(os.Environ(), []string{b.backend})
				cmd.Stdin = bytes.NewReader(written(t, b.backend, c, q))
				out, _ := cmd.Output()
				var a answer
				ended = json.Unmarshal(out, &a) == nil && a.Fault == nil
			})
			if ended { // it came to its end: no such call is left to be killed at
				break
			}
		}
	}
	// One that nobody kills, for how long a write takes on this machine.
	start := time.Now()
	put(t, c, key(0))
	whole := time.Since(start)
	random := 8
	if b.thorough {
		random = 40
	}
	for i := range random {
		round(fmt.Sprintf("random %d", i), func(next vault.Key) {
			// Cancelling is kill -9 for the whole process group.
			cut, cancel := contextAfter(ctx, whole*time.Duration(i)/time.Duration(random))
			_, _ = c.Put(cut, next, profiles.Endpoint{}, false)
			cancel()
		})
	}
	t.Logf("%d old, %d new, %d with leftovers", outcomes[false], outcomes[true], leftovers)
	if crash != nil && (outcomes[false] == 0 || outcomes[true] == 0 || b.left != nil && leftovers == 0) {
		t.Errorf("no crash before, after or within a write: the test is void")
	}
	put(t, c, key(0))
	if b.left != nil && b.left() > 0 {
		t.Errorf("a whole write left %d things of the others behind", b.left())
	}
}

// testLocked: a locked keyring, with nobody there to unlock it, is an error of its own kind.
func testLocked(t *testing.T, b *bed) {
	if b.lock == nil {
		t.Skip("it cannot be locked")
	}
	c, ctx, name := b.caller(t), t.Context(), unique(t, "security")
	put(t, c, testKey(name))
	b.lock(t)
	for what, call := range map[string]func() error{
		"check": func() error { return c.Check(ctx) },
		"open": func() error {
			_, err := c.Open(ctx, testSource(name), plainCall(), secret.String{})
			return err
		},
		"put": func() error {
			_, err := c.Put(ctx, testKey("other"), profiles.Endpoint{}, false)
			return err
		},
		"seed": func() error { return c.SetSeed(ctx, name, secret.New(testSeed)) },
		"try":  func() error { return c.Try(ctx, b.backend) },
	} {
		err := itself(t, call)
		if !fault.Is(err, fault.KeyringLocked) || fault.Of(err).Hint == "" {
			t.Errorf("%s: %v, hint %q", what, err, fault.Of(err).Hint)
		}
	}
	found := false
	for _, trial := range c.Probe(ctx) {
		if trial.Backend == b.backend {
			found = trial.Works() && trial.Err != nil
		}
	}
	if !found {
		t.Error("a locked keyring is there all the same")
	}
	b.unlock(t)
	if _, err := c.Open(ctx, testSource(name), plainCall(), secret.String{}); err != nil {
		t.Errorf("unlocked again: %v", err)
	}
}

// testPrompt: with a display a prompt may come; here nobody answers it, and the deadline ends the vault.
func testPrompt(t *testing.T, b *bed) {
	if b.mute == nil {
		t.Skip("it asks nobody")
	}
	c, ctx, name := b.caller(t), t.Context(), unique(t, "security")
	put(t, c, testKey(name))
	b.lock(t)
	stop := b.mute(t)
	t.Setenv("DISPLAY", ":4711")
	late := func(err error) bool { return err != nil && strings.Contains(err.Error(), "without an answer") }
	err := eventually(c, late, func() error {
		_, err := c.Open(ctx, testSource(name), plainCall(), secret.String{})
		return err
	})
	if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "a prompt may be waiting") && !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("with a display: %v", err)
	}
	// A check asks nobody; gpg's agent is busy with the prompt of before.
	if err := itself(t, func() error { return c.Check(ctx) }); !fault.Is(err, fault.KeyringLocked) && (err == nil || !strings.Contains(err.Error(), "a prompt may be waiting")) {
		t.Errorf("check: %v", err)
	}
	t.Setenv("DISPLAY", "")
	stop()
	b.unlock(t)
	if _, err := c.Open(ctx, testSource(name), plainCall(), secret.String{}); err != nil {
		t.Errorf("nothing was harmed, and: %v", err)
	}
}

// testBack: what serves the keyring dies and comes back, the caller stays.
func testBack(t *testing.T, b *bed) {
	if b.stop == nil {
		t.Skip("nothing serves it")
	}
	c, ctx, name := b.caller(t), t.Context(), unique(t, "security")
	put(t, c, testKey(name))
	for range 2 {
		b.stop(t)
		if err := itself(t, func() error { return c.Check(ctx) }); err == nil {
			t.Error("it works with nobody there")
		}
		b.start(t)
		if _, err := c.Open(ctx, testSource(name), plainCall(), secret.String{}); err != nil {
			t.Errorf("it is back: %v", err)
		}
	}
}

// testSlow: while one keyring does not answer, another one does.
func testSlow(t *testing.T, b *bed) {
	if b.freeze == nil {
		t.Skip("nothing serves it")
	}
	c, ctx, name := b.caller(t), t.Context(), unique(t, "security")
	put(t, c, testKey(name))
	fast := fileCaller(t)
	thaw := b.freeze(t)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Open(ctx, testSource(name), plainCall(), secret.String{})
		ended <- err
	}()
	if err := itself(t, func() error { return fast.Check(ctx) }); err != nil {
		t.Errorf("another keyring: %v", err)
	}
	thaw()
	<-ended // well or not: it may have been given up
	if _, err := c.Open(ctx, testSource(name), plainCall(), secret.String{}); err != nil {
		t.Errorf("it answers again: %v", err)
	}
}

func testTry(t *testing.T, b *bed) {
	c := b.caller(t)
	for range 2 {
		must(t, c.Try(t.Context(), b.backend))
	}
}

func fileBed(t *testing.T) *bed {
	home := t.TempDir()
	dir := filepath.Join(home, "keyring")
	full := smallDisk(t, dir)
	maker := callerOn(t, vault.File, filepath.Join(home, "state"))
	maker.Dir = dir
	must(t, maker.Create(t.Context(), secret.New(testPassphrase)))
	b := &bed{backend: vault.File, full: full}
	b.caller = func(t *testing.T) *vault.Caller {
		c := sibling(maker)
		c.SetPassphrase(secret.New(testPassphrase))
		return c
	}
	b.crash = map[string]int{"/^rename": 60, "/^unlink": 60, "mkdirat": 60, "write": 60, "fsync": 60, "fchmodat": 60} // by which Go changes files
	b.left = func() int {
		left, _ := filepath.Glob(filepath.Join(dir, stagingPattern))
		return len(left)
	}
	return b
}

// smallDisk mounts a file system of its own on dir, which it makes, to be filled. Nil where that may not be done.
func smallDisk(t *testing.T, dir string) (full func(*testing.T) (free func())) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Log("NOT TESTED: only root can mount a file system to fill")
		return nil
	}
	must(t, os.MkdirAll(dir, 0o700))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Logf("NOT TESTED: cannot mount: %v %s", err, out)
		return nil
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	return func(t *testing.T) func() {
		filler := filepath.Join(dir, "filler")
		_ = os.WriteFile(filler, make([]byte, 512<<10), 0o600) // as much as there is room for
		return func() { must(t, os.Remove(filler)) }
	}
}

// needs skips a test, loudly, where a program is missing; with CI it fails.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not installed, and CI is set: make deps-clients", program)
			}
			t.Skipf("NOT TESTED: %s is not installed; make deps-clients", program)
		}
	}
}
