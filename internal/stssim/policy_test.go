package stssim

import (
	"strings"
	"testing"
)

// TestPoliciesOfAnOrganization reads policies from an organization file, and follows them.
func TestPoliciesOfAnOrganization(t *testing.T) {
	const text = `
[account security]
id = 111122223333
[account dev]
id = 222233334444
[user paul]
account = security
access_key_id = AKIADEMOPAULFAKE2222
secret_access_key = fake/demo+secret/of+paul/fake/demo+22222
tags = team=web
policies = [{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ["sts:AssumeRole", "iam:ListAccessKeys"],
 "Resource": "*", "Condition": {"StringEquals": {"aws:PrincipalTag/Team": "web"}}}}, {"Version": "2012-10-17",
 "Statement": [{"Effect": "Deny", "NotAction": "iam:*", "NotResource": "arn:aws:iam::222233334444:role/open"}]}]
[mfa paul]
account = security
user = paul
seed = BROKERDEMOSEEDBROKERDEMOSEEDBROKERDEMOSEEDBROKERDEMOSEEDBROKERDE
[role open]
accounts = dev
trust_policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
 "Principal": {"AWS": "arn:aws:iam::111122223333:root"}}]}
[role closed]
accounts = dev
trust = arn:aws:iam::111122223333:root
`
	org, err := ParseOrganization([]byte(strings.ReplaceAll(text, "\n ", " ")))
	if err != nil {
		t.Fatal(err)
	}
	sim, err := New(org)
	if err != nil {
		t.Fatal(err)
	}
	c := caller{sim: sim, keys: keysOf(org.User("security", "paul").Keys[0])}
	assume := func(role string, more ...string) reply {
		arn := "arn:aws:iam::222233334444:role/" + role
		return c.call("AssumeRole", append([]string{"RoleArn", arn, "RoleSessionName", "test"}, more...)...)
	}
	assume("open").want(t, "", "")
	assume("closed").want(t, "AccessDenied", "with an explicit deny in an identity-based policy")
	assume("open", "SourceIdentity", "paul").want(t, "AccessDenied", "not authorized to perform: sts:SetSourceIdentity")
	c.call("ListAccessKeys").want(t, "", "")
	c.call("CreateAccessKey").want(t, "AccessDenied", "because no identity-based policy allows the iam:CreateAccessKey action")
	c.call("GetSessionToken").want(t, "AccessDenied", "with an explicit deny")
	c.call("GetCallerIdentity").want(t, "", "")

	org.User("security", "paul").Tags = nil
	if sim, err = New(org); err != nil {
		t.Fatal(err)
	}
	c.sim = sim
	assume("open").want(t, "AccessDenied", "because no identity-based policy allows")
}

// TestPoliciesThatAreNotSimulated: a rule that would have no effect is an error.
func TestPoliciesThatAreNotSimulated(t *testing.T) {
	const (
		root     = "arn:aws:iam::111122223333:root"
		identity = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`
		trust    = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Principal": {"AWS": "` + root +
			`"}}}`
	)
	for text, isTrust := range map[string]bool{identity: false, trust: true} {
		if _, err := parsePolicies([]string{text}, isTrust); err != nil {
			t.Error(err)
		}
		if _, err := parsePolicies([]string{text}, !isTrust); err == nil {
			t.Errorf("accepted in the wrong place: %s", text)
		}
		for old, bad := range map[string]string{
			`"Version"`: `"Versions"`, "2012-10-17": "2008-10-17", `"Effect"`: `"Affect"`, "Allow": "allow", `"Action": "*",`: "",
			`"*"`: `7`, `"Statement": {`: `"Statement": {"Condition": {"DateLessThan": {"aws:CurrentTime": "2026-01-01"}}, `,
			`"Action"`: `"NotAction": "x", "Action"`, `}`: ``,
		} {
			if _, err := parsePolicies([]string{strings.Replace(text, old, bad, 1)}, isTrust); err == nil {
				t.Errorf("accepted: %s in the place of %s", bad, old)
			}
		}
	}
	misspelled := strings.Replace(identity, `"Action"`, `"Conditions": {}, "Action"`, 1)
	if _, err := parsePolicies([]string{misspelled}, false); err == nil {
		t.Error("a misspelled condition is accepted")
	}
	for _, principal := range []string{"*", "111122223333", "arn:aws:iam::*:root"} {
		if _, err := parsePolicies([]string{strings.Replace(trust, root, principal, 1)}, true); err == nil {
			t.Errorf("the principal %q is accepted", principal)
		}
	}
}

// TestConditions compares values with those of a request, present or not.
func TestConditions(t *testing.T) {
	q := query{context: map[string][]string{"name": {"paul"}, "yes": {"true"}, "n": {"59"}, "tags": {"a", "b"}}}
	for _, tt := range []struct {
		operator, key, value string
		want                 bool
	}{
		{"Bool", "yes", "true", true},
		{"Bool", "yes", "false", false},
		{"Bool", "none", "false", false},
		{"BoolIfExists", "none", "false", true},
		{"BoolIfExists", "yes", "false", false},
		{"StringEquals", "name", "paul", true},
		{"StringEquals", "name", "p*", false},
		{"StringEquals", "none", "", false},
		{"StringNotEquals", "name", "paul", false},
		{"StringNotEquals", "name", "x", true},
		{"StringNotEquals", "none", "x", true},
		{"StringLike", "name", "p*", true},
		{"StringLike", "none", "*", false},
		{"NumericLessThan", "n", "60", true},
		{"NumericLessThan", "n", "59", false},
		{"NumericLessThan", "name", "60", false},
		{"ForAllValues:StringEquals", "tags", "a", false},
		{"ForAllValues:StringEquals", "none", "a", true},
		{"ForAllValues:StringEquals", "name", "paul", true},
	} {
		if got := q.holds(tt.operator, tt.key, []string{tt.value}); got != tt.want {
			t.Errorf("%s %s %s: %v", tt.operator, tt.key, tt.value, got)
		}
	}
	if !q.holds("ForAllValues:StringEquals", "tags", []string{"b", "a"}) ||
		q.holds("StringNotEquals", "name", []string{"x", "paul"}) {
		t.Error("several values")
	}
	for value, want := range map[string]string{"a": "a", "${Name}/x": "paul/x", "${a": "${a"} {
		if got := q.fill(value); got != want {
			t.Errorf("%s is filled to %q", value, got)
		}
	}
	if got := q.fill("user/${none}"); wildcard(got, "user/") || wildcard(got, "user/paul") {
		t.Errorf("an unknown variable matches: %q", got)
	}
}
