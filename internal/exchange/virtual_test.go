//go:build unix

package exchange

import (
	"errors"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/session"
)

// The times that nobody wants to wait for, on a virtual clock.
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
					t.Error("it is no fault")
				}
			})
		})
	}
}
