package session

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
)

// limited is a registry with a role of each form.
const limited = registry + `
[profile lasting]
role_arn = arn:aws:iam::444455556666:role/long
source_profile = security
duration_seconds = 14400

[profile short]
role_arn = arn:aws:iam::444455556666:role/short
source_profile = security
duration_seconds = 900

[profile named]
role_arn = arn:aws:iam::444455556666:role/named
source_profile = security
role_session_name = {user}

[profile told]
role_arn = arn:aws:iam::444455556666:role/told
source_profile = security
role_session_name = {program}.{user}
session_tags = by={program}

[profile optional]
role_arn = arn:aws:iam::444455556666:role/optional
source_profile = security
session_tags = team=web
optional_tags = true

[profile optional-own]
role_arn = arn:aws:iam::444455556666:role/optional
source_profile = security
session_tags = Program=mine
optional_tags = true

[profile over-transitive]
role_arn = arn:aws:iam::777788889999:role/deep
source_profile = transitive
optional_tags = true

[profile transitive]
role_arn = arn:aws:iam::444455556666:role/transitive
source_profile = security
session_tags = program=first
transitive_tags = program

[profile reader]
role_arn = arn:aws:iam::444455556666:role/reader
source_profile = security
read_only = true

[profile by-agents]
role_arn = arn:aws:iam::444455556666:role/agents
source_profile = security
agents = read-only

[profile no-agents]
role_arn = arn:aws:iam::444455556666:role/agents
source_profile = security
agents = deny

[profile asking]
role_arn = arn:aws:iam::444455556666:role/agents
source_profile = security
agents = ask

[profile over-agents]
role_arn = arn:aws:iam::777788889999:role/deep
source_profile = by-agents
agents = ask
`

const readOnlyARN = "arn:aws:iam::aws:policy/ReadOnlyAccess"

// within asks for a session within a limit.
func (w *world) within(profile string, l Limit) (Answer, error) {
	return w.Credentials(w.t.Context(), Request{Profile: profile, Files: w.files, Limit: l})
}

// TestLimitsHaveSessionsOfTheirOwn: no session that was fetched without a limit, or with a wider one, is handed out
// within a narrower one, in whatever order they are asked for.
func TestLimitsHaveSessionsOfTheirOwn(t *testing.T) {
	limits := []Limit{{}, {ReadOnly: true}, {MaxTTL: 15 * time.Minute}, {MaxTTL: 30 * time.Minute}, {For: "claude"},
		{ReadOnly: true, RoleOnly: true, MaxTTL: 15 * time.Minute, For: "claude"}}
	for _, profile := range []string{"short", "named", "optional", "reader", "over-transitive"} {
		for turn := range limits {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, limited)
				for i := range 2 * len(limits) { // the second time from the cache
					l := limits[(turn+i)%len(limits)]
					answer, err := w.within(profile, l)
					if err != nil {
						t.Fatal(err)
					}
					call := w.aws.askedWith(answer)
					if l.ReadOnly && (call.PolicyARN != readOnlyARN || !answer.ReadOnly) {
						t.Errorf("%s within %+v: the policy is %q", profile, l, call.PolicyARN)
					}
					if life := answer.Expires.Sub(answer.Issued); l.MaxTTL != 0 && life > l.MaxTTL {
						t.Errorf("%s within %+v: it lasts %v", profile, l, life)
					}
				}
			})
		}
	}
}

// TestMaxTTL: the last session lasts no longer, never longer than the profile says, and needs no code of its own if it
// is short.
func TestMaxTTL(t *testing.T) {
	for profile, c := range map[string]struct {
		most, want time.Duration
		direct     bool
	}{
		"lasting": {2 * time.Hour, 2 * time.Hour, true},
		"short":   {time.Hour, 15 * time.Minute, false},
		"named":   {20 * time.Minute, 20 * time.Minute, false},
		"told":    {12 * time.Hour, time.Hour, false},
		"reader":  {15 * time.Minute, 15 * time.Minute, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			answer, err := newWorld(t, limited).within(profile, Limit{MaxTTL: c.most})
			if err != nil || answer.Expires.Sub(answer.Issued) != c.want || answer.Direct != c.direct {
				t.Errorf("%s: %v, direct %v, %v", profile, answer.Expires.Sub(answer.Issued), answer.Direct, err)
			}
			answer, err = newWorld(t, limited).within("lasting", Limit{MaxTTL: 15 * time.Minute})
			if err != nil || answer.Direct {
				t.Errorf("a short session of a long role needs its own code: %v", err)
			}
		})
	}
}

// TestLimitRefuses: what no session can keep is refused with a hint, and without a call to AWS.
func TestLimitRefuses(t *testing.T) {
	const readOnly, most, role = "cannot be limited to reading", "cannot be made shorter", "only sessions of roles"
	for name, c := range map[string]struct {
		profile string
		limit   Limit
		minTTL  time.Duration
		adHoc   *AdHoc
		want    string
	}{
		"read-only source":     {"security", Limit{ReadOnly: true}, 0, nil, readOnly},
		"short source":         {"security", Limit{MaxTTL: time.Hour}, 0, nil, most},
		"role of a source":     {"security", Limit{RoleOnly: true}, 0, nil, role},
		"federation":           {"security", Limit{RoleOnly: true}, 0, &AdHoc{Federate: true}, role},
		"read-only federation": {"security", Limit{ReadOnly: true}, 0, &AdHoc{Federate: true}, readOnly},
		"too short":            {"short", Limit{MaxTTL: 14 * time.Minute}, 0, nil, "no session for less than 15m"},
		"negative":             {"short", Limit{MaxTTL: -1}, 0, nil, "no session for less than 15m"},
		"contradiction":        {"short", Limit{MaxTTL: 15 * time.Minute}, time.Hour, nil, "less than the 1h that you asked for"},
		"allowing policy": {"short", Limit{ReadOnly: true}, 0,
			&AdHoc{Policy: `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`}, "is read-only"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, limited)
			_, err := w.Credentials(t.Context(), Request{Profile: c.profile, Files: w.files, Limit: c.limit, MinTTL: c.minTTL,
				AdHoc: c.adHoc})
			if f := fault.Of(err); !fault.Is(err, fault.Usage) || !strings.Contains(f.Message, c.want) || f.Hint == "" ||
				strings.Contains(string(f.Hint), "elevate") {
				t.Errorf("%s: %v, hint %q", name, err, fault.Of(err).Hint)
			}
			w.aws.wantCalls(t, 0, 0)
		})
	}
}

// TestRoleOnlyByOperation: only the sessions of three operations are those of a role or permission set.
func TestRoleOnlyByOperation(t *testing.T) {
	role := []profiles.Role{{Profile: "p", ARN: "arn:aws:iam::444455556666:role/x"}}
	set := &profiles.Assignment{Profile: "p", AccountID: "444455556666", RoleName: "Dev"}
	user := profiles.Source{Name: "s", Kind: profiles.IAMUser, AccessKeyID: "AKIA"}
	other := func(k profiles.Kind) profiles.Source {
		return profiles.Source{Name: "s", Kind: k, TokenFile: "/t", Command: "c"}
	}
	found := map[Operation]bool{}
	for _, chain := range []profiles.Chain{
		{Source: user}, {Source: user, Roles: role},
		{Source: other(profiles.Portal), Assignment: set}, {Source: other(profiles.Portal)},
		{Source: other(profiles.Portal), Assignment: set, Roles: role},
		{Source: other(profiles.ConsoleLogin)}, {Source: other(profiles.ConsoleLogin), Roles: role},
		{Source: other(profiles.OtherProgram)}, {Source: other(profiles.OtherProgram), Roles: role},
		{Source: other(profiles.WebIdentity), Roles: role},
	} {
		chain.Profile = "p"
		plan, err := NewPlan(chain, Defaults{SessionDuration: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		last := plan.Steps[len(plan.Steps)-1].Operation
		_, err = (&Limit{RoleOnly: true}).narrow(chain, 0)
		if admitted, known := found[last]; known && admitted != (err == nil) {
			t.Errorf("%s is admitted once and refused once", last)
		}
		found[last] = err == nil
	}
	var admitted []Operation
	for _, o := range slices.Sorted(maps.Keys(found)) {
		if found[o] {
			admitted = append(admitted, o)
		}
	}
	if len(found) != 7 || !slices.Equal(admitted, []Operation{AssumeRole, AssumeRoleWithWebIdentity, GetRoleCredentials}) {
		t.Errorf("admitted of %d: %v", len(found), admitted)
	}
}

// TestReadOnlyNeedsAWS: a permission set takes no session policy, and a server that is not AWS's may ignore it.
func TestReadOnlyNeedsAWS(t *testing.T) {
	for name, chain := range map[string]profiles.Chain{
		"Identity Center": {Source: profiles.Source{Name: "s", Kind: profiles.Portal},
			Assignment: &profiles.Assignment{AccountID: "444455556666", RoleName: "Dev"}},
		"sts_compatible": {Source: profiles.Source{Name: "s", AccessKeyID: "AKIA"},
			Roles: []profiles.Role{{ARN: "arn:aws:iam::444455556666:role/x", Endpoint: profiles.Endpoint{Compatible: true}}}},
	} {
		if _, err := (&Limit{ReadOnly: true}).narrow(chain, 0); !fault.Is(err, fault.Usage) ||
			!strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPermissionSetThatLastsTooLong: AWS decides how long it lasts. What it gives is compared, also from the cache.
func TestPermissionSetThatLastsTooLong(t *testing.T) {
	creds := func(life time.Duration) Credentials {
		now := time.Now()
		return Credentials{Issued: now, Expires: now.Add(life)}
	}
	plan := &Plan{Profile: "p", Steps: []Step{{Call: Call{Operation: GetRoleCredentials, AccountID: "1", RoleName: "Dev"}}}}
	for life, refused := range map[time.Duration]bool{
		time.Hour: false, time.Hour + time.Second: false, 2 * time.Hour: true,
	} {
		l := Limit{MaxTTL: time.Hour}
		if err := l.kept(plan, 0, creds(life)); fault.Is(err, fault.Usage) != refused {
			t.Errorf("%v: %v", life, err)
		}
	}
	if err := (&Limit{MaxTTL: time.Hour}).kept(plan, 0, Credentials{Expires: time.Now()}); err == nil {
		t.Error("a session whose beginning is unknown is handed out")
	}
}

// TestPermissionSetWithin: a session that is too long is not handed out, whether it is fetched or cached.
func TestPermissionSetWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := withCenter(t)
		defer w.end()
		plan, _ := w.plans.Load().byName.Load(planKey{profile: "sso-admin"})
		short, long := Limit{MaxTTL: 15 * time.Minute}, Limit{MaxTTL: 12 * time.Hour}
		for _, l := range []Limit{short, long} {
			w.plans.Load().byName.Store(planKey{"sso-admin", l}, plan)
		}
		for range 2 {
			if a, err := w.within("sso-admin", short); !fault.Is(err, fault.Usage) || a.AccessKeyID != "" {
				t.Errorf("%v, handed out %q", err, a.AccessKeyID)
			}
			if _, err := w.within("sso-admin", long); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestFor: the name of the session and its tags say the program, where the profile leaves that open.
func TestFor(t *testing.T) {
	for profile, c := range map[string]struct {
		name string
		tags string
	}{
		"short":           {"paul@host+claude", ""},
		"named":           {"paul", ""},
		"told":            {"claude.paul", "by=claude"},
		"optional":        {"paul@host+claude", "team=web program=claude"},
		"optional-own":    {"paul@host+claude", "Program=mine"},
		"over-transitive": {"paul@host+claude", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, limited)
			answer, err := w.Credentials(t.Context(), Request{Profile: profile, Files: w.files, Limit: Limit{For: "claude"},
				Program: by("terraform")})
			call := w.aws.askedWith(answer)
			var tags []string
			for _, tag := range call.Tags {
				tags = append(tags, tag.Key+"="+tag.Value)
			}
			if got := strings.Join(tags, " "); err != nil || call.SessionName != c.name || got != c.tags {
				t.Errorf("%s: %q with %q, %v", profile, call.SessionName, got, err)
			}
		})
	}
}

// TestRefusedProgramTag: a role that refuses the tag of a program keeps the tags of the profile, for everybody. One
// that refuses all tags gets none, and a login sends them again.
func TestRefusedProgramTag(t *testing.T) {
	for all, want := range map[bool]string{false: "team=web", true: ""} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, limited)
			w.aws.onEachAssume(func(call Call) error {
				if all && len(call.Tags) > 0 || slices.ContainsFunc(call.Tags, func(t Tag) bool { return t.Key == "program" }) {
					return fault.New(fault.Denied, "sts:TagSession: %w", ErrTagsRefused)
				}
				return nil
			})
			check := func(l Limit, assumed int) {
				t.Helper()
				_, before := w.aws.calls()
				answer, err := w.within("optional", l)
				var tags []string
				for _, tag := range w.aws.askedWith(answer).Tags {
					tags = append(tags, tag.Key+"="+tag.Value)
				}
				if _, now := w.aws.calls(); err != nil || strings.Join(tags, " ") != want || now-before != assumed {
					t.Errorf("refusing all %v, within %+v: %q, %d calls, %v", all, l, tags, now-before, err)
				}
			}
			refused := 1
			if all {
				refused = 2
			}
			check(Limit{For: "claude"}, refused+1)
			check(Limit{For: "claude"}, 0)
			check(Limit{For: "codex"}, 1)
			check(Limit{}, 1)
			if w.logout("security") == 0 {
				t.Error("nothing was logged out")
			}
			check(Limit{For: "claude"}, refused+1)
		})
	}
}

// TestNamesFor: AWS accepts the name for any program, and it always says which one.
func TestNamesFor(t *testing.T) {
	long := strings.Repeat("h", 80)
	for program, want := range map[string]string{
		"claude": "+claude", "": "+unknown", "a+b@c d": "+a-b-c-d", "ü": "+-", strings.Repeat("x", 99): "+" + strings.Repeat("x", 20),
	} {
		for _, host := range []string{"laptop", long} {
			name := Who{User: "paul", Host: host}.nameFor(program)
			if !strings.HasPrefix(name, "paul@") || !strings.HasSuffix(name, want) || strings.Count(name, "+") != 1 {
				t.Errorf("%q: %q", program, name)
			}
			if err := profiles.CheckRole(profiles.Role{SessionName: name}); err != nil {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
}

// TestManyProgramsShareASession: each name costs a call to AWS, so their number is limited.
func TestManyProgramsShareASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, limited)
		for i := range 3 * maxPrograms {
			if _, err := w.within("short", Limit{For: strings.Repeat("x", i%20) + string(rune('a'+i/20))}); err != nil {
				t.Fatal(err)
			}
		}
		w.aws.wantCalls(t, 1, maxPrograms+1)
	})
}

// TestAgents: what a profile says about agents counts for an agent that the client names and for one among its parents,
// whatever was cached or elevated before, and for nobody else.
func TestAgents(t *testing.T) {
	agent := func(name string) func() string { return func() string { return name } }
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, limited)
		ask := func(r Request) (Answer, Call, error) {
			r.Files = w.files
			answer, err := w.Credentials(t.Context(), r)
			return answer, w.aws.askedWith(answer), err
		}
		for range 2 { // the second time from the cache
			for name, c := range map[string]struct {
				req      Request
				readOnly bool
				agent    string
				denied   string
			}{
				"a person":             {Request{Profile: "by-agents", FindAgent: agent("")}, false, "", ""},
				"nobody looks":         {Request{Profile: "by-agents"}, false, "", ""},
				"it says so":           {Request{Profile: "by-agents", Agent: "codex", FindAgent: agent("")}, true, "codex", ""},
				"its parents say so":   {Request{Profile: "by-agents", FindAgent: agent("claude")}, true, "claude", ""},
				"both":                 {Request{Profile: "by-agents", Agent: "pi", FindAgent: agent("claude")}, true, "pi", ""},
				"everyone":             {Request{Profile: "by-agents", Everyone: true}, true, "", ""},
				"elevated":             {Request{Profile: "by-agents", Agent: "codex", ElevatedUntil: time.Now().Add(time.Hour)}, true, "codex", ""},
				"minimum":              {Request{Profile: "by-agents", Agent: "codex", MinTTL: time.Minute}, true, "codex", ""},
				"further role":         {Request{Profile: "by-agents", Agent: "codex", AdHoc: &AdHoc{Role: profiles.Role{ARN: "arn:aws:iam::777788889999:role/x"}}}, true, "codex", ""},
				"a profile above":      {Request{Profile: "over-agents", Agent: "codex"}, true, "codex", ""},
				"only asked":           {Request{Profile: "asking", Agent: "codex"}, false, "codex", ""},
				"denied":               {Request{Profile: "no-agents", Agent: "codex"}, false, "codex", "coding agent codex asks"},
				"denied by parents":    {Request{Profile: "no-agents", FindAgent: agent("pi")}, false, "pi", "coding agent pi asks"},
				"denied to everyone":   {Request{Profile: "no-agents", Everyone: true}, false, "", "every program could read it"},
				"a person of deny":     {Request{Profile: "no-agents", FindAgent: agent("")}, false, "", ""},
				"a login":              {Request{Profile: "no-agents", Agent: "codex", Login: true}, false, "codex", ""},
				"profile says nothing": {Request{Profile: "short", Agent: "codex"}, false, "codex", ""},
			} {
				answer, call, err := ask(c.req)
				denied := fault.Is(err, fault.NotConfirmed) && strings.Contains(err.Error(), c.denied)
				if denied != (c.denied != "") || err != nil && !denied {
					t.Errorf("%s: %v", name, err)
				}
				if answer.ReadOnly != c.readOnly || c.readOnly != (call.PolicyARN == readOnlyARN) || answer.Agent != c.agent {
					t.Errorf("%s: read-only %v (%q), agent %q", name, answer.ReadOnly, call.PolicyARN, answer.Agent)
				}
			}
		}
	})
}

// TestParentsAreReadForAgentsOnly: reading the parents takes time, so it is for profiles with agents.
func TestParentsAreReadForAgentsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, limited)
		for profile, want := range map[string]int{"short": 0, "reader": 0, "by-agents": 1, "over-agents": 1} {
			looks := 0
			_, err := w.Credentials(t.Context(), Request{Profile: profile, Files: w.files,
				FindAgent: func() string { looks++; return "" }})
			if err != nil || looks != want {
				t.Errorf("%s: %d, %v", profile, looks, err)
			}
		}
	})
}
