package session

import (
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
)

func TestAdHoc(t *testing.T) {
	source := profiles.Source{Name: "security", AccessKeyID: "AKIA", MFASerial: "arn:aws:iam::111122223333:mfa/paul"}
	const mgmt, dev = "arn:aws:iam::555566667777:role/admin", "arn:aws:iam::222233334444:role/OrganizationAccountAccessRole"
	chain := profiles.Chain{
		Profile: "mgmt",
		Region:  "eu-west-1",
		Source:  source,
		Roles:   []profiles.Role{{ARN: mgmt, ExternalID: "x", Endpoint: profiles.Endpoint{Region: "eu-west-1"}}},
	}
	plan := func(c profiles.Chain, a *AdHoc) (*Plan, error) {
		c, err := a.extend(c)
		if err != nil {
			return nil, err
		}
		return NewPlan(c, Defaults{SessionDuration: 12 * time.Hour, Wish: Wish{Who: Who{User: "paul", Host: "host"}, AdHoc: a}})
	}
	p, err := plan(chain, &AdHoc{Role: profiles.Role{ARN: dev, SessionName: "probe", Tags: []Tag{{Key: "a", Value: "b"}}}, Policy: "{}"})
	if err != nil || len(p.Steps) != 3 {
		t.Fatalf("%+v, %v", p, err)
	}
	if s := p.Steps[2]; s.RoleARN != dev || s.SessionName != "probe" || s.Policy != "{}" || len(s.Tags) != 1 ||
		s.Endpoint.Region != "eu-west-1" ||
		s.LongTerm {
		t.Errorf("last step %+v", s)
	}
	if s := p.Steps[1]; s.RoleARN != mgmt || s.Policy != "" || s.ExternalID != "x" {
		t.Errorf("step before %+v", s)
	}
	plain, _ := plan(chain, nil)
	if p.Key(1) != plain.Key(1) {
		t.Error("equal steps do not share a session")
	}
	without, _ := plan(chain, &AdHoc{Role: profiles.Role{ARN: dev, SessionName: "probe"}})
	if p.Key(2) == without.Key(2) {
		t.Error("a session policy does not make another session")
	}

	// Without an ARN, the fields change the profile's own role.
	p, err = plan(chain, &AdHoc{Role: profiles.Role{Duration: 15 * time.Minute, Tags: []Tag{{Key: "a", Value: ""}}}})
	if err != nil || len(p.Steps) != 2 || p.Steps[1].Duration != 15*time.Minute || p.Steps[1].ExternalID != "x" ||
		len(p.Steps[1].Tags) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if len(chain.Roles) != 1 || chain.Roles[0].Duration != 0 {
		t.Errorf("the chain was changed: %+v", chain.Roles)
	}

	bare := profiles.Chain{Profile: "security", Source: source}
	for want, a := range map[string]*AdHoc{
		`"security" is a source and has no role`:     {Policy: "{}"},
		"the role is not arn:aws:iam::ACCOUNT":       {Role: profiles.Role{ARN: "admin"}},
		"the external id is not":                     {Role: profiles.Role{ARN: dev, ExternalID: "a b"}},
		"the session name is not":                    {Role: profiles.Role{ARN: dev, SessionName: "a\nb"}},
		"the region is not":                          {Role: profiles.Role{ARN: dev, Endpoint: profiles.Endpoint{Region: "evil.example/"}}},
		"the MFA serial is neither":                  {Role: profiles.Role{ARN: dev, MFASerial: "x"}},
		"the duration is not":                        {Role: profiles.Role{ARN: dev, Duration: time.Second}},
		"the session policy is not JSON":             {Role: profiles.Role{ARN: dev}, Policy: "{"},
		"the session policy has more than":           {Role: profiles.Role{ARN: dev}, Policy: `"` + strings.Repeat("x", maxPolicy) + `"`},
		"the list of session tags has more than 50":  {Role: profiles.Role{ARN: dev, Tags: make([]Tag, 51)}},
		"the list of session tags has a key that":    {Role: profiles.Role{ARN: dev, Tags: []Tag{{Key: "a\n", Value: "b"}}}},
		"the list of session tags has a key that i":  {Role: profiles.Role{ARN: dev, Tags: []Tag{{Key: "", Value: "b"}}}},
		"the list of session tags has a value":       {Role: profiles.Role{ARN: dev, Tags: []Tag{{Key: "a", Value: "{user}"}}}},
		`the list of session tags has the key "A" t`: {Role: profiles.Role{ARN: dev, Tags: []Tag{{Key: "a", Value: ""}, {Key: "A", Value: ""}}}},
	} {
		if _, err := plan(bare, a); !fault.Is(err, fault.Usage) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if p, err := plan(bare, &AdHoc{Role: profiles.Role{ARN: dev}}); err != nil || len(p.Steps) != 2 ||
		p.Steps[0].Operation != GetSessionToken {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := plan(bare, &AdHoc{Role: profiles.Role{ARN: dev, Duration: 2 * time.Hour}}); err != nil ||
		len(p.Steps) != 1 ||
		!p.Steps[0].LongTerm {
		t.Errorf("%+v, %v", p, err)
	}
}
