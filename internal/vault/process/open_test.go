package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// fakeAWS records its calls and answers from a list; after the end of the list every call succeeds.
type fakeAWS struct {
	sts     // the calls that it does not fake
	t       *testing.T
	offset  time.Duration // returned by ServerOffset
	answers []func(f *fakeAWS) error
	codes   []string    // of the calls, in order
	at      []time.Time // when they came, by our clock
}

func (f *fakeAWS) Call(
	_ context.Context,
	keys exchange.Keys,
	call session.Call,
	code secret.String,
) (session.Credentials, error) {
	f.codes = append(f.codes, code.Reveal())
	f.at = append(f.at, time.Now())
	if n := len(f.codes); n <= len(f.answers) {
		if err := f.answers[n-1](f); err != nil {
			return session.Credentials{}, err
		}
	}
	return session.Credentials{AccessKeyID: "ASIAEXAMPLE"}, nil
}

func (f *fakeAWS) Identity(context.Context, exchange.Keys, profiles.Endpoint) (exchange.Identity, error) {
	f.t.Error("unexpected call of Identity")
	return exchange.Identity{}, nil
}

func (f *fakeAWS) Devices(context.Context, exchange.Keys, profiles.Endpoint) ([]string, error) {
	f.t.Error("unexpected call of Devices")
	return nil, nil
}

func (f *fakeAWS) ServerOffset() time.Duration { return f.offset }

func says(kind fault.Kind, cause error) func(*fakeAWS) error {
	return func(*fakeAWS) error { return &fault.Error{Kind: kind, Message: "aws says " + string(kind), Err: cause} }
}

// tells returns an answer whose Date header shows an offset.
func tells(offset time.Duration, kind fault.Kind) func(*fakeAWS) error {
	return func(f *fakeAWS) error {
		f.offset = offset
		return says(kind, nil)(f)
	}
}

// newErrand returns a request in progress, with its own ledger.
func newErrand(t *testing.T, aws *fakeAWS) *errand {
	call := mfaCall()
	dir := t.TempDir()
	return &errand{
		request: &request{Source: "security", Call: &call, UseSeed: true, StateDir: dir, Registry: homeRegistry()},
		sts:     aws,
		ledger:  mfa.Ledger{Dir: dir},
	}
}

var keys = exchange.Keys{AccessKeyID: testKeyID, Secret: secret.New(testSecret)}

func codeAt(t *testing.T, at time.Time) string { return codeOf(t, testSeed, at) }

func codeOf(t *testing.T, text string, at time.Time) string {
	t.Helper()
	seed, err := mfa.ParseSeed(text)
	if err != nil {
		t.Fatal(err)
	}
	code, _ := seed.Code(at)
	return code.Reveal()
}

func TestSeedTries(t *testing.T) {
	// Only package exchange knows whether AWS may have seen a request, so take the lost answer from a real case: a
	// server that closes the connection. Other errors count as not sent.
	gone := func(*fakeAWS) error { return lost }
	for name, tc := range map[string]struct {
		answers []func(*fakeAWS) error
		calls   int
		kind    fault.Kind // of the error; "" for success
		wait    bool       // the second call is in a later step
		offset  time.Duration
	}{
		"well":                           {nil, 1, "", false, 0},
		"wrong code, clock right":        {[]func(*fakeAWS) error{says(fault.CodeRejected, nil)}, 1, fault.CodeRejected, false, 0},
		"wrong code, clock 20 s off":     {[]func(*fakeAWS) error{tells(20*time.Second, fault.CodeRejected)}, 1, fault.CodeRejected, false, 0},
		"wrong code, clock 30 s off":     {[]func(*fakeAWS) error{tells(30*time.Second, fault.CodeRejected)}, 2, "", false, 30 * time.Second},
		"wrong code, clock 10 min ahead": {[]func(*fakeAWS) error{tells(-10*time.Minute, fault.CodeRejected)}, 2, "", false, -10 * time.Minute},
		"wrong again": {[]func(*fakeAWS) error{tells(10*time.Minute, fault.CodeRejected), tells(20*time.Minute, fault.CodeRejected)},
			2, fault.CodeRejected, false, 10 * time.Minute},
		"wrong device, clock off": {[]func(*fakeAWS) error{func(f *fakeAWS) error {
			f.offset = time.Hour
			return says(fault.CodeRejected, exchange.ErrWrongDevice)(f)
		}}, 1, fault.CodeRejected, false, 0},
		"clock a day off":             {[]func(*fakeAWS) error{tells(24*time.Hour, fault.Clock)}, 2, "", false, 24 * time.Hour},
		"clock fault without a time":  {[]func(*fakeAWS) error{says(fault.Clock, nil)}, 1, fault.Clock, false, 0},
		"answer lost":                 {[]func(*fakeAWS) error{gone}, 2, "", true, 0},
		"answer lost twice":           {[]func(*fakeAWS) error{gone, gone}, 2, fault.Network, true, 0},
		"not sent":                    {[]func(*fakeAWS) error{says(fault.Network, nil)}, 1, fault.Network, false, 0},
		"denied":                      {[]func(*fakeAWS) error{says(fault.Denied, nil)}, 1, fault.Denied, false, 0},
		"throttled":                   {[]func(*fakeAWS) error{says(fault.Throttled, nil)}, 1, fault.Throttled, false, 0},
		"denied, and clock 1 min off": {[]func(*fakeAWS) error{tells(time.Minute, fault.Denied)}, 1, fault.Denied, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(7 * time.Second) // somewhere within a step
				aws := &fakeAWS{t: t, answers: tc.answers}
				e := newErrand(t, aws)
				ctx, cancel := context.WithTimeout(t.Context(), 44*time.Second)
				defer cancel()
				_, err := e.call(ctx, keys, secret.New(testSeed))
				if (err == nil) != (tc.kind == "") || err != nil && !fault.Is(err, tc.kind) {
					t.Errorf("error %v", err)
				}
				if len(aws.codes) != tc.calls {
					t.Fatalf("%d calls, want %d", len(aws.codes), tc.calls)
				}
				if aws.codes[0] != codeAt(t, aws.at[0]) {
					t.Error("the first code is not the current one")
				}
				if tc.calls < 2 {
					return
				}
				if aws.codes[0] == aws.codes[1] {
					t.Error("the same code twice")
				}
				if aws.codes[1] != codeAt(t, aws.at[1].Add(tc.offset)) {
					t.Error("the second code is not that of the corrected time")
				}
				if waited := aws.at[1].Sub(aws.at[0]); waited > 0 != tc.wait || waited > mfa.Period {
					t.Errorf("waited %s", waited)
				}
			})
		})
	}
}

// TestKnownOffset: the first code uses the clock offset that an earlier process learned.
func TestKnownOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for offset, want := range map[time.Duration]time.Duration{20 * time.Minute: 20 * time.Minute, 3 * time.Second: 0} {
			aws := &fakeAWS{t: t, offset: offset}
			if _, err := newErrand(t, aws).call(t.Context(), keys, secret.New(testSeed)); err != nil {
				t.Fatal(err)
			}
			if aws.codes[0] != codeAt(t, aws.at[0].Add(want)) {
				t.Errorf("offset %s: not the code of the corrected time", offset)
			}
		}
	})
}

// TestNoTimeForAnother: if the next step begins after the deadline, the first failure is returned at once.
func TestNoTimeForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(7 * time.Second)
		aws := &fakeAWS{t: t, answers: []func(*fakeAWS) error{func(*fakeAWS) error { return lost }}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		_, err := newErrand(t, aws).call(ctx, keys, secret.New(testSeed))
		if !fault.Is(err, fault.Network) || len(aws.codes) != 1 || time.Since(start) > 0 {
			t.Errorf("%d calls, %s: %v", len(aws.codes), time.Since(start), err)
		}
	})
}

// TestSkewNeedsNoWait: the code of the corrected time differs at once, so it can be used however little time is
// left.
func TestSkewNeedsNoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		aws := &fakeAWS{t: t, answers: []func(*fakeAWS) error{tells(10*time.Minute, fault.CodeRejected)}}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := newErrand(t, aws).call(ctx, keys, secret.New(testSeed)); err != nil || len(aws.codes) != 2 {
			t.Errorf("%d calls: %v", len(aws.codes), err)
		}
	})
}

// TestSeedWaits: of two requests in one step, the second waits and reports that.
func TestSeedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		aws := &fakeAWS{t: t}
		e := newErrand(t, aws)
		for range 2 {
			if _, err := e.call(t.Context(), keys, secret.New(testSeed)); err != nil {
				t.Fatal(err)
			}
		}
		if aws.codes[0] == aws.codes[1] || aws.at[1].Sub(aws.at[0]) > mfa.Period || !aws.at[1].After(aws.at[0]) {
			t.Errorf("at %v", aws.at)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := e.call(ctx, keys, secret.New(testSeed))
		var spent *mfa.SpentError
		if !fault.Is(err, fault.CodeRejected) || !errors.As(err, &spent) || len(aws.codes) != 2 {
			t.Errorf("a third within a second: %v", err)
		}
	})
}

func TestTypedCode(t *testing.T) {
	for name, answer := range map[string]func(*fakeAWS) error{
		"wrong":        says(fault.CodeRejected, nil),
		"wrong device": says(fault.CodeRejected, exchange.ErrWrongDevice),
		"skew":         tells(time.Hour, fault.CodeRejected),
		"clock":        tells(time.Hour, fault.Clock),
		"lost":         func(*fakeAWS) error { return lost },
		"throttled":    says(fault.Throttled, nil),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				aws := &fakeAWS{t: t, answers: []func(*fakeAWS) error{answer}}
				e := newErrand(t, aws)
				e.Code = "246810"
				// A stored seed changes nothing: a typed code takes precedence.
				_, err := e.call(t.Context(), keys, secret.New(testSeed))
				if err == nil || len(aws.codes) != 1 || aws.codes[0] != "246810" {
					t.Errorf("%d calls: %v", len(aws.codes), err)
				}
				if name == "lost" && !strings.Contains(err.Error(), "enter the next code, which comes in 30s") {
					t.Errorf("the error does not say what to do: %v", err)
				}
				_, again := e.call(t.Context(), keys, secret.New(testSeed))
				var spent *mfa.SpentError
				if !errors.As(again, &spent) || len(aws.codes) != 1 {
					t.Errorf("the same code was sent again: %v", again)
				}
				if again.Error() == err.Error() {
					t.Error("the errors for a used and a wrong code are equal")
				}
			})
		})
	}
	aws := &fakeAWS{t: t}
	e := newErrand(t, aws)
	e.Code = "24681"
	if _, err := e.call(t.Context(), keys, secret.String{}); !fault.Is(err, fault.Usage) || len(aws.codes) > 0 {
		t.Errorf("five digits: %v", err)
	}
	e.Code, e.Call = "246810", &session.Call{Operation: session.GetSessionToken}
	if _, err := e.call(t.Context(), keys, secret.String{}); !fault.Is(err, fault.Usage) || len(aws.codes) > 0 {
		t.Errorf("a code without a device: %v", err)
	}
}

// TestClaimBeforeCall: if the use of a code cannot be recorded, nothing is sent. The next attempt reads the file
// again.
func TestClaimBeforeCall(t *testing.T) {
	aws := &fakeAWS{t: t}
	e := newErrand(t, aws)
	e.ledger.Dir = filepath.Join(e.StateDir, "file", "below")
	if err := os.WriteFile(filepath.Join(e.StateDir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{"246810", ""} {
		e.Code = code
		_, err := e.call(t.Context(), keys, secret.New(testSeed))
		if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), "was not sent") || len(aws.codes) > 0 {
			t.Errorf("code %q: %v", code, err)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"op":"open","backend":"file","timeout_ms":1000,"source":"x","endpoint":{},"call":{"Operation":"GetSessionToken"}}`))
	f.Add([]byte(`{"op":"put","timeout_ms":-1}`))
	f.Add([]byte(`{}{}`))
	f.Add([]byte(`{"secret_access_key":"` + testSecret + `","x":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := decodeRequest(data)
		if err != nil {
			if len(err.Error()) > 150 || strings.Contains(err.Error(), testSecret) {
				t.Errorf("the error repeats the request: %v", err)
			}
			return
		}
		if q.TimeoutMS <= 0 || q.TimeoutMS > maxTimeout.Milliseconds() {
			t.Errorf("deadline %d", q.TimeoutMS)
		}
	})
}

func FuzzItem(f *testing.F) {
	good, err := encodeItem(
		item{Name: "security", AccessKeyID: testKeyID, Secret: secret.New(testSecret), Seed: secret.New(testSeed)},
	)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		it, err := decodeItem(data)
		if err != nil {
			if strings.Contains(err.Error(), testSecret) || len(err.Error()) > 200 {
				t.Errorf("the error repeats the item: %v", err)
			}
			return
		}
		if err := checkKeyPair(it.AccessKeyID, it.Secret); err != nil {
			t.Error(err)
		}
	})
}

func TestItemKey(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"a", "A", "a ", "../a", "a\x00", strings.Repeat("a", 1<<20)} {
		key := itemKey(name)
		if other, ok := seen[key]; ok {
			t.Errorf("%q and %q share %s", name, other, key)
		}
		seen[key] = name
		if len(key) > 50 || strings.ContainsAny(key, "/ \x00") {
			t.Errorf("%q gives %q", name, key)
		}
	}
	if got, want := itemKey("security"), fmt.Sprint("broker-source-", "6e3qaajujvqxnwdi2k6b3oyp4y"); len(got) != len(want) {
		t.Errorf("%s", got)
	}
}

// TestClaimThatCannotBeWritten: if the system refuses the record of a code, the hint is for the cause.
func TestClaimThatCannotBeWritten(t *testing.T) {
	e := &errand{ledger: mfa.Ledger{Dir: "/state"}}
	full := fmt.Errorf("record the use of the MFA code: %w", &fs.PathError{Op: "write", Path: "/state/f", Err: syscall.ENOSPC})
	for _, c := range []struct {
		err  error
		hint fault.Hint
	}{{full, "df -h /state"}, {errors.New("the ledger is damaged"), ""}} {
		if f := fault.Of(e.claimFault(c.err)); f.Kind != fault.Config || f.Hint != c.hint {
			t.Errorf("%v: kind %s, hint %q", c.err, f.Kind, f.Hint)
		}
	}
}
