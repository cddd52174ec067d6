//go:build linux

package daemon

import (
	"strings"
	"testing"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/wire"
)

// aToken asks for a token that needs the least.
func aToken(profile string) wire.Request {
	return wire.Request{Verb: wire.MakeToken, Profile: profile,
		TokenTerms: &wire.TokenTerms{Service: wire.TokenEKS, Cluster: "main"}}
}

// TestToken: a token comes without the session that made it, in the region that was asked for, and its audit line says
// what it is for.
func TestToken(t *testing.T) {
	inChina := "\n[profile china]\nrole_arn = arn:aws-cn:iam::444455556666:role/x\nsource_profile = security\n" +
		"region = cn-north-1\n"
	h := build(t, t.TempDir(), registry+inChina).run(t)
	for _, tt := range []struct {
		profile        string
		terms          wire.TokenTerms
		region, reason string
	}{
		{"dev", wire.TokenTerms{Service: "eks", Cluster: "main"}, "eu-west-1", "eks main"},
		{"dev", wire.TokenTerms{Service: "eks", Cluster: "main", Region: "us-east-2"}, "us-east-2", "eks main"},
		{"china", wire.TokenTerms{Service: "eks", Cluster: "main"}, "cn-north-1", "eks main"},
		{"denied2", wire.TokenTerms{Service: "ecr", Region: "eu-west-2"}, "", ""},
		{"dev", wire.TokenTerms{Service: "ecr"}, "eu-west-1", "ecr"},
		{"dev", wire.TokenTerms{Service: "codeartifact", Domain: "team"}, "eu-west-1", "codeartifact team"},
		{"dev", wire.TokenTerms{Service: "codeartifact", Domain: "team", Account: "123456789012"}, "eu-west-1", "codeartifact team"},
		// The region of an RDS host is more certain than that of the profile, and less than the one that was asked for.
		{"dev", wire.TokenTerms{Service: "rds", Host: "db.c1.us-west-2.rds.amazonaws.com:5432", User: "paul"}, "us-west-2",
			"rds paul@db.c1.us-west-2.rds.amazonaws.com:5432"},
		{"dev", wire.TokenTerms{Service: "rds", Host: "db.c1.us-west-2.rds.amazonaws.com:1", User: "p", Region: "eu-north-1"},
			"eu-north-1", "rds p@db.c1.us-west-2.rds.amazonaws.com:1"},
		{"china", wire.TokenTerms{Service: "rds", Host: "db.c1.rds.cn-northwest-1.amazonaws.com.cn:1", User: "p"},
			"cn-northwest-1", "rds p@db.c1.rds.cn-northwest-1.amazonaws.com.cn:1"},
		{"dev", wire.TokenTerms{Service: "rds", Host: "us-west-2.rds.example.com:1", User: "p"}, "eu-west-1",
			"rds p@us-west-2.rds.example.com:1"},
		{"dev", wire.TokenTerms{Service: "rds", Host: "[fd00::1]:5432", User: "p ü"}, "eu-west-1", "rds p ü@[fd00::1]:5432"},
	} {
		resp := h.ask(t, wire.Request{Verb: wire.MakeToken, Profile: tt.profile, TokenTerms: &tt.terms})
		if tt.region == "" {
			if resp.Err == nil || resp.Token != nil {
				t.Errorf("%+v: %+v", tt, resp)
			}
			continue
		}
		if resp.Err != nil || resp.Credential != nil || resp.Token == nil ||
			!strings.HasPrefix(resp.Token.Token.Reveal(), serviceToken+" in "+tt.region+" ") {
			t.Errorf("%+v: %v, %+v", tt.terms, resp.Err, resp.Token)
			continue
		}
		// The session lives for an hour, the token of the fixture for twelve.
		left := time.Until(resp.Token.Expires).Round(time.Hour)
		if want := map[bool]time.Duration{true: 12 * time.Hour, false: time.Hour}[tt.terms.Service == "ecr"]; left != want {
			t.Errorf("%+v expires in %s, want %s", tt.terms, left, want)
		}
		all := h.trail.all()
		e := all[len(all)-1]
		if e.Event != "given" || e.Delivery != audit.Token || e.Reason != tt.reason || e.Profile != tt.profile || e.KeyID == "" {
			t.Errorf("the audit log ends with %+v", e)
		}
	}
}

// TestTokenBadTerms: what cannot be a token is refused before a session is opened, and says what is wrong.
func TestTokenBadTerms(t *testing.T) {
	h := start(t)
	long := strings.Repeat("a", 300)
	for _, tt := range []struct {
		terms *wire.TokenTerms
		says  string
	}{
		{nil, "no token for the service"},
		{&wire.TokenTerms{Service: "s3"}, "no token for the service"},
		{&wire.TokenTerms{Service: "eks"}, "not the name of a cluster"},
		{&wire.TokenTerms{Service: "eks", Cluster: long}, "not the name of a cluster"},
		{&wire.TokenTerms{Service: "eks", Cluster: "a\r\nhost: evil"}, "not the name of a cluster"},
		{&wire.TokenTerms{Service: "eks", Cluster: "a b"}, "not the name of a cluster"},
		{&wire.TokenTerms{Service: "eks", Cluster: "x", Region: "mars-north-1"}, "no partition of AWS has the region"},
		{&wire.TokenTerms{Service: "eks", Cluster: "x", Region: "eu-west-1.evil.example/"}, "no partition of AWS has the region"},
		{&wire.TokenTerms{Service: "eks", Cluster: "x", Region: "cn-north-1"}, "dev is in the partition aws, and the region cn-north-1"},
		{&wire.TokenTerms{Service: "rds"}, "not HOST:PORT"},
		{&wire.TokenTerms{Service: "rds", Host: "db.example.com", User: "p"}, "not HOST:PORT"},
		{&wire.TokenTerms{Service: "rds", Host: ":5432", User: "p"}, "not a host"},
		{&wire.TokenTerms{Service: "rds", Host: "db:", User: "p"}, "not a port"},
		{&wire.TokenTerms{Service: "rds", Host: "db:0", User: "p"}, "not a port"},
		{&wire.TokenTerms{Service: "rds", Host: "db:65536", User: "p"}, "not a port"},
		{&wire.TokenTerms{Service: "rds", Host: "db:+5", User: "p"}, "not a port"},
		{&wire.TokenTerms{Service: "rds", Host: "db:05", User: "p"}, "not a port"},
		{&wire.TokenTerms{Service: "rds", Host: "user@db:5432", User: "p"}, "not a host"},
		{&wire.TokenTerms{Service: "rds", Host: "db/?x=:5432", User: "p"}, "not a host"},
		{&wire.TokenTerms{Service: "rds", Host: "[fe80::1%eth0]:5432", User: "p"}, "not a host"},
		{&wire.TokenTerms{Service: "rds", Host: "db" + long + ":5432", User: "p"}, "not a host"},
		{&wire.TokenTerms{Service: "rds", Host: "db:5432"}, "not the user"},
		{&wire.TokenTerms{Service: "rds", Host: "db:5432", User: "a\x1b[2J"}, "not the user"},
		{&wire.TokenTerms{Service: "rds", Host: "db:5432", User: long}, "not the user"},
		{&wire.TokenTerms{Service: "codeartifact"}, "not a domain"},
		{&wire.TokenTerms{Service: "codeartifact", Domain: "Team"}, "not a domain"},
		{&wire.TokenTerms{Service: "codeartifact", Domain: "team", Account: "1234"}, "12 digits"},
	} {
		resp := h.ask(t, wire.Request{Verb: wire.MakeToken, Profile: "dev", TokenTerms: tt.terms})
		if !refusedAs(resp, fault.Usage) || !strings.Contains(resp.Err.Message, tt.says) || resp.Token != nil {
			t.Errorf("%+v: %v, want %q", tt.terms, resp.Err, tt.says)
		}
	}
	for _, more := range []wire.Request{{Also: []string{"security"}}, {Role: &wire.Role{ARN: "arn:aws:iam::444455556666:role/x"}}} {
		req := aToken("dev")
		req.Also, req.Role = more.Also, more.Role
		if resp := h.ask(t, req); !refusedAs(resp, fault.Usage) || resp.Token != nil {
			t.Errorf("%+v: %+v", more, resp)
		}
	}
	// A profile without a region.
	resp := h.ask(t, aToken("denied"))
	if !refusedAs(resp, fault.Config) || !strings.Contains(resp.Err.Message, "denied has no region") {
		t.Errorf("no region: %+v", resp.Err)
	}
	if opened, assumed := h.aws.calls(); opened+assumed > 0 {
		t.Errorf("%d sessions were opened", opened+assumed)
	}
	if resp := h.ask(t, aToken("none such")); !refusedAs(resp, fault.NotFound) {
		t.Errorf("no such profile: %+v", resp.Err)
	}
	denied := aToken("denied")
	denied.TokenTerms.Region = "eu-west-1"
	if resp := h.ask(t, denied); !refusedAs(resp, fault.Denied) || resp.Token != nil {
		t.Errorf("a role that is refused: %+v", resp.Err)
	}
	all := h.trail.all()
	if e := all[len(all)-1]; e.Event != "refused" || e.Delivery != audit.Token || e.Reason != "eks main" {
		t.Errorf("the audit log ends with %+v", e)
	}
}
