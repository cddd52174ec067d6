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
	"broker/internal/session"
	"broker/internal/vault"
)

// bed is an unlocked keyring for a test. A function is nil if the keyring has no such feature, or a test cannot
// trigger it.
type bed struct {
	backend string
	// thorough tests try every moment and every name; others try a few.
	thorough bool
	// caller returns a new Caller on it.
	caller func(t *testing.T) *vault.Caller
	// lock locks it, with nobody to unlock it; unlock unlocks it.
	lock, unlock func(t *testing.T)
	// mute makes a locked keyring show a prompt that nobody sees; the test sets DISPLAY.
	mute func(t *testing.T) (stop func())
	// stop stops the service of the keyring and its bus; start starts both again, unlocked.
	stop, start func(t *testing.T)
	// freeze suspends its running service.
	freeze func(t *testing.T) (thaw func())
	// spoil replaces an item by bytes that neither the library nor Broker would write.
	spoil func(t *testing.T, key string, data []byte)
	// full makes all writes fail.
	full func(t *testing.T) (free func())
	// crash lists the system calls at which a writer is killed, one after the other, with the maximum number of
	// kills.
	crash map[string]int
	// room is the maximum size of an item in bytes; 0 if no limit is known.
	room int
	// left counts the leftovers of a crash.
	left func() int
}

// beds has the functions that create the keyrings that can be tested here; those of one system are in the files of
// that system.
var beds = map[string]func(*testing.T) *bed{vault.File: fileBed}

// TestKeyrings runs the common suite on the file keyring, which needs no other program.
func TestKeyrings(t *testing.T) { testKeyrings(t, false, vault.File) }

// TestKeyringsLong runs the suite on every keyring, with writers killed at every moment.
func TestKeyringsLong(t *testing.T) { testKeyrings(t, true, vault.Backends()...) }

func testKeyrings(t *testing.T, thorough bool, backends ...string) {
	for _, backend := range backends {
		make := beds[backend]
		if make == nil {
			t.Logf("NOT TESTED: %s has no test bed", backend)
			continue
		}
		t.Run(backend, func(t *testing.T) {
			for _, behavior := range []struct {
				name string
				test func(*testing.T, *bed)
			}{
				{"life", testLife},
				{"kept session", testKeptIn},
				{"login", testLoginIn},
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
				t.Run(behavior.name, func(t *testing.T) {
					b := make(t)
					b.thorough = thorough
					behavior.test(t, b)
				})
			}
		})
	}
}

// unique returns a name that no other test stores at the same time: a user has only one keyring in the kernel.
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
		t.Errorf("open of a missing source: %v", err)
	}
	if err := c.SetSeed(ctx, name, secret.New(testSeed)); !fault.Is(err, fault.NotFound) {
		t.Errorf("seed of a missing source: %v", err)
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
	if _, err := c.Put(ctx, vault.Key{Name: name, AccessKeyID: otherKeyID, Secret: secret.New("otherSecret")},
		profiles.Endpoint{}, false); !errors.Is(
		err,
		vault.ErrExists,
	) {
		t.Errorf("put over another key: %v", err)
	}
	if _, err := c.Put(ctx, vault.Key{Name: name, AccessKeyID: otherKeyID, Secret: secret.New("otherSecret"),
		Replace: true, KeepSeed: true}, profiles.Endpoint{}, false); err != nil {
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

// testKeptIn: a stored session serves another caller, and is deleted by Drop or with its source.
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
		t.Errorf("another caller called AWS: %q", data)
	}
	for range 2 {
		must(t, c.Drop(ctx, name, ""))
	}
	if kept() {
		t.Error("the session exists after Drop")
	}
	login("123457")
	must(t, c.Remove(ctx, name))
	put(t, c, testKey(name))
	if kept() {
		t.Error("the session outlived its source")
	}
}

// logIn logs in to a portal as a person with a browser would, and returns the source.
func logIn(t *testing.T, c *vault.Caller, name string) profiles.Source {
	t.Helper()
	source := profiles.Source{Name: name, Kind: profiles.Portal, StartURL: testStart,
		Scopes: []string{profiles.AccountScope}, Endpoint: profiles.Endpoint{Region: "eu-west-1"}}
	must(t, os.MkdirAll(filepath.Dir(c.StateDir), 0o700))
	must(t, os.WriteFile(callsFile(c.StateDir), nil, 0o600))
	must(t, os.WriteFile(refreshFile(c.StateDir), []byte("REFRESHTOKEN"), 0o600))
	page, err := c.BeginLogin(t.Context(), source, testRedirect)
	must(t, err)
	if len(page.Proof.Reveal()) != 52 || page.URL != "https://oidc.example/authorize" || page.Redirect != testRedirect {
		t.Errorf("the page is %+v", page)
	}
	until, err := c.FinishLogin(t.Context(), source, page, secret.New("a code"))
	if err != nil || !until.IsZero() {
		t.Errorf("finish: %v, %v", until, err)
	}
	t.Cleanup(func() { _ = c.Remove(context.Background(), name) })
	return source
}

func portalCall(source profiles.Source) session.Call {
	return session.Call{Operation: session.CreateToken, Endpoint: source.Endpoint}
}

func testLoginIn(t *testing.T, b *bed) {
	c, ctx := b.caller(t), t.Context()
	source := logIn(t, c, unique(t, "my-sso"))
	open := func(want string) {
		t.Helper()
		creds, err := c.Open(ctx, source, portalCall(source), secret.String{})
		if err != nil || creds.SessionToken.Reveal() != want {
			t.Errorf("open: %+v, %v", creds, err)
		}
	}
	open("ACCESSTOKEN-REFRESHTOKEN-next")
	for range 2 {
		must(t, c.Drop(ctx, source.Name, ""))
	}
	open("ACCESSTOKEN-REFRESHTOKEN-next-next")
	open("ACCESSTOKEN-REFRESHTOKEN-next-next")
	needed := func() {
		t.Helper()
		if _, err := c.Open(ctx, source, portalCall(source), secret.String{}); !fault.Is(err, fault.LoginNeeded) {
			t.Errorf("open: %v", err)
		}
	}
	must(t, c.EndLogin(ctx, source))
	needed()
	must(t, c.EndLogin(ctx, source))
	must(t, c.Remove(ctx, source.Name))
	if err := c.Remove(ctx, source.Name); !fault.Is(err, fault.NotFound) {
		t.Errorf("removed twice: %v", err)
	}
	needed()
}

func testSealedIn(t *testing.T, b *bed) {
	c, ctx, name := b.caller(t), t.Context(), unique(t, "sealed")
	lines := 900 // 18,900 bytes
	if b.room > 0 {
		if err := c.Seal(ctx, name, secret.New(strings.Repeat("x", b.room+1))); !fault.Is(err, fault.Keyring) ||
			!strings.Contains(err.Error(), fmt.Sprintf("%d bytes at most", b.room)) {
			t.Errorf("an item that is too large: %v", err)
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
	// A writer waits for another process that holds the lock, until the deadline. Readers do not wait.
	path := filepath.Join(c.StateDir, "keyring.lock")
	if b.backend == vault.File {
		path = filepath.Join(c.Dir, lockName)
	}
	free, err := lockFile(ctx, path)
	must(t, err)
	if err := eventually(c, unanswered, func() error { return c.RemoveSeed(ctx, name(1)) }); !fault.Is(
		err,
		fault.Keyring,
	) ||
		!strings.Contains(err.Error(), "another process holds") {
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

// testChanged: another process of Broker changed the item; the caller has cached nothing.
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
		t.Errorf("the key in the registry is not that in the keyring: %v", err)
	}
	source := testSource(name)
	source.AccessKeyID = otherKeyID
	if creds, err := c.Open(ctx, source, plainCall(), secret.String{}); err != nil ||
		!strings.HasPrefix(creds.Subject, otherKeyID) {
		t.Errorf("the new key: %q, %v", creds.Subject, err)
	}
}

// testDamagedIn: a damaged item is reported by name, and not deleted or replaced without a request.
func testDamagedIn(t *testing.T, b *bed) {
	if b.spoil == nil {
		t.Skip("TestDamagedItem covers it")
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
			if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), itemKey(name)) ||
				!strings.Contains(err.Error(), "left as it is") {
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

// testFull: if a write fails, because the disk is full or read-only, the old item stays.
func testFull(t *testing.T, b *bed) {
	if b.full == nil {
		t.Skip("a test cannot fill its storage")
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
		t.Errorf("with free space again: %v", err)
	}
}

// testKilled kills a writer at every moment of a write: first at each system call that touches a file, in any
// process of its group, then the whole group at a random moment. Afterwards the old key or the new one is stored,
// and the next write cleans up.
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
	// round writes the key that is not stored, and may be interrupted.
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
		crash = map[string]int{"/^rename": crash["/^rename"], "/^unlink": min(crash["/^unlink"], 3), "/^wait": crash["/^wait"]} // before and after the call that matters
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
			if ended { // it finished: no more calls of this kind
				break
			}
		}
	}
	// An uninterrupted write, to measure how long a write takes on this machine.
	start := time.Now()
	put(t, c, key(0))
	whole := time.Since(start)
	random := 8
	if b.thorough {
		random = 16
	}
	for i := range random {
		round(fmt.Sprintf("random %d", i), func(next vault.Key) {
			// Canceling is kill -9 for the whole process group.
			cut, cancel := contextAfter(ctx, whole*time.Duration(i)/time.Duration(random))
			_, _ = c.Put(cut, next, profiles.Endpoint{}, false)
			cancel()
		})
	}
	t.Logf("%d old, %d new, %d with leftovers", outcomes[false], outcomes[true], leftovers)
	if crash != nil && (outcomes[false] == 0 || outcomes[true] == 0 || b.left != nil && leftovers == 0) {
		t.Errorf("no crash before, after or within a write: the test proves nothing")
	}
	put(t, c, key(0))
	if b.left != nil && b.left() > 0 {
		t.Errorf("a complete write left %d leftovers of interrupted ones", b.left())
	}
}

// testLocked: a locked keyring that nobody unlocks is an error of a separate kind.
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
		t.Error("Probe does not report the keyring as usable but locked")
	}
	b.unlock(t)
	if _, err := c.Open(ctx, testSource(name), plainCall(), secret.String{}); err != nil {
		t.Errorf("unlocked again: %v", err)
	}
}

// testPrompt: with a display a prompt may appear. Here nobody answers it, and the deadline ends the vault process.
func testPrompt(t *testing.T, b *bed) {
	if b.mute == nil {
		t.Skip("it never prompts")
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
	// A check never prompts; gpg's agent is busy with the previous prompt.
	if err := itself(t, func() error { return c.Check(ctx) }); !fault.Is(err, fault.KeyringLocked) &&
		(err == nil || !strings.Contains(err.Error(), "a prompt may be waiting")) {
		t.Errorf("check: %v", err)
	}
	t.Setenv("DISPLAY", "")
	stop()
	b.unlock(t)
	if _, err := c.Open(ctx, testSource(name), plainCall(), secret.String{}); err != nil {
		t.Errorf("afterwards nothing must be damaged: %v", err)
	}
}

// testBack: the service of the keyring stops and starts again, with the same caller.
func testBack(t *testing.T, b *bed) {
	if b.stop == nil {
		t.Skip("it has no service")
	}
	c, ctx, name := b.caller(t), t.Context(), unique(t, "security")
	put(t, c, testKey(name))
	for range 2 {
		b.stop(t)
		if err := itself(t, func() error { return c.Check(ctx) }); err == nil {
			t.Error("it works without its service")
		}
		b.start(t)
		if _, err := c.Open(ctx, testSource(name), plainCall(), secret.String{}); err != nil {
			t.Errorf("the service is back: %v", err)
		}
	}
}

// testSlow: while one keyring does not respond, another one does.
func testSlow(t *testing.T, b *bed) {
	if b.freeze == nil {
		t.Skip("it has no service")
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
	<-ended // successful or not: it may have timed out
	if _, err := c.Open(ctx, testSource(name), plainCall(), secret.String{}); err != nil {
		t.Errorf("it responds again: %v", err)
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
	b.crash = map[string]int{"/^rename": 60, "/^unlink": 60, "mkdirat": 60, "write": 60, "fsync": 60, "fchmodat": 60} // the calls with which Go changes files
	b.left = func() int {
		left, _ := filepath.Glob(filepath.Join(dir, stagingPattern))
		return len(left)
	}
	return b
}

// smallDisk mounts a separate file system on dir, which it creates, so that a test can fill it. It returns nil if
// it may not mount.
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
		_ = os.WriteFile(filler, make([]byte, 512<<10), 0o600) // fills the free space
		return func() { must(t, os.Remove(filler)) }
	}
}

// needs skips a test with a message if a program is missing; under CI it fails the test.
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
