//go:build unix

package exchange

import (
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

func TestCallSaysEverythingThatTheCallSays(t *testing.T) {
	f := serve(t, good)
	c := client(f)
	call := session.Call{
		Operation:   session.AssumeRole,
		Duration:    90 * time.Minute,
		MFASerial:   aSerial,
		RoleARN:     aRole,
		SessionName: "paul@host",
		ExternalID:  "ex/id",
		Policy:      `{"Version":"2012-10-17"}`,
		Tags:        []session.Tag{{Key: "team", Value: "a b"}, {Key: "empty", Value: ""}},
	}
	began := time.Now().Truncate(time.Second) // STS reports whole seconds
	got, err := c.Call(background(t), userKeys(), call, secret.New(aCode))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"Action": "AssumeRole", "Version": "2011-06-15", "DurationSeconds": "5400", "SerialNumber": aSerial,
		"TokenCode": aCode, "RoleArn": aRole, "RoleSessionName": "paul@host", "ExternalId": "ex/id",
		"Policy": `{"Version":"2012-10-17"}`, "Tags.member.1.Key": "team", "Tags.member.1.Value": "a b",
		"Tags.member.2.Key": "empty", "Tags.member.2.Value": "",
	}
	said := map[string]string{}
	for k := range f.forms[0] {
		said[k] = f.forms[0].Get(k)
	}
	if !reflect.DeepEqual(said, want) {
		t.Errorf("the request has\n%v, want\n%v", said, want)
	}
	if got.AccessKeyID != "ASIA2BCDEFGHIJKLMNOP" || got.SecretAccessKey.Reveal() != answerSecret || got.SessionToken.Reveal() != answerToken {
		t.Errorf("the credentials are not those that STS returned")
	}
	if got.Subject != "arn:aws:sts::444455556666:assumed-role/admin/paul" {
		t.Errorf("subject %q", got.Subject)
	}
	if d := time.Until(got.Expires); d < 59*time.Minute || d > time.Hour {
		t.Errorf("expires in %s", d)
	}
	if got.Issued.Before(began) || got.Issued.After(time.Now()) {
		t.Errorf("issued at %s, asked after %s", got.Issued, began)
	}
	if auth := f.heads[0].Get("Authorization"); !strings.Contains(auth, "Credential=AKIAQXZ7EXAMPLEWNYVB/") {
		t.Errorf("signed with other keys: %s", auth)
	}

	got, err = c.Call(background(t), userKeys(), session.Call{Operation: session.GetSessionToken}, secret.String{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Subject != "" || len(f.forms[1]) != 2 {
		t.Errorf("a plain GetSessionToken sent %v, subject %q", f.forms[1], got.Subject)
	}
}

func TestAssumeSignsWithTheSession(t *testing.T) {
	f := serve(t, good)
	c := client(f)
	if _, err := c.Assume(background(t), aSession(), assumeRole()); err != nil {
		t.Fatal(err)
	}
	if f.heads[0].Get("X-Amz-Security-Token") != sessionText {
		t.Error("the session token was not sent")
	}

	noSession := aSession()
	noSession.SessionToken = secret.String{}
	_, err := c.Assume(background(t), noSession, assumeRole())
	wantFault(t, err, fault.Internal)
	_, err = c.Assume(background(t), aSession(), openSession())
	wantFault(t, err, fault.Internal)
	withDevice := assumeRole()
	withDevice.MFASerial = aSerial
	_, err = c.Assume(background(t), aSession(), withDevice)
	wantFault(t, err, fault.LoginNeeded)
	if f.count() != 1 {
		t.Errorf("%d requests, want 1", f.count())
	}
}

func TestIdentity(t *testing.T) {
	body := callerIdentity
	f := serve(t, func(w http.ResponseWriter, r *http.Request) { say(200, body)(w, r) })
	c := client(f)
	got, err := c.Identity(background(t), userKeys(), profiles.Endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	if got != (Identity{Account: "111122223333", ARN: "arn:aws:iam::111122223333:user/paul", UserID: "AIDAEXAMPLE"}) {
		t.Errorf("identity %+v", got)
	}
	for _, change := range [][2]string{
		{"<Account>111122223333</Account>", ""},
		{"<Account>111122223333</Account>", "<Account>1111</Account>"},
		{"<Account>111122223333</Account>", "<Account>999999999999</Account>"},
		{"<UserId>AIDAEXAMPLE</UserId>", ""},
		{"<UserId>AIDAEXAMPLE</UserId>", "<UserId>\x1b[2J</UserId>"},
		{"<Arn>arn:aws:iam::111122223333:user/paul</Arn>", ""},
		{"<Arn>arn:aws:iam::111122223333:user/paul</Arn>", "<Arn>paul</Arn>"},
		{callerIdentity, ""},
		{callerIdentity, "<html>hello</html>"},
	} {
		body = strings.Replace(callerIdentity, change[0], change[1], 1)
		_, err := c.Identity(background(t), userKeys(), profiles.Endpoint{})
		wantFault(t, err, fault.BadAnswer, "identify key …NYVB: ")
	}
}

func TestNothingIsSentThatCannotBeRight(t *testing.T) {
	f := serve(t, good)
	c := client(f)
	role := func(change func(*session.Call)) session.Call {
		call := assumeRole()
		change(&call)
		return call
	}
	for _, tt := range []struct {
		name string
		call session.Call
		code string
		kind fault.Kind
	}{
		{"a device without a code", openSession(), "", fault.LoginNeeded},
		{"a code without a device", assumeRole(), aCode, fault.Internal},
		{"five digits", openSession(), "91827", fault.CodeRejected},
		{"letters", openSession(), "91827x", fault.CodeRejected},
		{"other digits", openSession(), "９１", fault.CodeRejected},
		{"not an ARN", role(func(c *session.Call) { c.RoleARN = "admin" }), "", fault.Config},
		{"a user's ARN", role(func(c *session.Call) { c.RoleARN = "arn:aws:iam::444455556666:user/paul" }), "", fault.Config},
		{"a role without a name", role(func(c *session.Call) { c.RoleARN = "arn:aws:iam::444455556666:role/" }), "", fault.Config},
		{"a short account", role(func(c *session.Call) { c.RoleARN = "arn:aws:iam::4444:role/admin" }), "", fault.Config},
		{"an ARN with a newline", role(func(c *session.Call) { c.RoleARN += "\n" }), "", fault.Config},
		{"no session name", role(func(c *session.Call) { c.SessionName = "" }), "", fault.Internal},
		{"no operation", session.Call{}, "", fault.Internal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.Call(background(t), userKeys(), tt.call, secret.New(tt.code))
			wantFault(t, err, tt.kind)
			if MaybeSeen(err) {
				t.Error("MaybeSeen is true, but nothing was sent")
			}
		})
	}
	if f.count() != 0 {
		t.Errorf("%d requests went out", f.count())
	}
}

func TestAttempts(t *testing.T) {
	t.Parallel()
	throttled := say(400, refusal("Throttling", "Rate exceeded"))
	broken := say(503, refusal("ServiceUnavailable", "try later"))
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for _, tt := range []struct {
		name    string
		first   func(http.ResponseWriter, *http.Request)
		times   int // number of times for first, then good
		code    string
		want    int // requests
		kind    fault.Kind
		perhaps bool // MaybeSeen
	}{
		{"5xx then well", broken, 1, "", 2, "", false},
		{"5xx twice then well", broken, 2, "", 3, "", false},
		{"5xx for ever", broken, 99, "", 3, fault.Network, true},
		{"a web page of 502", say(502, "<html>Bad Gateway</html>"), 2, "", 3, "", false},
		{"throttled then well", throttled, 1, "", 2, "", false},
		{"throttled for ever", throttled, 99, "", 3, fault.Throttled, true},
		{"429 of a proxy", say(429, "<html></html>"), 99, "", 3, fault.Throttled, true},
		{"connection cut then well", cut, 1, "", 2, "", false},
		{"connection cut for ever", cut, 99, "", 3, fault.Network, true},
		{"denied", say(403, refusal("AccessDenied", "no")), 1, "", 1, fault.Denied, true},

		{"code and 5xx", broken, 1, aCode, 1, fault.Network, true},
		{"code and throttled", throttled, 1, aCode, 1, fault.Throttled, true},
		{"code and connection cut", cut, 1, aCode, 1, fault.Network, true},
		{"code and wrong", say(403, refusal("AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code. ")), 1, aCode, 1, fault.CodeRejected, true},
		{"code and well", good, 1, aCode, 1, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var n int
			var mu sync.Mutex
			f := serve(t, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				n++
				first := n <= tt.times
				mu.Unlock()
				if first {
					tt.first(w, r)
				} else {
					good(w, r)
				}
			})
			call := assumeRole()
			if tt.code != "" {
				call = openSession()
			}
			_, err := client(f).Call(background(t), userKeys(), call, secret.New(tt.code))
			if tt.kind == "" && err != nil {
				t.Fatal(err)
			}
			if tt.kind != "" {
				wantFault(t, err, tt.kind)
			}
			if f.count() != tt.want {
				t.Errorf("%d requests, want %d", f.count(), tt.want)
			}
			if MaybeSeen(err) != tt.perhaps {
				t.Errorf("MaybeSeen is %t", MaybeSeen(err))
			}
			for _, h := range f.heads {
				if h.Get("Amz-Sdk-Request") != "attempt=1; max=1" {
					t.Errorf("the SDK counts attempts too: %s", h.Get("Amz-Sdk-Request"))
				}
			}
		})
	}
}

func TestConcurrentUse(t *testing.T) {
	f := serve(t, good)
	c := client(f)
	ctx := background(t)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := c.Assume(ctx, aSession(), assumeRole()); err != nil {
				t.Error(err)
			}
			c.ServerOffset()
		})
	}
	wg.Wait()
}
