//go:build linux

package daemon

import (
	"testing"

	"broker/internal/fault"
	"broker/internal/session"
	"broker/internal/wire"
)

// TestCheck: what AWS says about a role leaves the daemon, and its session does not.
func TestCheck(t *testing.T) {
	h := start(t)
	h.aws.set(func(a *aws) { a.fail = denies })
	ask := func(profile string) wire.Response {
		resp := h.ask(t, wire.Request{Verb: wire.Check, Profile: profile})
		if resp.Credential != nil || len(resp.Warnings) > 0 {
			t.Errorf("%s: %+v", profile, resp)
		}
		return resp
	}
	// Here the vault denies nothing, so that the role can be assumed without a code.
	if got := ask("dev").Checked; got == nil || *got != (wire.Checked{MaxSeconds: 3600, Tags: "accepted"}) {
		t.Errorf("dev: %+v", got)
	}
	if got := ask("denied").Checked; got == nil || got.WithMFA == nil || got.WithoutMFA != nil || got.MaxSeconds != 0 {
		t.Errorf("denied: %+v", got)
	}
	for _, s := range h.ask(t, wire.Request{Verb: wire.State}).Status.Sessions {
		if s.Role != "" {
			t.Errorf("the session of %s is held", s.Role)
		}
	}
	for _, e := range h.trail.all() {
		if e.Event == "given" || e.Event == "refused" {
			t.Errorf("the audit log has %+v", e)
		}
	}
	if e := h.trail.all(); e[len(e)-1].Event != "checked" || e[len(e)-1].Role != "arn:aws:iam::444455556666:role/denied" {
		t.Errorf("the audit log ends with %+v", e[len(e)-1])
	}

	h.aws.set(func(a *aws) {
		a.fail = func(session.Call) error { return fault.New(fault.Throttled, "slow down") }
	})
	if resp := ask("dev"); !refusedAs(resp, fault.Throttled) {
		t.Errorf("throttled: %+v", resp)
	}
	if resp := ask("security"); !refusedAs(resp, fault.Usage) {
		t.Errorf("a source: %+v", resp)
	}
	if resp := h.ask(t, wire.Request{Verb: wire.Lock}); resp.Err != nil {
		t.Fatal(resp.Err)
	}
	if resp := ask("dev"); !refusedAs(resp, fault.Locked) {
		t.Errorf("locked: %+v", resp)
	}
}

// TestWholeOrganization: accounts with the longest names and paths fit into lines.
func TestWholeOrganization(t *testing.T) {
	h := start(t)
	l := connect(t, h.path)
	l.send(t, wire.Request{Verb: wire.Accounts, Profile: "dev", AllAccounts: true})
	n := 0
	for more := true; more; {
		resp := l.read(t)
		if resp.Err != nil {
			t.Fatal(resp.Err)
		}
		for _, a := range resp.Accounts {
			if len(a.Path) != 850 {
				t.Errorf("%d bytes of a path", len(a.Path))
			}
			n++
		}
		more = resp.More
	}
	if n != organization {
		t.Errorf("%d accounts, want %d", n, organization)
	}
}
