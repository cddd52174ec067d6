//go:build unix

package exchange

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/stssim"
)

const (
	ecrCall          = "ecr:GetAuthorizationToken"
	codeArtifactCall = "codeartifact:GetAuthorizationToken"
)

// TestSimulatedTokens: ECR and CodeArtifact give tokens in the region of the endpoint, and their refusals are faults.
func TestSimulatedTokens(t *testing.T) {
	sim, c := simulator(t)
	ctx := background(t)
	opened, err := c.Call(ctx, simKeys(), simSession(), secret.New(sim.FreshCode(simSerial)))
	if err != nil {
		t.Fatal(err)
	}
	dev, err := c.Assume(ctx, opened, simRole(simDev))
	if err != nil {
		t.Fatal(err)
	}
	keys := Keys{dev.AccessKeyID, dev.SecretAccessKey, dev.SessionToken}
	endpoint := profiles.Endpoint{Region: "ap-southeast-2"}
	ofECR, err := c.ECRToken(ctx, keys, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	ofDomain, err := c.CodeArtifactToken(ctx, keys, endpoint, "team", "")
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.CodeArtifactToken(ctx, keys, endpoint, "team", "999988887777")
	if err != nil {
		t.Fatal(err)
	}
	for i, issued := range sim.Tokens() {
		got := []ServiceToken{ofECR, ofDomain, other}[i]
		if issued.Token != got.Token.Reveal() || !issued.Expires.Equal(got.Expires) || issued.Caller != dev.Subject ||
			issued.Region != "ap-southeast-2" || issued.Owner != []string{"", "222233334444", "999988887777"}[i] {
			t.Errorf("%+v is not %+v", got, issued)
		}
	}
	if ofECR.User != "AWS" || ofDomain.User != "" || !ofDomain.Expires.Equal(dev.Expires) {
		t.Errorf("%+v, %+v", ofECR, ofDomain)
	}

	calls := map[string]func() error{
		ecrCall: func() error {
			_, err := c.ECRToken(ctx, keys, endpoint)
			return err
		},
		codeArtifactCall: func() error {
			_, err := c.CodeArtifactToken(ctx, keys, endpoint, "team", "")
			return err
		},
	}
	for action, call := range calls {
		for _, tt := range []struct {
			fault stssim.Fault
			kind  fault.Kind
			says  string
		}{
			{stssim.Fault{Kind: stssim.ErrorAnswer, Code: "AccessDeniedException", Message: "no", Status: 403}, fault.Denied, "AWS denied it: no"},
			{stssim.Fault{Kind: stssim.ErrorAnswer, Code: "ResourceNotFoundException", Message: "no domain", Status: 404}, fault.Failed, "no domain"},
			{stssim.Fault{Kind: stssim.ErrorAnswer, Code: "ExpiredTokenException", Message: "over", Status: 403}, fault.ExpiredSession, "has expired"},
			{stssim.Fault{Kind: stssim.Throttle, Times: 3}, fault.Throttled, "AWS asks to slow down"},
			{stssim.Fault{Kind: stssim.Status, Status: 503, Times: 3}, fault.Network, "answered 503"},
			{stssim.Fault{Kind: stssim.Garbage}, fault.BadAnswer, "is not an answer of"},
			{stssim.Fault{Kind: stssim.EmptyBody}, fault.BadAnswer, "with nothing"},
			{stssim.Fault{Kind: stssim.Redirect, URL: "http://127.0.0.1:1"}, fault.BadAnswer, "redirect"},
			{stssim.Fault{Kind: stssim.MissingFields, Fields: []string{"authorizationToken"}}, fault.BadAnswer, "has no authorizationToken"},
			{stssim.Fault{Kind: stssim.MissingFields, Fields: []string{"expiration", "expiresAt"}}, fault.BadAnswer, "has no expiration"},
		} {
			tt.fault.Action = action
			sim.ClearFaults()
			sim.Fault(tt.fault)
			err := call()
			wantFault(t, err, tt.kind, tt.says)
			hasNoSecret(t, err, keys)
		}
		// Two lost answers are worth another attempt.
		sim.ClearFaults()
		sim.Fault(stssim.Fault{Action: action, Kind: stssim.DropBefore, Times: 2})
		if err := call(); err != nil {
			t.Error(err)
		}
	}
	for _, region := range []string{"", "aws-global", "not a region"} {
		_, err := c.ECRToken(ctx, keys, profiles.Endpoint{Region: region})
		wantFault(t, err, fault.Config, "region")
		_, err = c.EKSToken(ctx, keys, profiles.Endpoint{Region: region}, "main")
		wantFault(t, err, fault.Config, "region")
		_, err = c.RDSToken(ctx, keys, profiles.Endpoint{Region: region}, "db:5432", "paul")
		wantFault(t, err, fault.Config, "region")
	}
}

// hasNoSecret fails the test if an error has a secret of the keys.
func hasNoSecret(t *testing.T, err error, keys Keys) {
	t.Helper()
	for _, secret := range []string{keys.Secret.Reveal(), keys.Token.Reveal()} {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error has a secret: %v", err)
		}
	}
}

// TestStrangeTokens: answers that are not tokens are refused, and not shown.
func TestStrangeTokens(t *testing.T) {
	soon, late := time.Now().Add(time.Hour).Unix(), time.Now().Add(13*time.Hour).Unix()
	encode := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	data := func(token string, ends int64) string {
		return fmt.Sprintf(`{"authorizationToken":"%s","expiresAt":%d}`, token, ends)
	}
	ofECR := func(all ...string) string { return `{"authorizationData":[` + strings.Join(all, ",") + `]}` }
	ofDomain := func(token string, ends int64) string {
		return fmt.Sprintf(`{"authorizationToken":"%s","expiration":%d}`, token, ends)
	}
	const hidden = "top-secret-part"
	good := data(encode("AWS:"+hidden), soon)
	for name, tt := range map[string]struct{ ecr, domain, says string }{
		"good":             {ecr: ofECR(good), domain: ofDomain(hidden, soon)},
		"no token":         {ofECR(), ofDomain("", soon), "has"},
		"two tokens":       {ecr: ofECR(good, good), says: "2 tokens instead of one"},
		"not base64":       {ecr: ofECR(data(hidden+"*", soon)), says: "invalid authorizationToken"},
		"no user":          {ecr: ofECR(data(encode(":"+hidden), soon)), says: "invalid authorizationToken"},
		"no password":      {ecr: ofECR(data(encode(hidden), soon)), says: "has no authorizationToken"},
		"a line break":     {ofECR(data(encode("AWS:"+hidden+"\n"), soon)), ofDomain(hidden+`\n`, soon), "invalid authorizationToken"},
		"a control":        {ofECR(data(encode("A\x1bWS:"+hidden), soon)), ofDomain(hidden+`\u001b`, soon), "invalid authorizationToken"},
		"not ASCII":        {ofECR(data(encode("AWS:"+hidden+"ü"), soon)), ofDomain(hidden+"ü", soon), "invalid authorizationToken"},
		"too long":         {ofECR(data(encode("AWS:"+strings.Repeat("x", maxToken+1)), soon)), ofDomain(strings.Repeat("x", maxToken+1), soon), "invalid authorizationToken"},
		"expired":          {ofECR(data(encode("AWS:"+hidden), 1000)), ofDomain(hidden, 1000), "expired before it arrived"},
		"expires too late": {ofECR(data(encode("AWS:"+hidden), late)), ofDomain(hidden, late), "later than AWS ever allows"},
		"a web page":       {"<html>" + hidden, "<html>" + hidden, "web page"},
		"a list":           {"[]", "[]", "is not an answer of"},
		"cut short":        {ofECR(good)[:60], ofDomain(hidden, soon)[:30], "is not an answer of"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer := tt.ecr
				if r.URL.Path == "/v1/authorization-token" {
					answer = tt.domain
				}
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(answer))
			}))
			defer server.Close()
			c, ctx := New(Options{STSEndpoint: server.URL, Timeout: patience}), background(t)
			endpoint := profiles.Endpoint{Region: "eu-west-1"}
			check := func(got ServiceToken, err error) {
				t.Helper()
				if tt.says == "" {
					if err != nil || got.Token.Reveal() != hidden {
						t.Errorf("%+v, %v", got, err)
					}
					return
				}
				wantFault(t, err, fault.BadAnswer, tt.says)
				if got.Token.Reveal() != "" || strings.Contains(fmt.Sprint(err), hidden) {
					t.Errorf("%+v, %v", got, err)
				}
			}
			if tt.ecr != "" {
				check(c.ECRToken(ctx, userKeys(), endpoint))
			}
			if tt.domain != "" {
				check(c.CodeArtifactToken(ctx, userKeys(), endpoint, "team", ""))
			}
		})
	}
}

// TestPresignedTokens: what the requests in the tokens for EKS and RDS ask for, with a clock that is wrong. A test with
// the AWS CLI compares every byte.
func TestPresignedTokens(t *testing.T) {
	c := New(Options{Offset: -3 * time.Hour})
	keys := Keys{AccessKeyID: "ASIAQXZ7EXAMPLEWNYVB", Secret: secret.New(longSecret), Token: secret.New(sessionText)}
	endpoint := profiles.Endpoint{Region: "eu-west-1"}
	forCluster, err := c.EKSToken(background(t), keys, endpoint, "main")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(forCluster.Token.Reveal(), "k8s-aws-v1."))
	if err != nil {
		t.Fatal(err)
	}
	forDatabase, err := c.RDSToken(background(t), keys, endpoint, "DB.example.com:5432", "paul")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		got         ServiceToken
		url, prefix string
		valid       string
		life        time.Duration
	}{
		{forCluster, string(signed), "https://sts.eu-west-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15&", "60", 14 * time.Minute},
		{forDatabase, "https://" + forDatabase.Token.Reveal(), "https://DB.example.com:5432/?Action=connect&DBUser=paul&", "900", 15 * time.Minute},
	} {
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		at, err := time.Parse("20060102T150405Z", q.Get("X-Amz-Date"))
		if err != nil || !strings.HasPrefix(tt.url, tt.prefix) || q.Get("X-Amz-Expires") != tt.valid ||
			q.Get("X-Amz-Security-Token") != sessionText || len(q.Get("X-Amz-Signature")) != 64 {
			t.Errorf("%v: %s", err, tt.url)
		}
		if !tt.got.Expires.Equal(at.Add(tt.life)) || (time.Until(at)+3*time.Hour).Abs() > patience {
			t.Errorf("signed at %s, expires at %s", at, tt.got.Expires)
		}
		if strings.Contains(tt.url, longSecret) {
			t.Error("the secret key is in the token")
		}
	}
}
