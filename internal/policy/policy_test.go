package policy

import (
	"bytes"
	"encoding/json"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"broker/internal/testproc"
)

func TestMain(m *testing.M) { os.Exit(testproc.Run(m)) }

const (
	security  = "111122223333"
	devAdmin  = "arn:aws:iam::222233334444:role/allow-admin-from-security-account"
	prodAdmin = "arn:aws:iam::444455556666:role/allow-admin-from-security-account"
)

// must returns the document of a call that must not fail.
func must(t *testing.T) func(Document, error) Document {
	return func(d Document, err error) Document {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

func TestTrust(t *testing.T) {
	d := must(t)(Trust(Trusting{
		Partition:      "aws-cn",
		Account:        security,
		MFAAge:         12 * time.Hour,
		ExternalID:     "a/b:c",
		SourceIdentity: UserName,
		Tags:           []string{"team", "by", "team"},
	}))
	const want = `{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "AssumeWithMFA",
      "Effect": "Allow",
      "Principal": {
        "AWS": [
          "arn:aws-cn:iam::111122223333:root"
        ]
      },
      "Action": [
        "sts:AssumeRole",
        "sts:SetSourceIdentity",
        "sts:TagSession"
      ],
      "Condition": {
        "Bool": {
          "aws:MultiFactorAuthPresent": [
            "true"
          ]
        },
        "ForAllValues:StringEquals": {
          "aws:TagKeys": [
            "by",
            "team"
          ]
        },
        "NumericLessThan": {
          "aws:MultiFactorAuthAge": [
            "43200"
          ]
        },
        "StringEquals": {
          "sts:ExternalId": [
            "a/b:c"
          ]
        },
        "StringLike": {
          "sts:SourceIdentity": [
            "${aws:username}"
          ]
        }
      }
    }
  ]
}
`
	if got := string(d.JSON()); got != want {
		t.Errorf("the policy is\n%s", got)
	}
}

// TestBadValues gives values that would change what a policy says: wildcards, variables, quotes, other accounts.
func TestBadValues(t *testing.T) {
	trust := func(change func(*Trusting)) error {
		given := Trusting{Partition: "aws", Account: security}
		change(&given)
		_, err := Trust(given)
		return err
	}
	if err := trust(func(*Trusting) {}); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "*", "11112222333", "1111222233334", "11112222333x", "111122223333:root",
		"１１１１２２２２３３３３", "111122223333\n", `111122223333", "*`} {
		if trust(func(g *Trusting) { g.Account = bad }) == nil {
			t.Errorf("account %q is accepted", bad)
		}
	}
	for _, bad := range []string{"", "*", "aws*", "AWS", "aws-", "aws:iam", "aws-other"} {
		if trust(func(g *Trusting) { g.Partition = bad }) == nil {
			t.Errorf("partition %q is accepted", bad)
		}
		if _, err := SelfService(bad); err == nil {
			t.Errorf("partition %q is accepted", bad)
		}
	}
	for _, bad := range []string{"x", "a*", "a?b", "a b", "${aws:username}", "a\nb", `a"b`, strings.Repeat("x", 1225), "äö"} {
		if trust(func(g *Trusting) { g.ExternalID = bad }) == nil {
			t.Errorf("external ID %q is accepted", bad)
		}
	}
	for _, bad := range []string{"p", "p*", "**", "p?l", "${aws:userid}", "${aws:username}x", "a b", "a/b",
		strings.Repeat("x", 65)} {
		if trust(func(g *Trusting) { g.SourceIdentity = bad }) == nil {
			t.Errorf("source identity %q is accepted", bad)
		}
	}
	for _, bad := range []string{"", "*", "te?m", "${x}", "aws:x", "AWS:x", "a,b", `a"`, strings.Repeat("x", 129)} {
		if trust(func(g *Trusting) { g.Tags = []string{"team", bad} }) == nil {
			t.Errorf("tag %q is accepted", bad)
		}
	}
	for _, bad := range []time.Duration{-time.Hour, time.Second, 37 * time.Hour, time.Hour + time.Millisecond} {
		if trust(func(g *Trusting) { g.MFAAge = bad }) == nil {
			t.Errorf("age %s is accepted", bad)
		}
	}
	if trust(func(g *Trusting) { g.ExternalID = strings.Repeat("x", 1224); g.Tags = manyTags(40) }) == nil {
		t.Error("a trust policy of more than 2,048 characters is accepted")
	}
}

func manyTags(n int) (tags []string) {
	for i := range n {
		tags = append(tags, strings.Repeat("x", 20)+string(rune('a'+i%26))+strings.Repeat("y", i/26))
	}
	return tags
}

func TestRoleARN(t *testing.T) {
	for role, want := range map[string]string{
		devAdmin:                  devAdmin,
		"222233334444:admin":      "arn:aws-cn:iam::222233334444:role/admin",
		"222233334444:team/admin": "arn:aws-cn:iam::222233334444:role/team/admin",
		"arn:aws-us-gov:iam::000000000000:role/a": "arn:aws-us-gov:iam::000000000000:role/a",
	} {
		if got, err := RoleARN("aws-cn", role); got != want || err != nil {
			t.Errorf("%s is %q, %v", role, got, err)
		}
	}
	for _, bad := range []string{
		"", "admin", "*", "222233334444", "222233334444:", "222233334444:*", "222233334444:ad?in", "*:admin",
		"222233334444:role/${aws:username}", "222233334444:a b", "222233334444:a//b", "222233334444:a/", "22223333444:a",
		"222233334444:" + strings.Repeat("x", 65), "arn:aws:iam::222233334444:user/paul", "arn:aws:iam::*:role/a",
		"arn:aws:iam::222233334444:role/*", "arn:aws:iam::222233334444:role/", "arn:aws-no:iam::222233334444:role/a",
		"arn:aws:sts::222233334444:assumed-role/a/b", "arn:aws:iam::222233334444:role/a\nx", "222233334444:a\"",
	} {
		if got, err := RoleARN("aws", bad); err == nil {
			t.Errorf("role %q is accepted as %s", bad, got)
		}
		if _, err := Group([]string{devAdmin, bad}); err == nil && !strings.HasPrefix(bad, "222233334444:admin") {
			t.Errorf("role %q is accepted in a group", bad)
		}
	}
}

// TestReadOnlyDeniesNewSecrets: a broader policy gives the read-only role no secret of another principal.
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsidentityandaccessmanagementiam.html
func TestReadOnlyDeniesNewSecrets(t *testing.T) {
	for _, action := range []string{
		"iam:CreateAccessKey", "iam:CreateServiceSpecificCredential", "iam:ResetServiceSpecificCredential",
		"iam:UpdateLoginProfile", "iam:ChangePassword", "iam:ResyncMFADevice", "iam:AcceptDelegationRequest",
		"iam:SetDefaultPolicyVersion", "iam:PassRole", "sts:AssumeRole", "sts:GetFederationToken", "sts:GetWebIdentityToken",
		"sts:GetDelegatedAccessToken", "iam:SendDelegationToken", "iam:AssociateDelegationRequest",
	} {
		denied := false
		for _, s := range must(t)(ReadOnly()).Statement {
			for _, pattern := range s.Action {
				match, err := path.Match(pattern, action)
				denied = denied || match && err == nil && s.Effect == "Deny"
			}
		}
		if !denied {
			t.Errorf("%s is not denied", action)
		}
	}
}

func TestGroupIsSortedAndLimited(t *testing.T) {
	a := must(t)(Group([]string{prodAdmin, devAdmin, prodAdmin})).JSON()
	b := must(t)(Group([]string{devAdmin, prodAdmin})).JSON()
	if !bytes.Equal(a, b) {
		t.Errorf("the order matters:\n%s\n%s", a, b)
	}
	var many []string
	for i := range 200 {
		many = append(many, devAdmin+"-"+strings.Repeat("x", i%20)+string(rune('a'+i/20)))
	}
	if _, err := Group(many); err == nil || !strings.Contains(err.Error(), "AWS allows 6144") {
		t.Errorf("200 roles: %v", err)
	}
}

// TestDocumentsAreJSON reads each document with another type, and compares what a person would see in Terraform.
func TestDocumentsAreJSON(t *testing.T) {
	for name, d := range documents(t) {
		var read map[string]any
		if err := json.Unmarshal(d.JSON(), &read); err != nil || read["Version"] != "2012-10-17" {
			t.Errorf("%s: %v, %v", name, read, err)
		}
		sids := map[string]bool{}
		for _, s := range d.Statement {
			if !regexp.MustCompile(`^[A-Za-z0-9]+$`).MatchString(s.Sid) || sids[s.Sid] {
				t.Errorf("%s: the Sid %q", name, s.Sid)
			}
			sids[s.Sid] = true
		}
		text := string(d.Terraform(name))
		if strings.Count(text, "{") != strings.Count(text, "}") ||
			strings.Count(text, "${") != strings.Count(text, "$${") {
			t.Errorf("%s:\n%s", name, text)
		}
	}
}

// documents returns one document of each kind.
func documents(t *testing.T) map[string]Document {
	t.Helper()
	return map[string]Document{
		"trust": must(t)(Trust(Trusting{
			Partition: "aws", Account: security, MFAAge: time.Hour, ExternalID: "x:y", SourceIdentity: UserName,
			Tags: []string{"team"},
		})),
		"group":        must(t)(Group([]string{prodAdmin, devAdmin})),
		"self_service": must(t)(SelfService("aws")),
		"read_only":    must(t)(ReadOnly()),
	}
}
