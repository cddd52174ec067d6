package session

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

const (
	oldKey = "AKIAI44QH8DHBEXAMPLE"
	newKey = "AKIANEWKEYOFPAULA222"
)

// TestRekeyCarriesSessions: after a swap of the key, the sessions of the old key are served on, and nobody has to enter
// a code. Without Rekey, the same swap needs one.
func TestRekeyCarriesSessions(t *testing.T) {
	for _, carried := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, registry)
			w.aws.onEachOpen(withoutSeed)
			login := Request{Profile: "typed", Files: w.files, Login: true, Code: secret.New("123456")}
			if _, err := w.Credentials(t.Context(), login); err != nil {
				t.Fatal(err)
			}
			before := w.get("typed-dev")
			w.aws.wantCalls(t, 1, 1)
			swap := func() error {
				w.write(strings.ReplaceAll(registry, oldKey, newKey))
				return nil
			}
			if !carried {
				_ = swap()
				w.fail("typed-dev", fault.LoginNeeded)
				return
			}
			if err := w.Rekey(t.Context(), "typed", oldKey, newKey, swap); err != nil {
				t.Fatal(err)
			}
			if after := w.get("typed-dev"); after.AccessKeyID != before.AccessKeyID {
				t.Error("another session than before the swap")
			}
			held := w.Held()
			if len(held) != 2 {
				t.Errorf("%d sessions are held, not 2", len(held))
			}
			w.aws.wantCalls(t, 1, 1)
			time.Sleep(50 * time.Minute)
			w.get("typed-dev") // renewed with the session that was carried over
			w.aws.wantCalls(t, 1, 2)
		})
	}
}

// TestRekeyWaitsForCalls: Rekey returns after the last call for the old key, and its result serves the requests for the
// new key too. A hundred clients at work see no error.
func TestRekeyWaitsForCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registry)
		w.aws.take(10 * time.Second)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 200 * time.Millisecond)
				for range 5 {
					if _, err := w.ask([]string{"dev", "prod", "deep"}[i%3]); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Second)
				}
			})
		}
		time.Sleep(5 * time.Second)
		began := time.Now()
		err := w.Rekey(t.Context(), "security", "AKIAIOSFODNN7EXAMPLE", newKey, func() error {
			w.write(strings.ReplaceAll(registry, "AKIAIOSFODNN7EXAMPLE", newKey))
			return nil
		})
		if err != nil || time.Since(began) < 5*time.Second {
			t.Errorf("Rekey returned after %v, %v, and did not wait for the call", time.Since(began), err)
		}
		wg.Wait()
	})
}

// TestRekeyInterrupted: a daemon that ends while calls for the old key are in flight says what it waited for.
func TestRekeyInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registry)
		w.aws.take(10 * time.Second)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := w.ask("dev"); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := w.Rekey(ctx, "security", "AKIAIOSFODNN7EXAMPLE", newKey, func() error { return nil })
		if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "stopped waiting for the calls with the old key") {
			t.Errorf("got %v", err)
		}
		wg.Wait()
	})
}

// TestReplacedKeyIsTriedAgain: a request that was planned with a key that is replaced meanwhile does not fail.
func TestReplacedKeyIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registry)
		first := true
		w.aws.onEachOpen(func(open) error {
			if !first {
				return nil
			}
			first = false
			w.write(strings.ReplaceAll(registry, "AKIAIOSFODNN7EXAMPLE", newKey))
			return &fault.Error{Kind: fault.Denied, Message: "AWS does not know the key", Err: ErrUnknownKey}
		})
		w.get("dev")
	})
}
