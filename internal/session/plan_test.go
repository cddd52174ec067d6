package session

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
)

const (
	ownDevice   = "arn:aws:iam::111122223333:mfa/paul"
	otherDevice = "arn:aws:iam::111122223333:mfa/other"
)

// words describes a plan with one line per step: who signs it, the call, its duration, and the device of its code.
func words(p *Plan) string {
	var b strings.Builder
	for _, s := range p.Steps {
		by := "session"
		if s.LongTerm {
			by = "key"
		}
		fmt.Fprintf(&b, "%s: %s", by, s.Operation)
		if s.RoleARN != "" {
			fmt.Fprintf(&b, " %s as %s", s.RoleARN, s.SessionName)
		}
		fmt.Fprintf(&b, " for %v", s.Duration)
		switch {
		case s.NeedsPerson():
			fmt.Fprintf(&b, ", asks for %s", s.MFASerial)
		case s.MFASerial != "":
			fmt.Fprintf(&b, ", seed of %s", s.MFASerial)
		}
		if s.Endpoint.URL != "" {
			fmt.Fprintf(&b, " at %s", s.Endpoint.URL)
		}
		b.WriteString("\n")
	}
	for _, n := range p.Notes {
		b.WriteString("note: " + n + "\n")
	}
	return b.String()
}

var me = Who{User: "me", Host: "x"}

func TestPlan(t *testing.T) {
	role := func(name string, d time.Duration, serial string) profiles.Role {
		return profiles.Role{Profile: name, ARN: "role/" + name, Duration: d, MFASerial: serial}
	}
	const h = time.Hour
	const withKey = "note: the role is assumed with the key itself, without a session of s\n"
	tests := []struct {
		name   string
		seeded bool
		serial string // of the source
		roles  []profiles.Role
		url    string
		want   string
	}{
		{"source only", true, ownDevice, nil, "",
			"key: GetSessionToken for 12h0m0s, seed of " + ownDevice + "\n"},
		{"source without a device", false, "", nil, "",
			"key: GetSessionToken for 12h0m0s\nnote: " + noDevice + "\n"},
		{"a role of a source without a device", false, "", []profiles.Role{role("a", 0, "")}, "",
			"key: AssumeRole role/a as me@x for 1h0m0s\n" + withKey},
		{"a long role of a source without a device", false, "", []profiles.Role{role("a", 2*h, "")}, "",
			"key: AssumeRole role/a as me@x for 2h0m0s\n" + withKey},
		{"a role that names the device", false, "", []profiles.Role{role("a", 0, otherDevice)}, "",
			"key: GetSessionToken for 12h0m0s, asks for " + otherDevice + "\n" +
				"session: AssumeRole role/a as me@x for 1h0m0s\n"},
		{"two roles of a source without a device", false, "", []profiles.Role{role("a", 2*h, ""), role("b", 0, "")}, "",
			"key: AssumeRole role/a as me@x for 1h0m0s\n" +
				"session: AssumeRole role/b as me@x for 1h0m0s\n" +
				"note: a asks for 2h, but AWS gives a chained role one hour at most\n" + withKey},
		{"source whose code is typed", false, ownDevice, nil, "",
			"key: GetSessionToken for 12h0m0s, asks for " + ownDevice + "\n"},
		{"one role", true, ownDevice, []profiles.Role{role("a", 0, "")}, "",
			"key: GetSessionToken for 12h0m0s, seed of " + ownDevice + "\n" +
				"session: AssumeRole role/a as me@x for 1h0m0s\n"},
		{"one role that names the source's own device", true, ownDevice, []profiles.Role{role("a", h/4, ownDevice)}, "",
			"key: GetSessionToken for 12h0m0s, seed of " + ownDevice + "\n" +
				"session: AssumeRole role/a as me@x for 15m0s\n"},
		{"the seed is only for the source's own device", true, ownDevice, []profiles.Role{role("a", 0, otherDevice)}, "",
			"key: GetSessionToken for 12h0m0s, asks for " + otherDevice + "\n" +
				"session: AssumeRole role/a as me@x for 1h0m0s\n"},
		{"an hour is not over an hour", true, ownDevice, []profiles.Role{role("a", h, "")}, "",
			"key: GetSessionToken for 12h0m0s, seed of " + ownDevice + "\n" +
				"session: AssumeRole role/a as me@x for 1h0m0s\n"},
		{"over an hour is direct", true, ownDevice, []profiles.Role{role("a", h+time.Second, "")}, "",
			"key: AssumeRole role/a as me@x for 1h0m1s, seed of " + ownDevice + "\n" +
				"note: AWS gives more than one hour only if a role is assumed with the long-lived key, so this role needs its own code\n"},
		{"direct with another device has no seed", true, ownDevice, []profiles.Role{role("a", 12*h, otherDevice)}, "",
			"key: AssumeRole role/a as me@x for 12h0m0s, asks for " + otherDevice + "\n" +
				"note: AWS gives more than one hour only if a role is assumed with the long-lived key, so this role needs its own code\n"},
		{"over an hour through a role is limited", true, ownDevice, []profiles.Role{role("a", 0, ""), role("b", 2*h, "")}, "",
			"key: GetSessionToken for 12h0m0s, seed of " + ownDevice + "\n" +
				"session: AssumeRole role/a as me@x for 1h0m0s\n" +
				"session: AssumeRole role/b as me@x for 1h0m0s\n" +
				"note: b asks for 2h, but AWS gives a chained role one hour at most\n"},
		{"three roles, each limited to an hour, the device in the middle is ignored", true, ownDevice,
			[]profiles.Role{role("a", 2*h, ""), role("b", 0, otherDevice), role("c", h/2, "")}, "",
			"key: GetSessionToken for 12h0m0s, seed of " + ownDevice + "\n" +
				"session: AssumeRole role/a as me@x for 1h0m0s\n" +
				"session: AssumeRole role/b as me@x for 1h0m0s\n" +
				"session: AssumeRole role/c as me@x for 30m0s\n" +
				"note: a asks for 2h, but AWS gives a chained role one hour at most\n" +
				"note: b sets the device " + otherDevice + ", but AWS accepts no code when a role is assumed from a role; the session of " + ownDevice + " is used\n"},
		{"the simulator's endpoint applies to all steps", true, ownDevice, []profiles.Role{role("a", 0, "")}, "http://127.0.0.1:1",
			"key: GetSessionToken for 12h0m0s, seed of " + ownDevice + " at http://127.0.0.1:1\n" +
				"session: AssumeRole role/a as me@x for 1h0m0s at http://127.0.0.1:1\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := mustPlan(t, profiles.Chain{
				Profile: "p",
				Source:  profiles.Source{Name: "s", AccessKeyID: "AKIA", MFASerial: tt.serial, HasSeed: tt.seeded},
				Roles:   tt.roles,
			}, Defaults{SessionDuration: 12 * h, Wish: Wish{Who: me}, STSEndpoint: tt.url})
			if got := words(p); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

// mustPlan returns the plan of a chain, and fails the test if there is none.
func mustPlan(t *testing.T, chain profiles.Chain, d Defaults) *Plan {
	t.Helper()
	p, err := NewPlan(chain, d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestNoSession: a source with session = none works for roles only; each role takes a code if it has a device.
func TestNoSession(t *testing.T) {
	source := profiles.Source{Name: "s", AccessKeyID: "AKIA", NoSession: true}
	for _, d := range []Defaults{{}, {Wish: Wish{AdHoc: &AdHoc{Federate: true}}}} {
		if _, err := NewPlan(profiles.Chain{Profile: "s", Source: source}, d); !fault.Is(err, fault.Config) ||
			!strings.Contains(err.Error(), "session = none") {
			t.Errorf("a session of the source itself: %v", err)
		}
	}
	source.MFASerial, source.HasSeed = ownDevice, true
	roles := []profiles.Role{{Profile: "a", ARN: "role/a"}, {Profile: "b", ARN: "role/b"}}
	chain := profiles.Chain{Profile: "b", Source: source, Roles: roles}
	got := words(mustPlan(t, chain, Defaults{Wish: Wish{Who: me}}))
	if want := "key: AssumeRole role/a as me@x for 1h0m0s, seed of " + ownDevice +
		"\nsession: AssumeRole role/b as me@x for 1h0m0s\n"; !strings.HasPrefix(got, want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestPlanKeepsTheProfilesSessionName(t *testing.T) {
	chain := profiles.Chain{Source: profiles.Source{MFASerial: ownDevice}, Roles: []profiles.Role{{SessionName: "mine"}}}
	p := mustPlan(t, chain, Defaults{Wish: Wish{Who: me}})
	if got := p.Steps[1].SessionName; got != "mine" {
		t.Errorf("session name %q, want the profile's own", got)
	}
}

// leaves calls f with the name of every settable field below v.
func leaves(name string, v reflect.Value, f func(string, reflect.Value)) {
	if v.Kind() != reflect.Struct {
		f(name, v)
		return
	}
	for i := range v.NumField() {
		leaves(name+"."+v.Type().Field(i).Name, v.Field(i), f)
	}
}

// change sets a field to a different value.
func change(t *testing.T, name string, v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *string:
		*x += "x"
	case *Operation:
		*x += "x"
	case *bool:
		*x = !*x
	case *time.Duration:
		*x += time.Second
	case *[]string:
		*x = append(slices.Clone(*x), "k")
	case *[]Tag:
		*x = append(slices.Clone(*x), Tag{Key: "k", Value: "v"})
	default:
		t.Fatalf("%s: teach this test to change a %s", name, v.Type())
	}
}

// TestEveryFieldOfACallChangesTheKey: every field of a call is in the key, including fields that are added later.
// Seen to fail with any one line removed from keysOf.
func TestEveryFieldOfACallChangesTheKey(t *testing.T) {
	plan := func() *Plan {
		return mustPlan(t, profiles.Chain{
			Source: profiles.Source{Name: "s", AccessKeyID: "AKIA", MFASerial: ownDevice},
			Roles:  []profiles.Role{{Profile: "a", ARN: "role/a"}, {Profile: "b", ARN: "role/b"}},
		}, Defaults{SessionDuration: time.Hour, Wish: Wish{Who: me}})
	}
	base := keysOf(plan())
	fields := 0
	for step := range base {
		probe := plan()
		leaves("Call", reflect.ValueOf(&probe.Steps[step].Call).Elem(), func(name string, v reflect.Value) {
			fields++
			old := reflect.New(v.Type()).Elem()
			old.Set(v)
			change(t, name, v)
			got := keysOf(probe)
			v.Set(old)
			for i := range base {
				// A step's key covers the steps before it, not the steps after it.
				if changed := got[i] != base[i]; changed != (i >= step) {
					t.Errorf("step %d, %s: key %d changed: %v", step, name, i, changed)
				}
			}
		})
	}
	if fields != 3*20 {
		t.Errorf("%d fields checked; Call has changed: update keysOf, then this number", fields)
	}
	other := plan()
	other.Source.AccessKeyID = "AKIB"
	for i, k := range keysOf(other) {
		if k == base[i] {
			t.Errorf("key %d does not depend on the access key of the source", i)
		}
	}
}

// TestNamesDoNotChangeTheKey: parameters that STS is not asked for are not in the key, so two names do not make
// two sessions.
func TestNamesDoNotChangeTheKey(t *testing.T) {
	chain := profiles.Chain{
		Profile: "one", Region: "eu-west-1",
		Source: profiles.Source{Name: "s", AccessKeyID: "AKIA", MFASerial: ownDevice},
		Roles:  []profiles.Role{{Profile: "one", ARN: "role/a"}},
	}
	d := Defaults{SessionDuration: time.Hour, Wish: Wish{Who: me}}
	base := mustPlan(t, chain, d)
	chain.Profile, chain.Region, chain.Source.Name = "two", "us-east-1", "t"
	chain.Source.Origin.Line, chain.Source.HasSeed = 7, true
	chain.Roles = []profiles.Role{{Profile: "two", ARN: "role/a", Origin: profiles.Origin{File: "f", Line: 9}}}
	other := mustPlan(t, chain, d)
	for i := range base.Steps {
		if base.Key(i) != other.Key(i) {
			t.Errorf("key %d depends on something that STS is not asked", i)
		}
	}
}

// TestKeyFieldsDoNotRunTogether: two different lists of values never look the same. Seen to fail when field()
// wrote the text alone.
func TestKeyFieldsDoNotRunTogether(t *testing.T) {
	key := func(name, external string, tags ...Tag) Key {
		return keysOf(&Plan{Steps: []Step{{Call: Call{SessionName: name, ExternalID: external, Tags: tags}}}})[0]
	}
	seen := map[Key]string{}
	for what, k := range map[string]Key{
		"ab,c":     key("ab", "c"),
		"a,bc":     key("a", "bc"),
		"abc,":     key("abc", ""),
		",abc":     key("", "abc"),
		"tags k=v": key("", "", Tag{Key: "k", Value: "v"}),
		"tags kv=": key("", "", Tag{Key: "kv", Value: ""}),
		"two tags": key("", "", Tag{Key: "k", Value: ""}, Tag{Key: "v", Value: ""}),
	} {
		if seen[k] != "" {
			t.Errorf("%q and %q have one key", what, seen[k])
		}
		seen[k] = what
	}
}
