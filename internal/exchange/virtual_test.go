//go:build unix

package exchange

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/session"
)

// Long timeouts, tested on a virtual clock.
func TestHowLongItTakes(t *testing.T) {
	blackhole := func(q *http.Request) (*http.Response, error) {
		<-q.Context().Done()
		return nil, q.Context().Err()
	}
	throttled := func(*http.Request) (*http.Response, error) {
		return response(400, refusal("Throttling", "Rate exceeded")), nil
	}
	refused := func(*http.Request) (*http.Response, error) { return nil, syscall.ECONNREFUSED }
	for _, tt := range []struct {
		name        string
		answer      func(*http.Request) (*http.Response, error)
		code        string
		kind        fault.Kind
		attempts    int
		least, most time.Duration
	}{
		{"blackhole", blackhole, "", fault.Network, 3, 10 * time.Second, 10 * time.Second},
		{"blackhole with a code", blackhole, aCode, fault.Network, 1, 10 * time.Second, 10 * time.Second},
		{"refused", refused, "", fault.Network, 3, 300 * time.Millisecond, 800 * time.Millisecond},
		{"throttled", throttled, "", fault.Throttled, 3, 1500 * time.Millisecond, 3 * time.Second},
		{"throttled with a code", throttled, aCode, fault.Throttled, 1, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &recorder{answer: tt.answer}
				c := New(Options{})
				c.connect = r.connect
				call := session.Call{Operation: session.GetSessionToken}
				if tt.code != "" {
					call.MFASerial = aSerial
				}
				start := time.Now()
				_, err := c.Call(t.Context(), userKeys(), call, secret.New(tt.code))
				wantFault(t, err, tt.kind)
				if d := time.Since(start); d < tt.least || d > tt.most {
					t.Errorf("it took %s, want %s to %s", d, tt.least, tt.most)
				}
				if len(r.requests) != tt.attempts {
					t.Errorf("%d attempts, want %d", len(r.requests), tt.attempts)
				}
				var f *fault.Error
				if !errors.As(err, &f) {
					t.Error("the error is not a fault")
				}
			})
		})
	}
}

// TestLastAttemptWithoutTime: if the last attempt has no time left to connect, its failure says nothing useful.
// The attempt before had a connection, so its failure is reported. Without that, the test fails with "cannot reach
// STS".
func TestLastAttemptWithoutTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		r := &recorder{answer: func(q *http.Request) (*http.Response, error) {
			if attempts++; attempts < 3 {
				httptrace.ContextClientTrace(q.Context()).GotConn(httptrace.GotConnInfo{})
			}
			<-q.Context().Done()
			return nil, q.Context().Err()
		}}
		c := New(Options{})
		c.connect = r.connect
		_, err := c.Assume(t.Context(), aSession(), assumeRole())
		wantFault(t, err, fault.Network, "no complete answer from")
		if attempts != 3 || !MaybeSeen(err) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d attempts: %v", attempts, err)
		}
	})
}
