package session

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
)

// attributed is a registry whose profiles say who uses their roles.
const attributed = registry + `
[profile tagged]
role_arn = arn:aws:iam::444455556666:role/tagged
source_profile = security
role_session_name = {program}.{user}
source_identity = {user}
session_tags = team=web, by={program}
transitive_tags = team

[profile optional]
role_arn = arn:aws:iam::444455556666:role/tagged
source_profile = security
source_identity = {user}
session_tags = team=web
transitive_tags = team
optional_tags = true

[profile optional-deep]
role_arn = arn:aws:iam::777788889999:role/deep
source_profile = optional

[profile reader]
role_arn = arn:aws-cn:iam::777788889999:role/admin
source_profile = security
read_only = true
session_tags = why={reason}

[profile reader-deep]
role_arn = arn:aws:iam::777788889999:role/deep
source_profile = reader

[profile full]
role_arn = arn:aws-cn:iam::777788889999:role/admin
source_profile = security
`

const chinaReadOnly = "arn:aws-cn:iam::aws:policy/ReadOnlyAccess"

// askedWith returns the call that a session is the answer to.
func (a *aws) askedWith(answer Answer) Call {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[answer.AccessKeyID]
}

func by(program string) func() string { return func() string { return program } }

// TestEachProgramHasItsSession: with {program}, two tools have two sessions, and each keeps its own.
func TestEachProgramHasItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, attributed)
		ask := func(program string) Answer {
			a, err := w.Credentials(t.Context(), Request{Profile: "tagged", Files: w.files, Program: by(program)})
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		first, other := ask("aws"), ask("terra form")
		if first.AccessKeyID == other.AccessKeyID || ask("aws").AccessKeyID != first.AccessKeyID {
			t.Error("the sessions of two programs are not apart")
		}
		w.aws.wantCalls(t, 1, 2)
		call := w.aws.askedWith(other)
		if call.SessionName != "terra-form.paul" || call.SourceIdentity != "paul" ||
			!reflect.DeepEqual(call.Tags, []Tag{{Key: "team", Value: "web"}, {Key: "by", Value: "terra form"}}) ||
			!reflect.DeepEqual(call.TransitiveTags, []string{"team"}) {
			t.Errorf("%+v", call)
		}
		// A tag of the request replaces the profile's of that key.
		a, err := w.Credentials(t.Context(), Request{Profile: "tagged", Files: w.files, Program: by("aws"),
			AdHoc: &AdHoc{Role: profiles.Role{Tags: []Tag{{Key: "BY", Value: "me"}, {Key: "x", Value: "y"}}}}})
		if call := w.aws.askedWith(a); err != nil || !reflect.DeepEqual(call.Tags,
			[]Tag{{Key: "team", Value: "web"}, {Key: "BY", Value: "me"}, {Key: "x", Value: "y"}}) {
			t.Errorf("%+v, %v", call, err)
		}
	})
}

// refusingTags is an STS whose roles of that ARN refuse tags and source identities.
func refusingTags(arn string) func(Call) error {
	return func(call Call) error {
		if call.RoleARN == arn && (len(call.Tags) > 0 || len(call.TransitiveTags) > 0 || call.SourceIdentity != "") {
			return fault.New(fault.Denied, "sts:TagSession: %w", ErrTagsRefused)
		}
		return nil
	}
}

// TestRefusedTagsFail: without optional_tags, Broker does not do without them.
func TestRefusedTagsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, attributed)
		w.aws.onEachAssume(refusingTags("arn:aws:iam::444455556666:role/tagged"))
		w.fail("tagged", fault.Denied)
		w.aws.wantCalls(t, 1, 1)
	})
}

// TestOptionalTagsAreDroppedOnce: the call that AWS refuses is made once, until a login or logout.
func TestOptionalTagsAreDroppedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const role = "arn:aws:iam::444455556666:role/tagged"
		w := newWorld(t, attributed)
		w.aws.onEachAssume(refusingTags(role))
		check := func(profile string, assumed int, dropped bool) {
			t.Helper()
			_, before := w.aws.calls()
			a := w.get(profile)
			if _, now := w.aws.calls(); now-before != assumed {
				t.Errorf("%s: %d calls, want %d", profile, now-before, assumed)
			}
			if has := strings.Contains(fmt.Sprint(a.Warnings), "optional_tags = true"); has != dropped || len(a.Warnings) > 1 {
				t.Errorf("%s: %v", profile, a.Warnings)
			}
		}
		check("optional", 2, true)
		check("optional", 0, true)
		for _, h := range w.Held() {
			if h.Err != nil {
				t.Errorf("status shows the refusal: %+v", h)
			}
		}
		check("optional-deep", 1, true) // through the same role
		_, before := w.aws.calls()
		time.Sleep(time.Hour)
		w.get("optional")
		if _, now := w.aws.calls(); now-before != 2 { // a refresh of each session
			t.Errorf("%d calls for two refreshes", now-before)
		}
		w.logout("security")
		check("optional-deep", 3, true)
		if _, err := w.Credentials(t.Context(), Request{Profile: "optional", Files: w.files, Login: true}); err != nil {
			t.Fatal(err)
		}
		w.aws.onEachAssume(nil)
		check("optional", 1, false)
		w.logout("typed") // another source
		check("optional", 0, false)
	})
}

// TestReadOnly: the session of a profile with read_only = true has the policy of its partition, and an elevated one
// has none. They are never one session.
func TestReadOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, attributed)
		ask := func(profile string, until time.Time, a *AdHoc) (Answer, Call) {
			t.Helper()
			req := Request{Profile: profile, Files: w.files, ElevatedUntil: until, AdHoc: a}
			if !until.IsZero() {
				req.Reason = "INC-123"
			}
			answer, err := w.Credentials(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			return answer, w.aws.askedWith(answer)
		}
		reader, call := ask("reader", time.Time{}, nil)
		if !reader.ReadOnly || call.PolicyARN != chinaReadOnly || call.Policy != "" {
			t.Errorf("%+v", call)
		}
		until := time.Now().Add(30 * time.Minute)
		elevated, call := ask("reader", until, nil)
		if elevated.ReadOnly || call.PolicyARN != "" || call.Duration != 30*time.Minute ||
			elevated.AccessKeyID == reader.AccessKeyID {
			t.Errorf("%+v, %+v", elevated, call)
		}
		if again, _ := ask("reader", until, nil); again.AccessKeyID != elevated.AccessKeyID {
			t.Error("an elevated session is not kept")
		}
		if other, _ := ask("reader", until.Add(time.Minute), nil); other.AccessKeyID == elevated.AccessKeyID {
			t.Error("two elevations share a session")
		}
		if again, _ := ask("reader", time.Time{}, nil); again.AccessKeyID != reader.AccessKeyID || !again.ReadOnly {
			t.Error("the read-only session is not kept")
		}
		if past, _ := ask("reader", time.Now(), nil); past.AccessKeyID != reader.AccessKeyID {
			t.Error("elevated rights that ended give another session")
		}
		full, call := ask("full", until, nil)
		plain, _ := ask("full", time.Time{}, nil)
		if full.ReadOnly || call.PolicyARN != "" || plain.AccessKeyID != full.AccessKeyID {
			t.Error("elevation changes a profile that is not read-only")
		}
		// The request's own policy and the profile's are both sent.
		a, call := ask("reader", time.Time{}, &AdHoc{Policy: "{}"})
		if !a.ReadOnly || call.Policy != "{}" || call.PolicyARN != chinaReadOnly {
			t.Errorf("%+v", call)
		}
		// A further role of the request does not get around it. A profile that is assumed from it has its own say.
		further := &AdHoc{Role: profiles.Role{ARN: "arn:aws-cn:iam::777788889999:role/further"}}
		a, call = ask("reader", time.Time{}, further)
		if !a.ReadOnly || call.RoleARN != further.ARN || call.PolicyARN != chinaReadOnly {
			t.Errorf("%+v", call)
		}
		if a, call := ask("reader-deep", time.Time{}, nil); a.ReadOnly || call.PolicyARN != "" {
			t.Errorf("%+v", call)
		}
		n := 0
		for _, h := range w.Held() {
			if h.ReadOnly {
				n++
			}
		}
		if n != 3 {
			t.Errorf("%d of the held sessions are read-only, want 3", n)
		}
	})
}

// TestElevationEndsByItself: STS gives no session of less than 15 minutes, so the last one of an elevation may
// outlast it. It is neither renewed early nor in the background.
func TestElevationEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, attributed)
		w.aws.take(0)
		began := time.Now()
		until := began.Add(80 * time.Minute)
		var last string
		var ends time.Time
		for time.Now().Before(until) {
			a, err := w.Credentials(t.Context(), Request{Profile: "reader", Files: w.files, ElevatedUntil: until})
			if err != nil {
				t.Fatal(err)
			}
			if a.AccessKeyID != last {
				last, ends = a.AccessKeyID, a.Expires
			}
			if a.Expires.After(until.Add(15 * time.Minute)) {
				t.Fatalf("after %v: a session until %v", time.Since(began), a.Expires.Sub(began))
			}
			time.Sleep(time.Minute)
		}
		if ends.Before(until) {
			t.Errorf("the last session ends at %v", ends.Sub(began))
		}
		_, before := w.aws.calls()
		time.Sleep(3 * time.Hour)
		if _, now := w.aws.calls(); now != before {
			t.Errorf("%d calls in the background", now-before)
		}
		if a := w.get("reader"); !a.ReadOnly {
			t.Error("the rights did not end")
		}
	})
}

// TestSessionsDifferByWhatIsSent: whatever requests come, each gets a session whose call is exactly the one that its
// plan needs. An elevated session may have been requested when more time was left.
func TestSessionsDifferByWhatIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, attributed)
		w.aws.take(0)
		const seed = 14
		r := rand.New(rand.NewPCG(seed, seed))
		began := time.Now()
		pick := func(list ...string) string { return list[r.IntN(len(list))] }
		for range 3000 {
			req := Request{Profile: pick("tagged", "optional", "optional-deep", "reader", "full", "dev", "deep"),
				Files: w.files, Program: by(pick("aws", "sls", "terraform"))}
			if r.IntN(3) == 0 {
				req.ElevatedUntil = began.Add(time.Duration(1+r.IntN(3)) * 4 * time.Hour)
				req.Reason = pick("INC-123", "INC-124")
			}
			if r.IntN(3) == 0 {
				req.AdHoc = &AdHoc{Policy: pick("", "{}", `{"a":1}`)}
				req.AdHoc.SessionName, req.AdHoc.ExternalID = pick("", "one", "two"), pick("", "xx")
				req.AdHoc.Duration = time.Duration(r.IntN(2)) * 30 * time.Minute
				if r.IntN(2) == 0 {
					req.AdHoc.Tags = []Tag{{Key: pick("team", "a"), Value: pick("1", "2")}}
				}
			}
			answer, err := w.Credentials(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			plan, _, err := w.plan(&req)
			if err != nil {
				t.Fatal(err)
			}
			step := &plan.Steps[len(plan.Steps)-1]
			got, want := w.aws.askedWith(answer), step.at(w.cache.now().wall)
			if !step.ElevatedUntil.IsZero() && got.Duration > want.Duration &&
				!answer.Expires.After(step.ElevatedUntil.Add(shortestRole)) {
				got.Duration = want.Duration
			}
			if !reflect.DeepEqual(got, want) || answer.ReadOnly != (want.PolicyARN != "") {
				t.Fatalf("%+v got the session of\n%+v, want\n%+v", req, got, want)
			}
			time.Sleep(time.Duration(r.IntN(20)) * time.Second)
		}
	})
}
