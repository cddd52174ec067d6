//go:build linux

package daemon

import (
	"fmt"
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/wire"
)

// TestConsole: a sign-in returns a token, without the session that it is made from, and has a line in the audit
// log.
func TestConsole(t *testing.T) {
	h := start(t)
	for _, tt := range []struct {
		req      wire.Request
		endpoint string
	}{
		{wire.Request{Profile: "dev"}, "https://signin/aws?direct=false"},
		{wire.Request{Profile: "security", Role: &wire.Role{ARN: "arn:aws-cn:iam::444455556666:role/x"}}, "https://signin/aws-cn?direct=false"},
	} {
		tt.req.Verb = wire.Console
		resp := h.ask(t, tt.req)
		if resp.Err != nil || resp.Credential != nil || resp.SignIn == nil || resp.SignIn.Token.Reveal() != signInToken ||
			resp.SignIn.Endpoint != tt.endpoint || resp.SignIn.Profile != tt.req.Profile || resp.SignIn.Expiration.IsZero() {
			t.Errorf("%+v: %+v, %+v", tt.req, resp, resp.SignIn)
		}
		if e := h.trail.all(); e[len(e)-1].Event != "given" || e[len(e)-1].Profile != tt.req.Profile || e[len(e)-1].KeyID == "" {
			t.Errorf("the audit log ends with %+v", e[len(e)-1])
		}
	}
	if resp := h.ask(t, wire.Request{Verb: wire.Console, Profile: "none such"}); !refusedAs(resp, fault.NotFound) {
		t.Errorf("no such profile: %+v", resp)
	}
}

// TestAccounts: a list of accounts that needs several lines arrives complete, in order, and without a session.
func TestAccounts(t *testing.T) {
	h := start(t)
	l := connect(t, h.path)
	l.send(t, wire.Request{Verb: wire.Accounts, Profile: "dev"})
	n, lines := 0, 1
	for ; ; lines++ {
		resp := l.read(t)
		if resp.Err != nil || resp.Credential != nil {
			t.Fatalf("%+v", resp)
		}
		for _, a := range resp.Accounts {
			if a.ID != fmt.Sprintf("%012d", n) || len(a.Name) != 250 || a.Management != (n == 7) {
				t.Errorf("account %d is %+v", n, a)
			}
			n++
		}
		if !resp.More {
			break
		}
	}
	if n != organization || lines < 2 {
		t.Errorf("%d accounts in %d lines, want %d", n, lines, organization)
	}
	if e := h.trail.all(); e[len(e)-1].Event != "used" {
		t.Errorf("the audit log ends with %+v", e[len(e)-1])
	}
	l.send(t, wire.Request{Verb: wire.Ping}) // the connection still works
	if resp := l.read(t); resp.Err != nil {
		t.Error(resp.Err)
	}
}

// TestAssigned: a list of assignments that needs several lines arrives complete, in order, and without the access
// token. A profile of another kind has no portal.
func TestAssigned(t *testing.T) {
	h := start(t)
	l := connect(t, h.path)
	l.send(t, wire.Request{Verb: wire.Assigned, Profile: "my-sso"})
	n, lines := 0, 1
	for ; ; lines++ {
		resp := l.read(t)
		line, err := wire.EncodeResponse(&resp)
		if err != nil || resp.Err != nil || resp.Credential != nil || strings.Contains(string(line), accessToken) {
			t.Fatalf("%+v, %v", resp, err)
		}
		for _, a := range resp.Assigned {
			if a.AccountID != fmt.Sprintf("%012d", n) || len(a.Account) != 250 || len(a.Role) != 64 {
				t.Errorf("assignment %d is %+v", n, a)
			}
			n++
		}
		if !resp.More {
			break
		}
	}
	if n != organization || lines < 2 {
		t.Errorf("%d assignments in %d lines, want %d", n, lines, organization)
	}
	if e := h.trail.all(); e[len(e)-1].Event != "used" || e[len(e)-1].Source != "my-sso" || e[len(e)-1].KeyID != "" {
		t.Errorf("the audit log ends with %+v", e[len(e)-1])
	}
	for profile, want := range map[string]fault.Kind{"dev": fault.Usage, "nobody": fault.NotFound} {
		resp := h.ask(t, wire.Request{Verb: wire.Assigned, Profile: profile})
		if !refusedAs(resp, want) || resp.Assigned != nil {
			t.Errorf("%s: %+v", profile, resp)
		}
	}
}
