package process

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/vault"
)

// keptWorld is a file keyring with the source "security", whose simulated AWS counts its calls.
type keptWorld struct {
	*vault.Caller
	t     *testing.T
	calls string // path of a file
	code  int

	mu      sync.Mutex
	notices []string
}

func newKeptWorld(t *testing.T) *keptWorld {
	w := &keptWorld{t: t, code: 100000}
	w.Caller = fileCaller(t)
	w.calls = callsFile(w.StateDir)
	must(t, os.WriteFile(w.calls, nil, 0o600))
	w.Notice = w.noticed
	if _, err := w.Put(t.Context(), testKey("security"), profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *keptWorld) noticed(source, line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notices = append(w.notices, source+": "+line)
}

// restart replaces the caller by that of another daemon on the same keyring.
func (w *keptWorld) restart() {
	w.Caller = sibling(w.Caller)
	w.Notice = w.noticed
	w.SetPassphrase(secret.New(testPassphrase))
}

// wantCalls fails the test unless AWS was called n times.
func (w *keptWorld) wantCalls(n int) {
	w.t.Helper()
	data, _ := os.ReadFile(w.calls)
	if got := bytes.Count(data, []byte("\n")); got != n {
		w.t.Errorf("AWS was called %d times, want %d", got, n)
	}
}

func (w *keptWorld) has() bool {
	_, err := os.Lstat(filepath.Join(w.Dir, sessionKey("security")))
	return err == nil
}

// login opens the session with a new code.
func (w *keptWorld) login(call session.Call) session.Credentials {
	w.t.Helper()
	w.code++
	creds, err := w.Open(w.t.Context(), testSource("security"), call, secret.New(fmt.Sprint(w.code)))
	if err != nil {
		w.t.Fatal(err)
	}
	return creds
}

func (w *keptWorld) open(call session.Call) (session.Credentials, error) {
	return w.Open(w.t.Context(), testSource("security"), call, secret.String{})
}

func dayCall() session.Call {
	call := mfaCall()
	call.Duration = 12 * time.Hour
	call.Endpoint.Region = "eu-central-1"
	return call
}

func (w *keptWorld) ring() *fileRing {
	w.t.Helper()
	r, err := openFile(w.Dir, secret.New(testPassphrase))
	must(w.t, err)
	return r
}

// read returns the stored session.
func (w *keptWorld) read() kept {
	w.t.Helper()
	data, err := w.ring().get(w.t.Context(), sessionKey("security"))
	must(w.t, err)
	k, err := decodeKept(data)
	must(w.t, err)
	return k
}

func (w *keptWorld) write(k kept) {
	w.t.Helper()
	data, err := encodeKept(k)
	must(w.t, err)
	must(w.t, w.ring().set(w.t.Context(), sessionKey("security"), "", data))
}

// age rewrites the stored session so that it was issued earlier and ends in left, by AWS's clock.
func (w *keptWorld) age(left time.Duration) {
	k := w.read()
	k.Credentials.Expires = time.Now().Add(left).UTC().Truncate(time.Second)
	k.Credentials.Issued = k.Credentials.Expires.Add(-12 * time.Hour)
	w.write(k)
}

func TestKept(t *testing.T) {
	t.Parallel()
	w := newKeptWorld(t)
	if _, err := w.open(dayCall()); !fault.Is(err, fault.LoginNeeded) || w.has() {
		t.Fatalf("before a login: %v", err)
	}
	first := w.login(dayCall())
	w.restart()
	for range 2 {
		start := time.Now()
		creds, err := w.open(dayCall())
		if err != nil {
			t.Fatal(err)
		}
		if creds.AccessKeyID != first.AccessKeyID || creds.SecretAccessKey.Reveal() != keptSecret ||
			creds.SessionToken.Reveal() != keptToken ||
			!creds.Expires.Equal(first.Expires) {
			t.Errorf("another session: %+v", creds)
		}
		if creds.Issued.Before(start.Truncate(time.Second)) || creds.Issued.After(time.Now()) ||
			creds.Issued.Nanosecond() != 0 {
			t.Errorf("issued %s, asked at %s", creds.Issued, start)
		}
	}
	w.wantCalls(1)
	// A request with a code needs a new session.
	w.login(dayCall())
	w.wantCalls(2)
	// The other calls do not use the stored session.
	direct := dayCall()
	direct.Operation, direct.RoleARN = session.AssumeRole, "arn:aws:iam::111122223333:role/long"
	if _, err := w.open(direct); !fault.Is(err, fault.LoginNeeded) || !w.has() {
		t.Errorf("a role with a code: %v", err)
	}
	if _, err := w.open(plainCall()); err != nil || !w.has() {
		t.Errorf("a session without a device: %v", err)
	}
	w.wantCalls(3)
	if len(w.notices) > 0 {
		t.Errorf("told %q", w.notices)
	}
	if err := w.Drop(t.Context(), "security", "ASIAOTHERFAKE2222222"); err != nil || !w.has() {
		t.Errorf("drop of another session: %v", err)
	}
	if err := w.Drop(t.Context(), "security", ""); err != nil || w.has() {
		t.Errorf("drop: %v", err)
	}
	if err := w.Drop(t.Context(), "security", ""); err != nil {
		t.Errorf("second drop: %v", err)
	}
	if _, err := w.open(dayCall()); !fault.Is(err, fault.LoginNeeded) {
		t.Errorf("after drop: %v", err)
	}
}

// TestKeptSavesTheSeedsCode: a stored session is used before the seed.
func TestKeptSavesTheSeedsCode(t *testing.T) {
	t.Parallel()
	w := newKeptWorld(t)
	must(t, w.SetSeed(t.Context(), "security", secret.New(testSeed)))
	for range 2 {
		if _, err := w.open(dayCall()); err != nil {
			t.Fatal(err)
		}
		w.restart()
	}
	w.wantCalls(1)
	// Near its end the seed is used, whose code of this step is already used.
	w.age(30 * time.Minute)
	if err := eventually(w.Caller, unanswered, func() error { _, err := w.open(dayCall()); return err }); err != nil &&
		!fault.Is(err, fault.CodeRejected) ||
		err != nil && w.has() {
		t.Errorf("kept %v: %v", w.has(), err)
	}
}

// TestKeptOfAnotherCall: if the call differs in anything, the stored session does not match and is deleted.
func TestKeptOfAnotherCall(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*session.Call){
		"device":    func(c *session.Call) { c.MFASerial += "-2" },
		"duration":  func(c *session.Call) { c.Duration = 36 * time.Hour },
		"region":    func(c *session.Call) { c.Endpoint.Region = "us-east-1" },
		"url":       func(c *session.Call) { c.Endpoint.URL = "http://127.0.0.1:1" },
		"ca bundle": func(c *session.Call) { c.Endpoint.CABundle = "/ca.pem" },
		"fips":      func(c *session.Call) { c.Endpoint.FIPS = true },
		"legacy":    func(c *session.Call) { c.Endpoint.Legacy = true },
		"policy":    func(c *session.Call) { c.Policy = "{}" },
		"tags":      func(c *session.Call) { c.Tags = []session.Tag{{Key: "a", Value: "b"}} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newKeptWorld(t)
			w.login(dayCall())
			other := dayCall()
			change(&other)
			if _, err := w.open(other); !fault.Is(err, fault.LoginNeeded) || w.has() {
				t.Errorf("kept: %v, error %v", w.has(), err)
			}
			w.wantCalls(1)
		})
	}
	t.Run("key", func(t *testing.T) {
		t.Parallel()
		w := newKeptWorld(t)
		w.login(dayCall())
		key := testKey("security")
		key.Replace = true
		if _, err := w.Put(t.Context(), key, profiles.Endpoint{}, false); err != nil || !w.has() {
			t.Errorf("the same key put again: kept %v, %v", w.has(), err)
		}
		before := w.read()
		key.AccessKeyID = "AKIAIOSFODNN7REPLACE"
		if _, err := w.Put(t.Context(), key, profiles.Endpoint{}, false); err != nil || w.has() {
			t.Errorf("another key put: kept %v, %v", w.has(), err)
		}
		w.write(before) // as if the deletion had failed
		source := testSource("security")
		source.AccessKeyID = key.AccessKeyID
		if _, err := w.Open(t.Context(), source, dayCall(), secret.String{}); !fault.Is(err, fault.LoginNeeded) || w.has() {
			t.Errorf("kept of another key: %v, error %v", w.has(), err)
		}
	})
	t.Run("source", func(t *testing.T) {
		t.Parallel()
		w := newKeptWorld(t)
		if _, err := w.Put(t.Context(), testKey("other"), profiles.Endpoint{}, false); err != nil {
			t.Fatal(err)
		}
		w.login(dayCall())
		if _, err := w.Open(t.Context(), testSource("other"), dayCall(), secret.String{}); !fault.Is(
			err,
			fault.LoginNeeded,
		) ||
			!w.has() {
			t.Errorf("the same key under another name: kept %v, %v", w.has(), err)
		}
		// The item of one source under the name of the other.
		must(t, os.Rename(filepath.Join(w.Dir, sessionKey("security")), filepath.Join(w.Dir, sessionKey("other"))))
		if _, err := w.Open(t.Context(), testSource("other"), dayCall(), secret.String{}); !fault.Is(err, fault.LoginNeeded) {
			t.Errorf("another's item: %v", err)
		}
	})
}

func TestKeptToItsEnd(t *testing.T) {
	t.Parallel()
	for left, used := range map[time.Duration]bool{
		-time.Hour: false, 0: false, time.Minute: false, 71 * time.Minute: false, 73 * time.Minute: true,
		11 * time.Hour:             true,
		13*time.Hour + time.Minute: false, // issued in the future: the clock is wrong
	} {
		t.Run(left.String(), func(t *testing.T) {
			t.Parallel()
			w := newKeptWorld(t)
			w.login(dayCall())
			began := time.Now()
			w.age(left)
			creds, err := w.open(dayCall())
			if (err == nil) != used || w.has() != used || err != nil && !fault.Is(err, fault.LoginNeeded) {
				t.Fatalf("kept %v: %v", w.has(), err)
			}
			if remaining := creds.Expires.Sub(creds.Issued); used &&
				(remaining > left+2*time.Second || remaining < left-time.Since(began)-2*time.Second) {
				t.Errorf("%s remain", remaining)
			}
		})
	}
}

// TestKeptLeft checks the margins, to the second.
func TestKeptLeft(t *testing.T) {
	issued := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		life   time.Duration
		least  time.Duration // the session is used if more than this is left
		seeded time.Duration // the same if a seed can make the next session
	}{
		{15 * time.Minute, 5 * time.Minute, 7*time.Minute + 30*time.Second},
		{time.Hour, 6 * time.Minute, 24 * time.Minute},
		{12 * time.Hour, 72 * time.Minute, 72 * time.Minute},
		{36 * time.Hour, 216 * time.Minute, 216 * time.Minute},
	} {
		k := kept{Credentials: session.Credentials{Issued: issued, Expires: issued.Add(tc.life)}}
		for renewable, least := range map[bool]time.Duration{false: tc.least, true: tc.seeded} {
			for left, want := range map[time.Duration]bool{least: false, least + time.Second: true, tc.life: true,
				tc.life + 30*time.Second: true, tc.life + 2*time.Minute: false} {
				creds, ok := k.left(issued.Add(tc.life-left).Add(300*time.Millisecond), renewable)
				if left == least+time.Second {
					ok = ok && creds.Expires.Sub(creds.Issued) == left
				}
				if ok != want {
					t.Errorf("life %v, seed %v, %v left: %v", tc.life, renewable, left, ok)
				}
				if ok && creds.Issued.Before(issued) {
					t.Errorf("issued earlier than before")
				}
			}
		}
	}
}

// TestKeptWithAWrongClock: our clock is 10 minutes wrong, and AWS's answers show it.
func TestKeptWithAWrongClock(t *testing.T) {
	t.Parallel()
	for _, offset := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		t.Run(offset.String(), func(t *testing.T) {
			t.Parallel()
			w, began := newKeptWorld(t), time.Now()
			must(t, os.WriteFile(offsetFile(w.StateDir), []byte(offset.String()), 0o600))
			w.login(dayCall())
			if w.read().Offset != offset {
				t.Fatalf("kept with offset %v", w.read().Offset)
			}
			near := func(what string, creds session.Credentials, err error, left time.Duration) {
				t.Helper()
				if err != nil {
					t.Errorf("%s: %v", what, err)
				} else if got := creds.Expires.Sub(creds.Issued); got > left+2*time.Second ||
					got < left-time.Since(began)-2*time.Second {
					t.Errorf("%s: %v left, want %v", what, got, left)
				}
			}
			// This caller knows the offset.
			creds, err := w.open(dayCall())
			near("known", creds, err, 12*time.Hour)
			w.age(73*time.Minute + offset)
			creds, err = w.open(dayCall())
			near("known, at its end", creds, err, 73*time.Minute)
			// A new caller does not; it must not overestimate what is left.
			w.restart()
			w.age(2*time.Hour + offset)
			creds, err = w.open(dayCall())
			near("unknown", creds, err, min(2*time.Hour, 2*time.Hour+offset))
			w.age(71*time.Minute + offset)
			if _, err := w.open(dayCall()); !fault.Is(err, fault.LoginNeeded) || w.has() {
				t.Errorf("unknown, at its end: kept %v, %v", w.has(), err)
			}
			w.wantCalls(1)
		})
	}
}

func TestKeptDamaged(t *testing.T) {
	testKeptDamaged(t, "cut", "symlink", "not json", "version", "digest")
}

// TestKeptDamagedLong has all rows.
func TestKeptDamagedLong(t *testing.T) { testKeptDamaged(t) }

func testKeptDamaged(t *testing.T, only ...string) {
	t.Helper()
	t.Parallel()
	w := newKeptWorld(t)
	plain := func(change func(string) string) func(*testing.T, *keptWorld, string) {
		return func(t *testing.T, w *keptWorld, _ string) {
			data, err := encodeKept(w.read())
			must(t, err)
			must(t, w.ring().set(t.Context(), sessionKey("security"), "", []byte(change(string(data)))))
		}
	}
	replace := func(old, with string) func(*testing.T, *keptWorld, string) {
		return plain(func(s string) string {
			if !strings.Contains(s, old) {
				panic(old + " is not in it: the test proves nothing")
			}
			return strings.Replace(s, old, with, 1)
		})
	}
	edited := func(change func(*kept)) func(*testing.T, *keptWorld, string) {
		return func(t *testing.T, w *keptWorld, _ string) { k := w.read(); change(&k); w.write(k) }
	}
	for name, spoil := range rowsOf(t, map[string]func(*testing.T, *keptWorld, string){
		"cut":   func(t *testing.T, _ *keptWorld, path string) { must(t, os.Truncate(path, 100)) },
		"empty": func(t *testing.T, _ *keptWorld, path string) { must(t, os.Truncate(path, 0)) },
		"flipped": func(t *testing.T, _ *keptWorld, path string) {
			edit(t, path, func(b []byte) []byte { b[len(b)-30] ^= 1; return b })
		},
		"huge": func(t *testing.T, _ *keptWorld, path string) { must(t, os.Truncate(path, 1<<20)) },
		"fifo": func(t *testing.T, _ *keptWorld, path string) {
			must(t, os.Remove(path))
			must(t, mkfifo(path))
		},
		"symlink": func(t *testing.T, _ *keptWorld, path string) {
			must(t, os.Rename(path, path+"2"))
			must(t, os.Symlink(path+"2", path))
		},
		"open":          func(t *testing.T, _ *keptWorld, path string) { must(t, os.Chmod(path, 0o644)) },
		"not json":      plain(func(string) string { return "hello" }),
		"null":          plain(func(string) string { return "null" }),
		"two":           plain(func(s string) string { return s + s }),
		"unknown field": replace(`{"version"`, `{"x":1,"version"`),
		"version":       replace(`"version":1`, `"version":2`),
		"a seed's item": plain(func(string) string { return `{"version":1,"name":"security","access_key_id":"` + testKeyID + `"}` }),
		"no times":      replace(`"issued"`, `"subject"`),
		"digest":        edited(func(k *kept) { k.Asked = "" }),
		"token":         replace(`"session_token":"`+keptToken+`"`, `"session_token":""`),
		"secret":        replace(`"secret_access_key":"`+keptSecret+`"`, `"secret_access_key":""`),
		"endless":       replace(`"issued":"20`, `"issued":"19`),
	}, only) {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.login(dayCall())
			spoil(t, w, filepath.Join(w.Dir, sessionKey("security")))
			_, err := w.open(dayCall())
			if !fault.Is(err, fault.LoginNeeded) || w.has() {
				t.Errorf("kept %v: %v", w.has(), err)
			}
			w.login(dayCall())
			if _, err := w.open(dayCall()); err != nil {
				t.Errorf("after the next login: %v", err)
			}
		})
	}
}

func TestKeptGoesWithItsSource(t *testing.T) {
	t.Parallel()
	w := newKeptWorld(t)
	w.login(dayCall())
	must(t, w.Remove(t.Context(), "security"))
	entries, err := os.ReadDir(w.Dir)
	if err != nil || len(entries) != 4 { // lock, check item, and two files with the key
		t.Errorf("left behind: %v, %v", entries, err)
	}
	// Also a leftover of a source that does not exist.
	must(t, w.ring().set(t.Context(), sessionKey("security"), "", []byte("x")))
	if err := w.Remove(t.Context(), "security"); !fault.Is(err, fault.NotFound) || w.has() {
		t.Errorf("remove of a leftover: kept %v, %v", w.has(), err)
	}
}

func TestDropWithoutAPassphrase(t *testing.T) {
	t.Parallel()
	c := freshCaller(t)
	if err := c.Drop(t.Context(), "security", ""); err != nil {
		t.Errorf("before there is a keyring: %v", err)
	}
	w := newKeptWorld(t)
	w.Forget()
	if err := w.Drop(t.Context(), "security", ""); err != nil {
		t.Errorf("nothing kept, no passphrase: %v", err)
	}
	w.restart()
	w.login(dayCall())
	for pass, want := range map[string]error{"": vault.ErrNoPassphrase, "wrong": vault.ErrWrongPassphrase} {
		w.SetPassphrase(secret.New(pass))
		if _, err := w.open(dayCall()); !errors.Is(err, want) || !fault.Is(err, fault.KeyringLocked) {
			t.Errorf("open with passphrase %q: %v", pass, err)
		}
	}
	// Deleting a session needs no passphrase.
	w.SetPassphrase(secret.New("wrong"))
	if err := w.Drop(t.Context(), "security", ""); err != nil || w.has() {
		t.Errorf("kept %v, %v", w.has(), err)
	}
	if err := w.Drop(t.Context(), "", ""); !fault.Is(err, fault.Usage) {
		t.Errorf("no name: %v", err)
	}
}

// TestKeepFails: the session is returned all the same, and a notice says that it was not stored.
func TestKeepFails(t *testing.T) {
	t.Parallel()
	w := newKeptWorld(t)
	path := filepath.Join(w.Dir, sessionKey("security"))
	must(t, os.MkdirAll(filepath.Join(path, "in the way"), 0o700))
	creds := w.login(dayCall())
	if creds.SecretAccessKey.Reveal() != keptSecret {
		t.Errorf("got %+v", creds)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.notices) != 1 || !strings.HasPrefix(w.notices[0], "security: the session could not be kept in the keyring") {
		t.Errorf("told %q", w.notices)
	}
	if text := strings.Join(w.notices, ""); strings.Contains(text, keptSecret) || strings.Contains(text, keptToken) {
		t.Error("the notice contains the secret")
	}
}

// badRing is a keyring with one source, whose writes behave as the test says.
type badRing struct {
	ring
	items map[string][]byte
	write func(data []byte) error
}

func (r *badRing) lock(context.Context) (func(), error) { return func() {}, nil }

func (r *badRing) get(_ context.Context, key string) ([]byte, error) {
	if data, ok := r.items[key]; ok {
		return data, nil
	}
	return nil, errNoItem
}

func (r *badRing) set(_ context.Context, _, _ string, data []byte) error { return r.write(data) }

// TestKeepBadly: a keyring that is read-only, hangs or panics does not delay the answer, and its errors reveal no
// secret.
func TestKeepBadly(t *testing.T) {
	for name, tc := range map[string]struct {
		write func(data []byte) error
		took  time.Duration
	}{
		"read-only": {func([]byte) error { return fault.New(fault.Keyring, "read-only file system") }, 0},
		"tells":     {func(data []byte) error { return errors.New("cannot write " + string(data) + "\nnotice: x") }, 0},
		"hangs":     {func([]byte) error { time.Sleep(time.Hour); return nil }, keepTimeout},
		"panics":    {func(data []byte) error { panic(string(data)) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				data, err := encodeItem(item{Name: "security", AccessKeyID: testKeyID, Secret: secret.New(testSecret)})
				must(t, err)
				r := &badRing{items: map[string][]byte{itemKey("security"): data}, write: tc.write}
				e := newErrand(t, &fakeAWS{t: t})
				e.sts = &issuing{}
				var told bytes.Buffer
				e.notices = &told
				e.Code = "246810"
				ctx, cancel := context.WithTimeout(t.Context(), 44*time.Second)
				defer cancel()
				start := time.Now()
				a, err := e.open(ctx, r)
				if err != nil || a.Credentials.SecretAccessKey != keptSecret {
					t.Fatalf("got %v", err)
				}
				if took := time.Since(start); took != tc.took {
					t.Errorf("took %v", took)
				}
				line := told.String()
				if strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, vault.NoticePrefix+"the session could not be kept") ||
					strings.Contains(line, keptSecret) || strings.Contains(line, keptToken) {
					t.Errorf("told %q", line)
				}
				time.Sleep(2 * time.Hour) // the hanging one
			})
		})
	}
}

// issuing simulates an AWS that issues sessions now.
type issuing struct{ fakeAWS }

func (*issuing) Call(
	_ context.Context,
	_ exchange.Keys,
	call session.Call,
	_ secret.String,
) (session.Credentials, error) {
	return session.Credentials{
		AccessKeyID:     "ASIAKEPTEXAMPLE",
		SecretAccessKey: secret.New(keptSecret),
		SessionToken:    secret.New(keptToken),
		Issued:          time.Now(),
		Expires:         time.Now().Add(call.Duration),
	}, nil
}

// TestKeptOnlyWithItsSource: the source was removed, or got another key, before AWS answered.
func TestKeptOnlyWithItsSource(t *testing.T) {
	other, err := encodeItem(item{Name: "security", AccessKeyID: "AKIAIOSFODNN7REPLACE", Secret: secret.New(testSecret)})
	must(t, err)
	for name, items := range map[string]map[string][]byte{"removed": {}, "another key": {itemKey("security"): other}} {
		r := &badRing{items: items, write: func([]byte) error { t.Errorf("%s: kept", name); return nil }}
		e := newErrand(t, &fakeAWS{t: t})
		var told bytes.Buffer
		e.notices = &told
		creds, _ := (&issuing{}).Call(t.Context(), keys, *e.Call, secret.String{})
		e.keep(t.Context(), r, item{Name: "security", AccessKeyID: testKeyID}, creds)
		if told.Len() > 0 {
			t.Errorf("%s: told %q", name, told.String())
		}
	}
}

// TestKeptIsSealed searches every file for the session after a whole scenario, in all encodings that it could
// have.
func TestKeptIsSealed(t *testing.T) {
	t.Parallel()
	w := newKeptWorld(t)
	must(t, w.SetSeed(t.Context(), "security", secret.New(testSeed)))
	w.login(dayCall())
	w.restart()
	if _, err := w.open(dayCall()); err != nil {
		t.Fatal(err)
	}
	var forms [][]byte
	for _, s := range []string{keptSecret, keptToken, "ASIAKEPTEXAMPLE", testSecret, testSeed} {
		b := []byte(s)
		var wide []byte
		for _, c := range b {
			wide = append(wide, c, 0)
		}
		forms = append(forms, b, wide, []byte(hex.EncodeToString(b)))
		for shift := range 3 { // base64 at any offset in a longer text, without the ends that depend on the neighbors
			text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), b...))
			forms = append(forms, []byte(text[4:len(text)-4]))
		}
	}
	files := 0
	err := filepath.WalkDir(filepath.Dir(w.Dir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		files++
		info, err := e.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		data, err := os.ReadFile(path)
		for _, form := range forms {
			if bytes.Contains(data, form) {
				t.Errorf("%s contains %q", path, form)
			}
		}
		return err
	})
	if err != nil || files < 6 || !w.has() {
		t.Errorf("%d files, %v", files, err)
	}
	if len(w.notices) > 0 {
		t.Errorf("told %q", w.notices)
	}
}

func FuzzKept(f *testing.F) {
	issued := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	good, err := encodeKept(
		kept{
			Source: "security",
			Asked:  "x",
			Credentials: session.Credentials{AccessKeyID: "ASIA", SecretAccessKey: secret.New(keptSecret),
				SessionToken: secret.New(keptToken), Issued: issued, Expires: issued.Add(time.Hour)},
		},
	)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := decodeKept(data)
		if err != nil {
			if strings.Contains(err.Error(), keptSecret) || len(err.Error()) > 200 {
				t.Errorf("the error repeats the session: %v", err)
			}
			return
		}
		creds, ok := k.left(issued, false)
		if left := creds.Expires.Sub(creds.Issued); ok && (left <= keptMargin || left > longestKept+time.Minute) {
			t.Errorf("%v left", left)
		}
	})
}
