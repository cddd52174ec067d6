package stssim

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

const podARN = "arn:aws:iam::222233334444:role/pod"

// identityToken returns a token of the issuer of the role pod.
func identityToken(issuer string, expires time.Time) string {
	payload := fmt.Sprintf(`{"iss": %q, "sub": "system:serviceaccount:web:shop", "aud": "sts.amazonaws.com", "exp": %d}`,
		issuer, expires.Unix())
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2lnbmF0dXJl"
}

// TestAssumeRoleWithWebIdentity: the bearer of a token gets a session without a signature, and no record has the token.
func TestAssumeRoleWithWebIdentity(t *testing.T) {
	sim := newDemo(t)
	nobody := caller{sim: sim}
	const issuer = "https://oidc.demo.example/cluster"
	good := identityToken(issuer, sim.Now().Add(time.Hour))
	ask := func(role, token string, more ...string) reply {
		return nobody.call(webIdentityAction, append([]string{"RoleArn", role, "RoleSessionName", "shop",
			"WebIdentityToken", token}, more...)...)
	}
	opened := ask(podARN, good, "DurationSeconds", "900")
	opened.want(t, "", "")
	if got := opened.field("SubjectFromWebIdentityToken"); got != "system:serviceaccount:web:shop" {
		t.Errorf("the subject is %q", got)
	}
	who := nobody.with(opened).call("GetCallerIdentity")
	who.want(t, "", "")
	if got := who.field("Arn"); got != "arn:aws:sts::222233334444:assumed-role/pod/shop" {
		t.Errorf("the session is of %s", got)
	}
	for _, tt := range []struct {
		reply
		code, message string
	}{
		{ask(podARN, identityToken("https://evil.example", sim.Now().Add(time.Hour))), "AccessDenied",
			"Not authorized to perform sts:AssumeRoleWithWebIdentity"},
		{ask("arn:aws:iam::222233334444:role/build", good), "AccessDenied", "Not authorized"},
		{ask(podARN, identityToken(issuer, sim.Now().Add(-time.Second))), "ExpiredTokenException", "Token expired"},
		{ask(podARN, "nonsense"), "InvalidIdentityToken", "not a valid JWT"},
		{ask(podARN, good, "DurationSeconds", "7200"), "ValidationError", "MaxSessionDuration"},
		{nobody.call("GetCallerIdentity"), "MissingAuthenticationToken", "missing"},
	} {
		tt.want(t, tt.code, tt.message)
	}
	records, err := json.Marshal(sim.Requests())
	if err != nil || strings.Contains(string(records), "c2lnbmF0dXJl") {
		t.Errorf("the records have a token, %v", err)
	}
}
