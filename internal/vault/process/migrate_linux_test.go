package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/vault"
)

// pair returns one Caller that can use two keyrings.
func pair(t *testing.T, with *bed) *vault.Caller {
	c := with.caller(t)
	c.Dir = filepath.Join(t.TempDir(), "keyring")
	must(t, c.Create(t.Context(), secret.New(testPassphrase)))
	return c
}

// on returns the Caller with another backend.
func on(c *vault.Caller, backend string) *vault.Caller {
	other := sibling(c)
	other.Backend = func() string { return backend }
	other.SetPassphrase(secret.New(testPassphrase))
	return other
}

// TestMigrateLong copies from the file keyring to each other keyring, and back.
func TestMigrateLong(t *testing.T) {
	for _, backend := range vault.Backends() {
		if backend == vault.File {
			continue
		}
		t.Run(backend, func(t *testing.T) {
			c, ctx := pair(t, beds[backend](t)), t.Context()
			file, other := on(c, vault.File), on(c, backend)
			names := []string{unique(t, "security"), unique(t, "two $(x)\n")}
			for i, name := range names {
				key := testKey(name)
				key.AccessKeyID = fmt.Sprintf("AKIAIOSFODNN7MOVE%03d", i)
				put(t, other, key) // for its cleanup
				must(t, other.Remove(ctx, name))
				put(t, file, key)
				must(t, file.SetSeed(ctx, name, secret.New(testSeed)))
			}
			must(t, os.WriteFile(callsFile(c.StateDir), nil, 0o600))
			source := testSource(names[0])
			source.AccessKeyID = "AKIAIOSFODNN7MOVE000"
			_, err := file.Open(ctx, source, dayCall(), secret.New("123456"))
			must(t, err)
			must(t, file.Seal(ctx, unique(t, "backup"), secret.New("sealed")))
			t.Cleanup(func() { _ = other.ForgetSealed(context.Background(), unique(t, "backup")) })
			portal := logIn(t, file, unique(t, "my-sso"))
			t.Cleanup(func() { _ = other.Remove(context.Background(), portal.Name) })

			done, err := file.Migrate(ctx, vault.File, backend, false)
			if err != nil || !slices.Equal(done.Sources, sorted(names)) || done.Others != 3 {
				t.Fatalf("%+v, %v", done, err)
			}
			if again, err := file.Migrate(ctx, vault.File, backend, false); err != nil || len(again.Sources) != 2 {
				t.Errorf("again: %+v, %v", again, err)
			}
			for i, name := range names {
				for _, c := range []*vault.Caller{file, other} {
					if info, err := c.Describe(ctx, name); err != nil || info.AccessKeyID != fmt.Sprintf("AKIAIOSFODNN7MOVE%03d", i) || !info.HasSeed {
						t.Errorf("%q: %+v, %v", name, info, err)
					}
				}
			}
			if back, err := other.Unseal(ctx, unique(t, "backup")); err != nil || back.Reveal() != "sealed" {
				t.Errorf("sealed: %v", err)
			}
			if creds, err := other.Open(ctx, source, dayCall(), secret.String{}); err != nil ||
				creds.SessionToken.Reveal() != keptToken {
				t.Errorf("the kept session: %v", err)
			}
			if creds, err := other.Open(ctx, portal, portalCall(portal), secret.String{}); err != nil ||
				creds.SessionToken.Reveal() != "ACCESSTOKEN-REFRESHTOKEN-next" {
				t.Errorf("the login: %v", err)
			}
			// It is renewed there, so the old one is worth nothing any more.
			must(t, other.Drop(ctx, portal.Name, ""))
			_, err = other.Open(ctx, portal, portalCall(portal), secret.String{})
			must(t, err)

			// A different key in the other keyring: refused with its name; then overwritten on request.
			must(t, changeKey(t, other, names[1]))
			if _, err := file.Migrate(ctx, vault.File, backend, false); !errors.Is(err, vault.ErrExists) ||
				!strings.Contains(string(fault.Of(err).Hint), "--overwrite") {
				t.Errorf("over another key: %v", err)
			}
			if info, err := other.Describe(ctx, names[1]); err != nil || info.AccessKeyID != otherKeyID {
				t.Errorf("it was replaced: %+v, %v", info, err)
			}
			// Clear deletes nothing that the other keyring does not hold.
			left, err := file.Clear(ctx, vault.File, backend)
			if err != nil || !slices.Equal(left, names[1:]) {
				t.Errorf("clear: %q, %v", left, err)
			}
			if _, err := file.Describe(ctx, names[0]); !fault.Is(err, fault.NotFound) {
				t.Errorf("not cleared: %v", err)
			}
			if _, err := file.Open(ctx, portal, portalCall(portal), secret.String{}); !fault.Is(err, fault.LoginNeeded) {
				t.Errorf("the old login: %v", err)
			}
			if info, err := file.Describe(ctx, names[1]); err != nil || info.AccessKeyID != "AKIAIOSFODNN7MOVE001" {
				t.Errorf("the only copy: %+v, %v", info, err)
			}
			if backend == vault.Keyctl { // another program's key, which cannot be read any more
				id, err := unix.AddKey("user", unique(t, "foreign"), []byte("x"), unix.KEY_SPEC_USER_KEYRING)
				must(t, err)
				_, err = unix.KeyctlInt(unix.KEYCTL_REVOKE, id, 0, 0, 0)
				must(t, err)
				t.Cleanup(func() { _, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_USER_KEYRING, 0, 0) })
			}
			// And back, over the source that was kept.
			back, err := other.Migrate(ctx, backend, vault.File, true)
			if err != nil || !slices.Contains(back.Sources, names[0]) || !slices.Contains(back.Sources, names[1]) {
				t.Fatalf("back: %+v, %v", back, err)
			}
			if info, err := file.Describe(ctx, names[1]); err != nil || info.AccessKeyID != otherKeyID {
				t.Errorf("overwritten: %+v, %v", info, err)
			}
		})
	}
}

func sorted(names []string) []string {
	out := slices.Clone(names)
	slices.Sort(out)
	return out
}

func changeKey(t *testing.T, c *vault.Caller, name string) error {
	key := testKey(name)
	key.AccessKeyID, key.Replace = otherKeyID, true
	_, err := c.Put(t.Context(), key, profiles.Endpoint{}, false)
	return err
}

// TestMigrateLockedLong: a locked keyring, which hides its content, must not look empty; otherwise the new keyring
// would be in use without a key. Without the check in keys the test fails: nothing is copied, and there is no
// error.
func TestMigrateLockedLong(t *testing.T) {
	for _, backend := range []string{vault.SecretService, vault.KWallet} {
		t.Run(backend, func(t *testing.T) {
			b := beds[backend](t)
			if b.lock == nil || b.mute == nil {
				t.Skip("it cannot be locked")
			}
			c, name := pair(t, b), unique(t, "security")
			put(t, on(c, backend), testKey(name))
			b.lock(t)
			stop := b.mute(t)
			t.Setenv("DISPLAY", ":4711")
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if done, err := on(c, vault.File).Migrate(ctx, backend, vault.File, false); err == nil {
				t.Errorf("nobody unlocked it, but it copied %+v", done)
			}
			t.Setenv("DISPLAY", "")
			stop()
			b.unlock(t)
		})
	}
}

// TestMigrateDamaged: a key that cannot be read is not silently left behind.
func TestMigrateDamaged(t *testing.T) {
	b := keyctlBed(t)
	c, ctx := pair(t, b), t.Context()
	file, other, good, bad := on(c, vault.File), on(c, vault.Keyctl), unique(t, "a"), unique(t, "b")
	put(t, file, testKey(good))
	put(t, file, testKey(bad))
	must(t, os.WriteFile(filepath.Join(c.Dir, itemKey(bad)), []byte("a.b.c.d.e"), 0o600))
	before := snapshot(t, c.Dir)
	if _, err := file.Migrate(ctx, vault.File, vault.Keyctl, false); !fault.Is(err, fault.Keyring) ||
		!strings.Contains(err.Error(), itemKey(bad)) {
		t.Errorf("got %v", err)
	}
	if _, err := other.Describe(ctx, good); !fault.Is(err, fault.NotFound) {
		t.Errorf("something was copied: %v", err)
	}
	if _, err := file.Clear(ctx, vault.File, vault.Keyctl); !fault.Is(err, fault.Keyring) {
		t.Errorf("clear: %v", err)
	}
	if after := snapshot(t, c.Dir); before != after {
		t.Errorf("the old keyring changed:\n%s\n%s", before, after)
	}
}

// TestMigrateKilledLong: whenever the process is killed, the old keyring holds everything, and a second run
// succeeds. If Clear is killed, each key is still in at least one of the two.
func TestMigrateKilledLong(t *testing.T) {
	c, ctx := pair(t, passBed(t)), t.Context()
	file, other := on(c, vault.File), on(c, vault.Pass)
	names := []string{"one", "two", "three"}
	for _, name := range names {
		put(t, file, testKey(name))
	}
	before := snapshot(t, c.Dir)
	run := func(call func(c *vault.Caller) error) (whole time.Duration) {
		start := time.Now()
		must(t, call(file))
		return time.Since(start)
	}
	migrate := func(c *vault.Caller) error { _, err := c.Migrate(ctx, vault.File, vault.Pass, false); return err }
	whole := run(migrate)
	const rounds = 12
	for i := range rounds {
		for _, name := range names {
			must(t, other.Remove(ctx, name))
		}
		cut, cancel := contextAfter(ctx, whole*time.Duration(i)/rounds)
		_, _ = file.Migrate(cut, vault.File, vault.Pass, false)
		cancel()
		if after := snapshot(t, c.Dir); after != before {
			t.Fatalf("round %d: the old keyring changed", i)
		}
		must(t, migrate(file))
		for _, name := range names {
			if _, err := other.Describe(ctx, name); err != nil {
				t.Fatalf("round %d: %s: %v", i, name, err)
			}
		}
	}
	for i := range rounds {
		cut, cancel := contextAfter(ctx, whole*time.Duration(i)/rounds)
		_, _ = file.Clear(cut, vault.File, vault.Pass)
		cancel()
		for _, name := range names {
			if _, err := other.Describe(ctx, name); err != nil {
				t.Fatalf("clear, round %d: %s: %v", i, name, err)
			}
		}
	}
	_, err := file.Clear(ctx, vault.File, vault.Pass)
	must(t, err)
	for _, name := range names {
		if _, err := file.Describe(ctx, name); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
