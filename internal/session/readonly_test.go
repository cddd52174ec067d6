package session

import (
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
)

// TestPolicyOfAReadOnlyProfile: AWS allows what any session policy allows, so the policy of a request must not allow
// anything. An elevated request may send any policy.
func TestPolicyOfAReadOnlyProfile(t *testing.T) {
	const deny = `{"Effect":"Deny","Action":"s3:*","Resource":"*"}`
	const allow = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	plan := func(policy string, until time.Time) (*Plan, error) {
		chain := profiles.Chain{Profile: "reader",
			Source: profiles.Source{Name: "s", AccessKeyID: "AKIA", MFASerial: ownDevice},
			Roles:  []profiles.Role{{Profile: "reader", ARN: "arn:aws:iam::444455556666:role/dev", ReadOnly: true}}}
		return NewPlan(chain, Defaults{SessionDuration: time.Hour,
			Wish: Wish{AdHoc: &AdHoc{Policy: policy}, ElevatedUntil: until}})
	}
	for policy, refused := range map[string]bool{
		`{"Statement":[` + deny + `]}`:                             false,
		`{"Statement":` + deny + `}`:                               false,
		`{"Statement":[]}`:                                         false,
		`{"Statement":[` + allow + `]}`:                            true,
		`{"Statement":` + allow + `}`:                              true,
		`{"Statement":[` + deny + `,` + allow + `]}`:               true,
		`{"statement":[{"effect":"Allow"}]}`:                       true,
		`{"Statement":[{"Action":"*"}]}`:                           true,
		`{"Statement":"x"}`:                                        true,
		`{"Statement":[` + allow + `],"Statement":[` + deny + `]}`: true,
		`{"Statement":[` + allow + `],"statement":[` + deny + `]}`: true,
		`{"Statement":[{"Effect":"\u0041llow","effect":"Deny"}]}`:  true,
		`[` + deny + `]`:                                           true,
	} {
		p, err := plan(policy, time.Time{})
		switch {
		case refused && (!fault.Is(err, fault.Usage) || !strings.Contains(err.Error(), `"reader" is read-only`)):
			t.Errorf("%s: %v", policy, err)
		case !refused && err != nil:
			t.Errorf("%s: %v", policy, err)
		case !refused:
			if last := p.Steps[len(p.Steps)-1]; last.Policy != policy || !last.ReadOnly() {
				t.Errorf("%s: sends %q and %q", policy, last.Policy, last.PolicyARN)
			}
		}
		if p, err := plan(policy, time.Now().Add(time.Hour)); err != nil || p.Steps[len(p.Steps)-1].ReadOnly() {
			t.Errorf("%s, elevated: %v", policy, err)
		}
	}
}
