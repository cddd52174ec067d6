package cli

import (
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/wire"
)

func aToken() wire.Response {
	return wire.Response{Token: &wire.Token{Token: secret.New("secret/token="), User: "AWS",
		Expires: time.Date(2026, 1, 2, 3, 18, 5, 0, time.FixedZone("", 3600))}}
}

// TestToken checks what each command asks for, and what it prints. A test with the AWS CLI compares every byte.
func TestToken(t *testing.T) {
	document := func(version string) string {
		return "{\n    \"kind\": \"ExecCredential\",\n    \"apiVersion\": \"client.authentication.k8s.io/" + version +
			"\",\n    \"spec\": {},\n    \"status\": {\n        \"expirationTimestamp\": \"2026-01-02T02:18:05Z\",\n" +
			"        \"token\": \"secret/token=\"\n    }\n}\n\n"
	}
	for _, tt := range []struct {
		args, info string
		terms      wire.TokenTerms
		stdout     string
		stderr     string // a text in it; if it is empty, stderr is empty
	}{
		{"token eks p --cluster main", "", wire.TokenTerms{Service: "eks", Cluster: "main"}, document("v1beta1"), ""},
		{"token eks --cluster main prod --region us-east-2",
			`{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":true}}`,
			wire.TokenTerms{Service: "eks", Cluster: "main", Region: "us-east-2"}, document("v1"), ""},
		{"token eks prod --cluster main", `{"apiVersion":"client.authentication.k8s.io/v1beta1"}`,
			wire.TokenTerms{Service: "eks", Cluster: "main"}, document("v1beta1"), ""},
		{"token eks prod --cluster main", `{"apiVersion":"client.authentication.k8s.io/v1alpha1"}`,
			wire.TokenTerms{Service: "eks", Cluster: "main"}, document("v1alpha1"), "deprecated"},
		{"token eks prod --cluster main", `{"apiVersion":"client.authentication.k8s.io/v7\u001b"}`,
			wire.TokenTerms{Service: "eks", Cluster: "main"}, document("v1beta1"), "a version that Broker does not know"},
		{"token eks prod --cluster main", "not JSON", wire.TokenTerms{Service: "eks", Cluster: "main"}, document("v1beta1"), "is not JSON"},
		{"token rds prod --host db:5432 --user paul", "", wire.TokenTerms{Service: "rds", Host: "db:5432", User: "paul"}, "secret/token=\n", ""},
		{"token codeartifact prod --domain team --owner 123456789012 --region eu-north-1", "",
			wire.TokenTerms{Service: "codeartifact", Domain: "team", Account: "123456789012", Region: "eu-north-1"}, "secret/token=\n", ""},
	} {
		t.Setenv("KUBERNETES_EXEC_INFO", tt.info)
		daemon := &scripted{answers: []any{aToken()}}
		stdout, stderr, code := command(t, daemon, "", strings.Fields(tt.args)...)
		if code != 0 || stdout != tt.stdout || tt.stderr == "" && stderr != "" || !strings.Contains(stderr, tt.stderr) {
			t.Errorf("%s, %s: exit %d, %s%s", tt.args, tt.info, code, stdout, stderr)
		}
		if daemon.verbs() != "token prod" || *daemon.asked[0].TokenTerms != tt.terms {
			t.Errorf("%s asks for %s %+v", tt.args, daemon.verbs(), daemon.asked[0].TokenTerms)
		}
	}
}

// TestTokenRefused: what is missing is said before the daemon is asked, and nothing is printed for an answer without a
// token.
func TestTokenRefused(t *testing.T) {
	denied := wire.Response{Err: fault.New(fault.Denied, "AWS said no")}
	for _, tt := range []struct {
		args    []string
		answers []any
		stderr  string
		code    int
	}{
		{[]string{"eks", "prod"}, nil, "token eks needs --cluster", 2},
		{[]string{"eks", "prod", "--cluster", ""}, nil, "--cluster is empty", 2},
		{[]string{"eks", "prod", "--cluster", "x", "--region", ""}, nil, "--region is empty", 2},
		{[]string{"rds", "prod", "--host", "db:1"}, nil, "token rds needs --user", 2},
		{[]string{"rds", "prod", "--user", "p"}, nil, "token rds needs --host", 2},
		{[]string{"codeartifact", "prod"}, nil, "token codeartifact needs --domain", 2},
		{[]string{"codeartifact", "prod", "--domain", "x", "--owner", ""}, nil, "--owner is empty", 2},
		{[]string{"eks", "--cluster", "x"}, nil, "token eks needs a profile", 2},
		{[]string{"eks", "", "--cluster", "x"}, nil, "needs one profile", 2},
		{[]string{"eks", "prod", "dev", "--cluster", "x"}, nil, "needs one profile", 2},
		{[]string{"eks", "nobody", "--cluster", "x"}, nil, "broker profiles list", 3},
		{[]string{"eks", "prod", "--cluster", "x"}, []any{denied}, "AWS said no", 6},
		{[]string{"eks", "prod", "--cluster", "x"}, []any{wire.Response{}}, "has no token", 5},
		{[]string{"s3"}, nil, "s3", 2},
	} {
		stdout, stderr, code := command(t, &scripted{answers: tt.answers}, "", append([]string{"token"}, tt.args...)...)
		if code != tt.code || stdout != "" || !strings.Contains(stderr, tt.stderr) {
			t.Errorf("%q: exit %d, %s%s", tt.args, code, stdout, stderr)
		}
	}
}
