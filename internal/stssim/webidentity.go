package stssim

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// Errors of AssumeRoleWithWebIdentity.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
var (
	errBadIdentity = &apiError{http.StatusBadRequest, "InvalidIdentityToken",
		"The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"}
	errWebIdentity = accessDenied("Not authorized to perform sts:AssumeRoleWithWebIdentity")
)

// claims are the parts of a web identity token that the simulator reads.
type claims struct {
	Issuer   string  `json:"iss"`
	Subject  string  `json:"sub"`
	Audience string  `json:"aud"`
	Expires  float64 `json:"exp"`
}

// claimsOf parses a token. It does not check the signature: the simulator knows no provider.
func claimsOf(token string) (c claims, err *apiError) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, errBadIdentity
	}
	text, failed := base64.RawURLEncoding.DecodeString(parts[1])
	if failed != nil || json.Unmarshal(text, &c) != nil || c.Issuer == "" || c.Subject == "" {
		return c, errBadIdentity
	}
	return c, nil
}

// webIdentityRole is the result of AssumeRoleWithWebIdentity.
type webIdentityRole struct {
	assumedRole
	SubjectFromWebIdentityToken string
	Audience                    string
	Provider                    string
}

// provider returns the ARN of the provider whose tokens the role trusts.
func (r *role) provider() string {
	return r.account.arn("iam", "oidc-provider/"+strings.TrimPrefix(r.WebIdentity, "https://"))
}

// assumeRoleWithWebIdentity opens a session of a role for the owner of a token.
func (w *world) assumeRoleWithWebIdentity(c *call) (any, *apiError) {
	var cs constraints
	if cs.required(c.params, "RoleArn", "roleArn") {
		cs.text(c.get("RoleArn"), "roleArn", 20, 2048, anyAlphabet)
	}
	if cs.required(c.params, "RoleSessionName", "roleSessionName") {
		cs.text(c.get("RoleSessionName"), "roleSessionName", 2, 64, nameAlphabet)
	}
	if token := c.get("WebIdentityToken"); cs.required(c.params, "WebIdentityToken", "webIdentityToken") &&
		(len(token) < 4 || len(token) > 20_000) { // AWS repeats no token in an error either
		cs.fail("'***'", "webIdentityToken", "have length between 4 and 20000")
	}
	length := cs.seconds(c.get("DurationSeconds"), 43_200, 3_600)
	cs.policy(c)
	policies := cs.policies(c)
	if err := cs.err(); err != nil {
		return nil, err
	}
	packed, err := packedSize(c)
	if err != nil {
		return nil, err
	}
	token, err := claimsOf(c.get("WebIdentityToken"))
	if err != nil {
		return nil, err
	}
	if ends := time.Unix(int64(token.Expires), 0); !c.now.Before(ends) {
		return nil, &apiError{http.StatusBadRequest, "ExpiredTokenException", "Token expired: current date/time " +
			xmlTime(c.now) + " must be before the expiration date/time " + xmlTime(ends.UTC())}
	}
	target := w.roles[c.get("RoleArn")]
	if target == nil || target.WebIdentity == "" || target.WebIdentity != token.Issuer {
		return nil, errWebIdentity
	}
	if err := known(policies, target.account); err != nil {
		return nil, err
	}
	if length > target.maxDuration {
		return nil, errTooLong
	}
	session := c.sessionOf(target, policies)
	result := webIdentityRole{SubjectFromWebIdentityToken: token.Subject, Audience: token.Audience,
		Provider: target.provider()}
	result.Credentials, result.PackedPolicySize = w.open(session, length, c.now).xml(), packed
	result.AssumedRoleUser.Arn, result.AssumedRoleUser.AssumedRoleID = session.arn, session.userID
	return result, nil
}
