package session

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

func TestFederationPlan(t *testing.T) {
	bare := profiles.Chain{Profile: "security", Source: profiles.Source{Name: "security", AccessKeyID: "AKIA", MFASerial: "arn:aws-cn:iam::111122223333:mfa/paul"}}
	plan := func(c profiles.Chain, a *AdHoc) (*Plan, error) {
		a.Federate = true
		c, err := a.extend(c)
		if err != nil {
			return nil, err
		}
		return NewPlan(c, Defaults{STSEndpoint: "http://127.0.0.1:1", Wish: Wish{Who: Who{User: strings.Repeat("n", 40)}, AdHoc: a}})
	}
	p, err := plan(bare, &AdHoc{})
	if err != nil || len(p.Steps) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	s := p.Steps[0]
	if s.Operation != GetFederationToken || !s.LongTerm || s.MFASerial != "" || s.NeedsPerson() ||
		s.Duration != time.Hour || len(s.SessionName) != 32 ||
		s.PolicyARN != "arn:aws-cn:iam::aws:policy/job-function/ViewOnlyAccess" || s.Policy != "" || s.Endpoint.URL != "http://127.0.0.1:1" {
		t.Errorf("%+v", s)
	}
	q, err := plan(
		bare,
		&AdHoc{Role: profiles.Role{Duration: 12 * time.Hour, SessionName: "paul", Tags: []Tag{{Key: "a", Value: "b"}}}, Policy: "{}"},
	)
	if s := q.Steps[0]; err != nil || s.Policy != "{}" || s.PolicyARN != "" || s.Duration != 12*time.Hour ||
		s.SessionName != "paul" ||
		len(s.Tags) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if p.Key(0) == q.Key(0) {
		t.Error("another policy is not another session")
	}
	role := bare
	role.Roles = []profiles.Role{{ARN: "arn:aws:iam::222233334444:role/a"}}
	for what, try := range map[string]func() (*Plan, error){
		"a role": func() (*Plan, error) { return plan(role, &AdHoc{}) },
		"an ARN": func() (*Plan, error) {
			return plan(bare, &AdHoc{Role: profiles.Role{ARN: "arn:aws:iam::222233334444:role/a"}})
		},
		"an external id": func() (*Plan, error) { return plan(bare, &AdHoc{Role: profiles.Role{ExternalID: "xy"}}) },
		"a device": func() (*Plan, error) {
			return plan(bare, &AdHoc{Role: profiles.Role{MFASerial: bare.Source.MFASerial}})
		},
		"13 hours": func() (*Plan, error) { return plan(bare, &AdHoc{Role: profiles.Role{Duration: 13 * time.Hour}}) },
		"a long name": func() (*Plan, error) {
			return plan(bare, &AdHoc{Role: profiles.Role{SessionName: strings.Repeat("n", 33)}})
		},
		"a broken policy": func() (*Plan, error) { return plan(bare, &AdHoc{Policy: "{"}) },
	} {
		if p, err := try(); !fault.Is(err, fault.Usage) {
			t.Errorf("%s: %+v, %v", what, p, err)
		}
	}
}

// TestFederationNeedsTheSessionFirst: AWS takes no code for a federated session, so Broker opens one only after a
// code was given for the MFA session.
func TestFederationNeedsTheSessionFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registry)
		ask := func(code string) (Answer, error) {
			return w.Credentials(
				t.Context(),
				Request{Profile: "typed", Files: w.files, Code: secret.New(code), AdHoc: &AdHoc{Federate: true}},
			)
		}
		w.aws.onEachOpen(withoutSeed)
		if _, err := ask(""); !fault.Is(err, fault.LoginNeeded) {
			t.Errorf("without a code: %v", err)
		}
		for _, o := range w.aws.opens {
			if o.call.Operation == GetFederationToken {
				t.Error("GetFederationToken was called nevertheless")
			}
		}
		w.aws.onEachOpen(nil)
		for _, code := range []string{"123456", ""} {
			if a, err := ask(code); err != nil || a.Direct {
				t.Errorf("%+v, %v", a, err)
			}
		}
		w.aws.wantCalls(t, 3, 0) // the refused call, the MFA session, and one federated session
		w.Lock()
		if _, err := ask(""); !fault.Is(err, fault.Locked) {
			t.Errorf("locked: %v", err)
		}
	})
}
