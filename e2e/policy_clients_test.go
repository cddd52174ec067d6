//go:build clients

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// policyCommands are commands that print one policy of each kind, by the names of the data sources.
var policyCommands = map[string][]string{
	"trust": {"trust", "111122223333", "--mfa-age", "4h", "--external-id", "a/b", "--source-identity", "${aws:username}",
		"--session-tag", "team", "--session-tag", "by"},
	"group":        {"group", "222233334444:admin", "444455556666:team/read-only"},
	"self_service": {"self-service"},
	"read_only":    {"read-only"},
}

// awsEnvironment lets the AWS CLI of a house call a server as the administrator of its first account, as in CloudShell:
// with the credentials of a container.
func awsEnvironment(t *testing.T, h *house, url string) string {
	t.Helper()
	aws, err := exec.LookPath("aws")
	if err != nil {
		missing(t, "the AWS CLI")
	}
	container := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"AccessKeyId": "AKIAIOSFODNN7EXAMPLE", "SecretAccessKey": "secret", "Token": "token",
			"Expiration": "2999-01-01T00:00:00Z"}`)
	}))
	t.Cleanup(container.Close)
	h.env = append(h.env, "AWS_CONTAINER_CREDENTIALS_FULL_URI="+container.URL, "AWS_ENDPOINT_URL="+url,
		"AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-1", "AWS_PAGER=")
	if root := os.Getenv("PYENV_ROOT"); root != "" {
		h.env = append(h.env, "PYENV_ROOT="+root)
	} else if home, err := os.UserHomeDir(); err == nil && strings.Contains(aws, "/.pyenv/") {
		h.env = append(h.env, "PYENV_ROOT="+filepath.Join(home, ".pyenv"))
	}
	return aws
}

// TestClientsAccountsFromNothing types the page for new accounts, with moto in the place of AWS. moto checks the form
// of each policy, and keeps the accounts apart. TestDocs runs the commands of Broker that need a session.
func TestClientsAccountsFromNothing(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs/accounts-from-nothing.md"))
	must(t, err)
	h := newHouse(t)
	aws := awsEnvironment(t, h, startMoto(t))
	var listed struct{ Accounts []struct{ Id, Name string } } //nolint:revive // the name in the answer
	if r := h.run(aws, "organizations", "list-accounts"); r.code != 0 || !strings.Contains(r.stdout, `"Accounts": []`) {
		t.Skipf("SKIPPED, NOT PROVEN: this AWS CLI does not read AWS_ENDPOINT_URL, or moto has an organization: %v", r)
	}
	ids := []string{"555566667777", "123456789012"} // moto's first account
	commands := 0
	block := regexp.MustCompile("(?ms)(`([a-z-]+\\.json)`:\n\n)?^```(console|ini|json)\n(.*?)^```")
	for _, m := range block.FindAllStringSubmatch(string(page), -1) {
		text := strings.NewReplacer(ids...).Replace(m[4])
		switch {
		case m[3] == "json":
			must(t, os.WriteFile(filepath.Join(h.dir, m[2]), []byte(text), 0o600))
			continue
		case m[3] == "ini":
			if strings.HasPrefix(text, "# ~/.aws/config of CloudShell\n") {
				must(t, h.write(h.awsConfig(), text))
			}
			continue
		}
		typed := slices.DeleteFunc(typedIn(text), func(c string) bool {
			return strings.HasPrefix(c, "broker ") && !strings.HasPrefix(c, "broker policy ") ||
				c == "broker policy group > roles.json"
		})
		commands += len(typed)
		script := strings.Join(typed, "\n")
		cmd := h.command("/bin/bash", "-euo", "pipefail", "-c", script)
		if r := finishWithin(5*time.Minute, cmd); r.code != 0 { // each call of the AWS CLI takes seconds
			t.Fatalf("%s\n%v", script, r)
		}
		if strings.Contains(text, "create-account") {
			must(t, json.Unmarshal([]byte(h.ok(t, aws, "organizations", "list-accounts")), &listed))
			for _, a := range listed.Accounts {
				if old := map[string]string{
					"security": "111122223333", "dev": "222233334444", "stage": "333344445555", "prod": "444455556666",
				}[a.Name]; old != "" {
					ids = append(ids, old, a.Id)
				}
			}
		}
	}
	if commands < 35 || len(ids) != 10 {
		t.Fatalf("%d commands, and ids %q: the test is void", commands, ids)
	}

	// What AWS then has is what Broker printed.
	for file, stored := range map[string][]string{
		"trust.json": {"get-role", "--role-name", "allow-admin-from-security-account", "--profile", "dev", "--query",
			"Role.AssumeRolePolicyDocument"},
		"stay.json": {"get-role-policy", "--role-name", "allow-read-only-from-security-account", "--policy-name", "stay",
			"--profile", "prod", "--query", "PolicyDocument"},
		"self-service.json": {"get-group-policy", "--group-name", "people", "--policy-name", "self-service", "--profile",
			"security", "--query", "PolicyDocument"},
		"roles.json": {"get-group-policy", "--group-name", "people", "--policy-name", "roles", "--profile", "security",
			"--query", "PolicyDocument"},
	} {
		printed, err := os.ReadFile(filepath.Join(h.dir, file))
		must(t, err)
		if got := h.ok(t, aws, append([]string{"iam"}, stored...)...); !sameJSON(t, got, string(printed)) {
			t.Errorf("%s: AWS has %s", file, got)
		}
	}
	tags := h.ok(t, aws, "iam", "list-user-tags", "--user-name", "paul", "--profile", "security", "--query", "Tags")
	if !sameJSON(t, tags, "[]") {
		t.Errorf("the user keeps the tags %s", tags)
	}
}

// TestClientsPoliciesAreAccepted gives each document to moto, which refuses one with an element that AWS would refuse.
func TestClientsPoliciesAreAccepted(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	aws := awsEnvironment(t, h, startMoto(t))
	if r := h.run(aws, "iam", "list-users"); r.code != 0 {
		t.Skipf("SKIPPED, NOT PROVEN: this AWS CLI does not read AWS_ENDPOINT_URL: %v", r)
	}
	for name, args := range policyCommands {
		document := h.ok(t, "broker", append([]string{"policy"}, args...)...)
		create := func(document string) result {
			if name == "trust" { // moto checks a trust policy only here
				return h.run(aws, "iam", "update-assume-role-policy", "--role-name", "a-role", "--policy-document", document)
			}
			return h.run(aws, "iam", "create-policy", "--policy-name", name, "--policy-document", document)
		}
		if name == "trust" {
			h.ok(t, aws, "iam", "create-role", "--role-name", "a-role", "--assume-role-policy-document", document)
		}
		wrong := strings.Replace(document, `"Effect"`, `"Affect"`, 1)
		if name == "trust" {
			wrong = strings.Replace(document, "sts:AssumeRole", "s3:GetObject", 1)
		}
		if r := create(wrong); !strings.Contains(r.stderr, "MalformedPolicyDocument") {
			t.Errorf("%s: moto accepts a wrong document, so this test proves nothing: %v", name, r)
		}
		if r := create(document); r.code != 0 {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// TestClientsPolicyTerraform lets Terraform read the data sources, format them and turn them into JSON. The result must
// be the document that Broker prints as JSON.
func TestClientsPolicyTerraform(t *testing.T) {
	terraform, err := exec.LookPath("terraform")
	mirror := awsProvider()
	if err != nil || mirror == "" {
		t.Skip("SKIPPED, NOT PROVEN: Terraform with its AWS provider is not installed, and no distribution has it")
	}
	h := newHouse(t)
	dir := filepath.Join(h.dir, "terraform")
	must(t, os.Mkdir(dir, 0o755))
	main := `terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  region                      = "eu-west-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}

resource "aws_iam_role" "admin" {
  name               = "allow-admin-from-security-account"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy" "stay" {
  role   = aws_iam_role.admin.name
  policy = data.aws_iam_policy_document.read_only.json
}

resource "aws_iam_group_policy" "people" {
  for_each = {
    roles        = data.aws_iam_policy_document.group.json
    self_service = data.aws_iam_policy_document.self_service.json
  }
  group  = "people"
  policy = each.value
}
`
	for name, args := range policyCommands {
		main += fmt.Sprintf("\noutput %q {\n  value = data.aws_iam_policy_document.%s.json\n}\n", name, name)
		text := h.ok(t, "broker", append(append([]string{"policy"}, args...), "--format", "terraform")...)
		must(t, os.WriteFile(filepath.Join(dir, name+".tf"), []byte(text), 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, "main.tf"), []byte(main), 0o600))
	run := h.terraform(t, terraform, dir, mirror)
	run("fmt", "-check", "-diff")
	run("init", "-no-color")
	run("validate", "-no-color")
	run("plan", "-no-color", "-out=plan", "-refresh=false")
	var plan struct {
		Planned struct {
			Outputs map[string]struct{ Value string }
		} `json:"planned_values"`
	}
	must(t, json.Unmarshal([]byte(run("show", "-json", "plan")), &plan))
	for name, args := range policyCommands {
		want := h.ok(t, "broker", append([]string{"policy"}, args...)...)
		if got := plan.Planned.Outputs[name].Value; got == "" || !sameJSON(t, got, want) {
			t.Errorf("%s: Terraform makes\n%s\nof\n%s", name, got, want)
		}
	}
}

// sameJSON compares two documents. In a policy, a list of one element means the same as the element alone, and the
// order of a list means nothing.
func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var read [2]any
	for i, text := range []string{a, b} {
		must(t, json.Unmarshal([]byte(text), &read[i]))
		read[i] = normal(read[i])
	}
	return reflect.DeepEqual(read[0], read[1])
}

func normal(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key := range v {
			v[key] = normal(v[key])
		}
	case []any:
		for i := range v {
			v[i] = normal(v[i])
		}
		if len(v) == 1 {
			return v[0]
		}
		slices.SortFunc(v, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	return value
}

// TestClientsPolicyEvaluation evaluates the documents with an implementation of IAM's rules that we did not write. It
// also knows which resources and condition keys an action has. What it says of each request is what the tests of
// internal/policy see in the simulator.
func TestClientsPolicyEvaluation(t *testing.T) {
	t.Parallel()
	const (
		self   = "arn:aws:iam::111122223333:user/paul"
		other  = "arn:aws:iam::111122223333:user/robot"
		device = "arn:aws:iam::111122223333:mfa/paul"
		dev    = "arn:aws:iam::222233334444:role/admin"
	)
	h := newHouse(t)
	node := append(installed("node"), "")[0]
	if script := ours("policies.js", "@cloud-copilot/iam-simulate")(t, h); node == "" || script == "" {
		missing(t, "@cloud-copilot/iam-simulate")
	}
	type request struct {
		Principal string            `json:"principal"`
		Action    string            `json:"action"`
		Resource  string            `json:"resource"`
		Account   string            `json:"account"`
		Context   map[string]string `json:"context"`
		Policies  []json.RawMessage `json:"policies"`
		Trust     json.RawMessage   `json:"trust,omitempty"`
	}
	printed := func(args ...string) json.RawMessage {
		return json.RawMessage(h.ok(t, "broker", append([]string{"policy"}, args...)...))
	}
	everything := json.RawMessage(
		`{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`)
	users := []json.RawMessage{printed("self-service"), printed("group", "222233334444:admin")}
	reader := []json.RawMessage{everything, printed("read-only")}
	const (
		allowed  = "Allowed"
		denied   = "ExplicitlyDenied"
		silent   = "ImplicitlyDenied"
		hasMFA   = "aws:MultiFactorAuthPresent"
		age      = "aws:MultiFactorAuthAge"
		mayEnrol = "aws:PrincipalTag/enroll-mfa"
	)
	var requests []request
	var wants []string
	add := func(want, action, resource string, context ...string) *request {
		r := request{Principal: self, Action: action, Resource: resource, Account: "111122223333", Policies: users,
			Context: map[string]string{"aws:username": "paul"}}
		for i := 0; i < len(context); i += 2 {
			r.Context[context[i]] = context[i+1]
		}
		requests, wants = append(requests, r), append(wants, want)
		return &requests[len(requests)-1]
	}
	for _, action := range []string{"CreateAccessKey", "ListAccessKeys", "UpdateAccessKey", "DeleteAccessKey",
		"GetAccessKeyLastUsed", "DeactivateMFADevice"} {
		add(denied, "iam:"+action, self)
		add(denied, "iam:"+action, self, mayEnrol, "true")
		add(denied, "iam:"+action, self, hasMFA, "false")
		add(allowed, "iam:"+action, self, hasMFA, "true")
		add(silent, "iam:"+action, other, hasMFA, "true")
	}
	for action, of := range map[string]string{
		"iam:CreateVirtualMFADevice": device, "iam:DeleteVirtualMFADevice": device, "iam:EnableMFADevice": self,
	} {
		add(denied, action, of)
		add(denied, action, of, mayEnrol, "false")
		add(allowed, action, of, mayEnrol, "true")
		add(allowed, action, of, hasMFA, "true")
		add(silent, action, strings.Replace(of, "paul", "robot", 1), mayEnrol, "true")
	}
	add(allowed, "iam:ListMFADevices", self)
	add(silent, "iam:TagUser", self, hasMFA, "true")
	add(denied, "iam:TagUser", self)
	assume := func(want string, trust json.RawMessage, context ...string) *request {
		r := add(want, "sts:AssumeRole", dev, context...)
		r.Account, r.Trust = "222233334444", trust
		return r
	}
	plain := printed("trust", "111122223333")
	assume(allowed, plain, hasMFA, "true")
	assume(denied, plain)
	assume(denied, plain, hasMFA, "false")
	assume(silent, plain).Policies = users[1:] // without the policy of the user, the trust policy refuses
	assume(silent, plain, hasMFA, "true").Policies = users[:1]
	assume(silent, plain, hasMFA, "true").Principal = "arn:aws:iam::333344445555:user/paul"
	strict := printed("trust", "111122223333", "--mfa-age", "1h", "--external-id", "an-id",
		"--source-identity", "${aws:username}")
	assume(allowed, strict, hasMFA, "true", age, "3599", "sts:ExternalId", "an-id", "sts:SourceIdentity", "paul")
	assume(silent, strict, hasMFA, "true", age, "3600", "sts:ExternalId", "an-id", "sts:SourceIdentity", "paul")
	assume(silent, strict, hasMFA, "true", age, "3599", "sts:ExternalId", "another", "sts:SourceIdentity", "paul")
	assume(silent, strict, hasMFA, "true", age, "3599", "sts:ExternalId", "an-id", "sts:SourceIdentity", "robot")
	assume(silent, strict, hasMFA, "true", age, "3599", "sts:ExternalId", "an-id")
	for _, action := range []string{"sts:AssumeRole", "iam:PassRole", "iam:UpdateAssumeRolePolicy", "iam:CreateRole"} {
		for policies, want := range map[int]string{1: allowed, 2: denied} {
			r := add(want, action, "arn:aws:iam::444455556666:role/admin")
			r.Principal = "arn:aws:sts::444455556666:assumed-role/reader/paul"
			r.Account, r.Policies, r.Context = "444455556666", reader[:policies], map[string]string{}
			if action == "sts:AssumeRole" {
				r.Trust = json.RawMessage(`{"Version": "2012-10-17", "Statement": {"Effect": "Allow",
					"Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::444455556666:role/reader"}}}`)
			}
		}
	}

	text, err := json.Marshal(requests)
	must(t, err)
	h.env = append(h.env, "NODE_PATH="+filepath.Join(clientsDir, "node_modules"))
	script, err := filepath.Abs("testdata/clients/policies.js")
	must(t, err)
	r := h.runWith(string(text), node, script)
	var results []string
	if err := json.Unmarshal([]byte(r.stdout), &results); err != nil || len(results) != len(wants) || len(wants) < 60 {
		t.Fatalf("%d results of %d: %v", len(results), len(wants), r)
	}
	for i, result := range results {
		if q := requests[i]; result != wants[i] {
			t.Errorf("%s of %s on %s with %v: %s, want %s", q.Action, q.Principal, q.Resource, q.Context, result, wants[i])
		}
	}
}
