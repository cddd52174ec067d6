//go:build unix

package exchange

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// skewedSTS is an STS whose clock differs from ours, and which refuses signatures with another time than its own.
func skewedSTS(t *testing.T, offset *atomic.Int64) *fake {
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		now := time.Now().Add(time.Duration(offset.Load())).UTC()
		w.Header().Set("Date", now.Format(http.TimeFormat))
		const layout = "20060102T150405Z"
		signed, err := time.Parse(layout, r.Header.Get("X-Amz-Date"))
		scope := fmt.Sprintf("/%s/us-east-1/sts/aws4_request", signed.Format("20060102"))
		switch {
		case err != nil || !strings.Contains(r.Header.Get("Authorization"), scope):
			say(403, refusal("IncompleteSignature", "date and scope do not agree"))(w, r)
		case signed.Before(now.Add(-15 * time.Minute)):
			say(403, refusal("SignatureDoesNotMatch", "Signature expired: "+r.Header.Get("X-Amz-Date")+" is now earlier than "+now.Add(-15*time.Minute).Format(layout)+" ("+now.Format(layout)+" - 15 min.)"))(w, r)
		case signed.After(now.Add(15 * time.Minute)):
			say(403, refusal("SignatureDoesNotMatch", "Signature not yet current: "+r.Header.Get("X-Amz-Date")+" is still later than "+now.Add(15*time.Minute).Format(layout)+" ("+now.Format(layout)+" + 15 min.)"))(w, r)
		default:
			answerWith(answer{expiration: now.Add(time.Hour).Format(time.RFC3339)})(w, r)
		}
	})
}

func TestClocks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		offset time.Duration
		bare   int    // requests that a call without a code needs
		text   string // of the fault of a first call with a code; empty if it succeeds
	}{
		{0, 1, ""},
		{10 * time.Minute, 1, ""},
		{-10 * time.Minute, 1, ""},
		{16 * time.Minute, 2, "behind AWS's: Signature expired"},
		{-16 * time.Minute, 2, "ahead of AWS's: Signature not yet current"},
		{24 * time.Hour, 2, "behind AWS's"},
		{-24 * time.Hour, 2, "ahead of AWS's"},
	} {
		t.Run(tt.offset.String(), func(t *testing.T) {
			t.Parallel()
			var offset atomic.Int64
			offset.Store(int64(tt.offset))
			f := skewedSTS(t, &offset)

			began := time.Now()
			c := client(f)
			got, err := c.Assume(background(t), aSession(), assumeRole())
			if err != nil {
				t.Fatal(err)
			}
			if f.count() != tt.bare {
				t.Errorf("%d requests, want %d", f.count(), tt.bare)
			}
			if d := (c.ServerOffset() - tt.offset).Abs(); d > time.Second+time.Since(began) {
				t.Errorf("offset %s, want %s", c.ServerOffset(), tt.offset)
			}
			if d := got.Issued.Sub(time.Now().Add(tt.offset)).Abs(); d > 2*time.Second+time.Since(began) {
				t.Errorf("issued %s off AWS's clock", d)
			}

			// A code has only one attempt, so the known offset must be used.
			before := f.count()
			if _, err := c.Call(background(t), userKeys(), openSession(), secret.New(aCode)); err != nil {
				t.Errorf("with a code and a known offset: %v", err)
			}
			told := New(Options{STSEndpoint: f.URL, Offset: tt.offset})
			if _, err := told.Call(background(t), userKeys(), openSession(), secret.New(aCode)); err != nil {
				t.Errorf("with a code and an offset from elsewhere: %v", err)
			}
			if f.count() != before+2 {
				t.Errorf("%d requests, want 2", f.count()-before)
			}

			fresh := client(f)
			_, err = fresh.Call(background(t), userKeys(), openSession(), secret.New(aCode))
			if tt.text == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantFault(t, err, fault.Clock, tt.text)
			wantOff(t, err, tt.offset, time.Since(began))
			if f.count() != before+3 {
				t.Errorf("a call with a code made %d requests", f.count()-before-2)
			}
			if _, err := fresh.Call(background(t), userKeys(), openSession(), secret.New(aCode)); err != nil {
				t.Errorf("the call after a Clock fault: %v", err)
			}
		})
	}
}

// wantOff checks how wrong our clock is according to an error: with the precision of AWS's Date header, in
// seconds, and the duration of the call.
func wantOff(t *testing.T, err error, offset, took time.Duration) {
	t.Helper()
	_, rest, _ := strings.Cut(err.Error(), "the clock of this machine is ")
	word, _, _ := strings.Cut(rest, " ")
	if off, bad := time.ParseDuration(word); bad != nil || (off-offset.Abs()).Abs() > time.Second+took {
		t.Errorf("%v: does not say %s", err, offset.Abs())
	}
}

// TestClockHeals: the clock is corrected, or jumps, while the program runs.
func TestClockHeals(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	f := skewedSTS(t, &offset)
	c := client(f)
	for _, d := range []time.Duration{time.Hour, 0, -3 * time.Hour, 0} {
		offset.Store(int64(d))
		began := time.Now()
		if _, err := c.Assume(background(t), aSession(), assumeRole()); err != nil {
			t.Fatalf("offset %s: %v", d, err)
		}
		if (c.ServerOffset() - d).Abs() > time.Second+time.Since(began) {
			t.Errorf("offset %s, want %s", c.ServerOffset(), d)
		}
	}
	if c.ServerOffset() != 0 {
		t.Errorf("the clocks agree, but the offset is %s", c.ServerOffset())
	}
}

// TestClockRefusals: a server that always refuses the time gets at most one retry.
func TestClockRefusals(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(http.ResponseWriter, *http.Request)
		want int
		text string
	}{
		{"our clock is right", say(403, refusal("SignatureDoesNotMatch", "Signature expired: x")), 1, "AWS refused the time of the request: Signature expired: x"},
		{"another code", say(403, refusal("RequestExpired", "Request has expired.")), 1, "AWS refused the time of the request: Request has expired."},
		{"and another", say(403, refusal("RequestTimeTooSkewed", "too far")), 1, "AWS refused the time"},
		{"no Date", func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Date"] = nil
			say(403, refusal("SignatureDoesNotMatch", "Signature expired: x"))(w, r)
		}, 1, "AWS refused the time"},
		{"a Date that is not one", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", "yesterday")
			say(403, refusal("SignatureDoesNotMatch", "Signature expired: x"))(w, r)
		}, 1, "AWS refused the time"},
		{"a clock that runs away", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			say(403, refusal("SignatureDoesNotMatch", "Signature expired: x"))(w, r)
		}, 2, "behind AWS's"},
		{"the year 9999", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", "Fri, 31 Dec 9999 23:59:59 GMT")
			good(w, r)
		}, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, tt.do)
			began := time.Now()
			_, err := client(f).Assume(background(t), aSession(), assumeRole())
			if tt.text == "" {
				wantFault(t, err, fault.BadAnswer, "expired before they arrived")
			} else {
				wantFault(t, err, fault.Clock, tt.text)
			}
			if tt.want == 2 {
				wantOff(t, err, time.Hour, time.Since(began))
			}
			if f.count() != tt.want {
				t.Errorf("%d requests, want %d", f.count(), tt.want)
			}
		})
	}
}

func TestReadClockIsQuietWhereClocksAgree(t *testing.T) {
	c := New(Options{})
	a := c.newAttempt(request{}, location{region: "us-east-1"}, nil)
	for range 50 {
		sent := time.Now()
		time.Sleep(time.Millisecond)
		a.readClock(time.Now().UTC().Format(http.TimeFormat), sent)
		if c.ServerOffset() != 0 {
			t.Fatalf("offset %s", c.ServerOffset())
		}
	}
	// An answer that took a minute says less than one that took a second.
	a.readClock(time.Now().Add(-30*time.Second).UTC().Format(http.TimeFormat), time.Now().Add(-time.Minute))
	if c.ServerOffset() != 0 {
		t.Errorf("offset %s", c.ServerOffset())
	}
}
