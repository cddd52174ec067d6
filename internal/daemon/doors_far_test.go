//go:build linux

package daemon

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/wire"
)

// TestDoorChoosesNoDuration: a far side gets no session that lasts longer than the profile says, and no session of its
// own for each duration. Seen to fail with 12 hours as the only limit.
func TestDoorChoosesNoDuration(t *testing.T) {
	h := build(t, t.TempDir(), registry+"\n[profile long]\nrole_arn = arn:aws:iam::444455556666:role/long\n"+
		"source_profile = security\nduration_seconds = 7200\n").run(t)
	d := h.door(t, "work", func(r *wire.Request) { r.Also = []string{"long"} })
	opened, assumed := h.aws.calls()
	for i := range 10 {
		extra := time.Duration(i) * time.Second
		for profile, lasts := range map[string]time.Duration{"dev": time.Hour, "long": 2 * time.Hour} {
			r := over(t, d, wire.Request{Verb: wire.Get, Profile: profile, MinTTL: lasts + time.Minute + extra})
			if kindOf(r) != fault.Usage {
				t.Errorf("%s, longer by %v: %+v", profile, extra, r.Err)
			}
		}
	}
	if r := over(t, d, wire.Request{Verb: wire.Get, Profile: "long", MinTTL: 90 * time.Minute}); r.Err != nil {
		t.Error(r.Err)
	}
	if o, a := h.aws.calls(); o != opened || a != assumed {
		t.Errorf("%d and %d calls", o-opened, a-assumed)
	}
}

// TestDoorThatLeavesItsPrompts: a far side that leaves its prompts cannot show a new one each time. Seen to fail
// without doorLull.
func TestDoorThatLeavesItsPrompts(t *testing.T) {
	t.Parallel()
	for _, profile := range []string{"asks", "guarded"} {
		h := build(t, t.TempDir(), doorRegistry)
		var shown atomic.Int64
		h.Window = func(ctx context.Context, _ mfa.Prompt) (secret.String, error) {
			shown.Add(1)
			<-ctx.Done()
			return secret.String{}, ctx.Err()
		}
		h.Confirm = func(ctx context.Context, _ mfa.Confirmation) error {
			shown.Add(1)
			<-ctx.Done()
			return ctx.Err()
		}
		h.run(t)
		opener := connect(t, h.path)
		opener.send(t, wire.Request{Verb: wire.OpenDoor, Profile: profile, CanAsk: true, Desktop: "DISPLAY=:5",
			For: time.Hour, Door: &wire.DoorTerms{Name: "work"}})
		opener.answer(t, opener.read(t).Prompt.ID, map[string]string{"asks": code, "guarded": "y"}[profile])
		d := opener.read(t).Door
		h.Broker.Lock() // forgets the sessions
		h.Broker.Unlock()
		before := shown.Load() // opening may have shown a window too
		began := time.Now()
		for range 5 {
			r := over(t, d, wire.Request{Verb: wire.Get, Profile: profile, Timeout: 200 * time.Millisecond})
			if r.Err == nil {
				t.Errorf("%s: handed out", profile)
			}
		}
		if n := shown.Load() - before; n != 1 && time.Since(began) < doorLull {
			t.Errorf("%s: %d prompts", profile, n)
		}
	}
}

// TestDoorLeavesPeopleAloneAtOnce: a no is also for the requests of a door that wait for their prompts, whatever
// profile they are for.
func TestDoorLeavesPeopleAloneAtOnce(t *testing.T) {
	t.Parallel()
	h := build(t, t.TempDir(), doorRegistry+"[profile guarded2]\nrole_arn = arn:aws:iam::444455556666:role/two\n"+
		"source_profile = security\nconfirm = always\n")
	fetched := make(chan string, 10)
	h.aws.fail = func(c session.Call) error {
		fetched <- c.RoleARN
		return nil
	}
	shown, answer := make(chan []string, 10), make(chan error, 10)
	h.Confirm = func(_ context.Context, q mfa.Confirmation) error {
		shown <- q.Lines
		return <-answer
	}
	h.run(t)
	answer <- nil
	answer <- nil
	d := h.door(t, "work", func(r *wire.Request) { r.Profile, r.Also = "guarded", []string{"guarded2"} })
	h.Broker.Lock() // forgets the sessions
	h.Broker.Unlock()
	for len(shown) > 0 || len(fetched) > 0 {
		select {
		case <-shown:
		case <-fetched:
		}
	}
	first, second := connect(t, at(d)), connect(t, at(d))
	first.send(t, get("guarded"))
	<-shown
	for len(fetched) > 0 {
		<-fetched
	}
	second.send(t, get("guarded2"))
	for arn := ""; !strings.HasSuffix(arn, "role/two"); { // it will be confirmed next
		arn = <-fetched
	}
	answer <- mfa.ErrCancelled
	answer <- nil // for another prompt
	for _, far := range []line{first, second} {
		if r := far.read(t); kindOf(r) != fault.NotConfirmed {
			t.Errorf("%+v", r)
		}
	}
	if len(shown) > 0 {
		t.Errorf("asked after a no: %q", <-shown)
	}
}

// TestAttendantIsNotForAgents: what an agent asks for is not confirmed at the attendant of its door, which is at the
// terminal of the agent. Seen to fail with every prompt at the attendant.
func TestAttendantIsNotForAgents(t *testing.T) {
	h := build(t, t.TempDir(), registry+"\n[profile shy]\nrole_arn = arn:aws:iam::444455556666:role/shy\n"+
		"source_profile = security\nagents = ask\n")
	var windows atomic.Int64
	h.Confirm = func(context.Context, mfa.Confirmation) error {
		windows.Add(1)
		return nil
	}
	h.run(t)
	d := h.door(t, "work", func(r *wire.Request) { r.Profile = "shy" })
	person := h.attends(t, d)
	r := over(t, d, wire.Request{Verb: wire.Get, Profile: "shy", Agent: "claude"})
	if r.Credential == nil || windows.Load() != 1 {
		t.Errorf("%+v, %d windows", r.Err, windows.Load())
	}
	_ = person.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if line, err := wire.ReadLine(person.r); err == nil {
		t.Errorf("the attendant got %s", line)
	}
}

// TestAllowedInTheTerminalOfSSH: what a person allows or elevates in the terminal in which ssh carries a door is not
// for the far host, and what holds everywhere is. Seen to fail without Far.
func TestAllowedInTheTerminalOfSSH(t *testing.T) {
	h := build(t, t.TempDir(), registry+"\n[profile guarded]\nrole_arn = arn:aws:iam::444455556666:role/guarded\n"+
		"source_profile = security\nconfirm = first\n"+"\n[profile reader]\n"+
		"role_arn = arn:aws:iam::444455556666:role/reader\nsource_profile = security\nread_only = true\n")
	var policy atomic.Bool
	h.aws.fail = func(c session.Call) error {
		policy.Store(c.PolicyARN != "")
		return nil
	}
	h.run(t)
	allow := func(profile string, elevate, everywhere bool) {
		t.Helper()
		if r := h.ask(t, wire.Request{Verb: wire.Allow, Profile: profile, For: time.Hour, Reason: "r", Elevate: elevate,
			Everywhere: everywhere}); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	opener := connect(t, h.path)
	opener.send(t, wire.Request{Verb: wire.OpenDoor, Profile: "guarded", Also: []string{"reader"}, CanAsk: true,
		For: time.Hour, Door: &wire.DoorTerms{Name: "work"}})
	opener.answer(t, opener.read(t).Prompt.ID, "y")
	d := opener.read(t).Door
	if d == nil {
		t.Fatal("not opened")
	}
	// This process carries the door, as ssh does.
	allow("guarded", false, false)
	allow("reader", true, false)
	if r := h.get(t, "guarded"); r.Err != nil {
		t.Fatalf("not allowed here, so the test is void: %v", r.Err)
	}
	if r := over(t, d, get("guarded")); kindOf(r) != fault.NotConfirmed {
		t.Errorf("allowed in the terminal: %+v", r.Err)
	}
	h.Broker.Lock()
	h.Broker.Unlock()
	if r := over(t, d, get("reader")); r.Err != nil || !policy.Load() {
		t.Errorf("elevated in the terminal: %+v, read-only %v", r.Err, policy.Load())
	}
	allow("guarded", false, true)
	allow("reader", true, true)
	if r := over(t, d, get("guarded")); r.Err != nil {
		t.Errorf("allowed everywhere: %v", r.Err)
	}
	h.Broker.Lock()
	h.Broker.Unlock()
	if r := over(t, d, get("reader")); r.Err != nil || policy.Load() {
		t.Errorf("elevated everywhere: %+v, read-only %v", r.Err, policy.Load())
	}
}
