package stssim

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/codeartifact"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
)

func (c caller) ecrClient() *ecr.Client {
	k := c.keys
	return ecr.New(ecr.Options{BaseEndpoint: aws.String("https://ecr.simulated.invalid"), Region: "eu-west-1",
		Credentials: credentials.NewStaticCredentialsProvider(k.AccessKeyID, k.SecretAccessKey, k.SessionToken),
		HTTPClient:  &http.Client{Transport: c.sim}, Retryer: aws.NopRetryer{}})
}

func (c caller) codeArtifactClient() *codeartifact.Client {
	k := c.keys
	return codeartifact.New(codeartifact.Options{BaseEndpoint: aws.String("https://codeartifact.simulated.invalid"),
		Region:      "eu-west-1",
		Credentials: credentials.NewStaticCredentialsProvider(k.AccessKeyID, k.SecretAccessKey, k.SessionToken),
		HTTPClient:  &http.Client{Transport: c.sim}, Retryer: aws.NopRetryer{}})
}

// TestTokensByTheSDK: the real SDK gets tokens of ECR and CodeArtifact, which the simulator remembers, and the errors
// of both protocols.
func TestTokensByTheSDK(t *testing.T) {
	sim, ctx := newDemo(t), context.Background()
	dev := paul(sim).session(t).assume(t, devAdmin)
	out, err := dev.ecrClient().GetAuthorizationToken(ctx, nil)
	if err != nil || len(out.AuthorizationData) != 1 {
		t.Fatal(err)
	}
	data := out.AuthorizationData[0]
	both, err := base64.StdEncoding.DecodeString(*data.AuthorizationToken)
	password, ok := strings.CutPrefix(string(both), "AWS:")
	if err != nil || !ok || *data.ProxyEndpoint != "https://222233334444.dkr.ecr.eu-west-1.amazonaws.com" ||
		time.Until(*data.ExpiresAt).Round(time.Minute) != 12*time.Hour {
		t.Errorf("%v, %s, %s, %s", err, both, *data.ProxyEndpoint, data.ExpiresAt)
	}
	api := dev.codeArtifactClient()
	ask := func(domain, owner string, seconds int64) (*codeartifact.GetAuthorizationTokenOutput, error) {
		in := &codeartifact.GetAuthorizationTokenInput{Domain: &domain, DurationSeconds: &seconds}
		if owner != "" {
			in.DomainOwner = &owner
		}
		return api.GetAuthorizationToken(ctx, in)
	}
	short, err := ask("team", "", 0) // ends with the session, after an hour
	if err != nil || time.Until(*short.Expiration).Round(time.Minute) != time.Hour {
		t.Errorf("%+v, %v", short, err)
	}
	long, err := ask("team", "999988887777", 43200)
	if err != nil || time.Until(*long.Expiration).Round(time.Minute) != 12*time.Hour {
		t.Errorf("%+v, %v", long, err)
	}
	issued := sim.Tokens()
	if len(issued) != 3 || issued[0].Token != password || issued[1].Token != *short.AuthorizationToken ||
		issued[1].Owner != "222233334444" || issued[2].Owner != "999988887777" || issued[2].Domain != "team" ||
		issued[0].Region != "eu-west-1" || !strings.Contains(issued[0].Caller, ":assumed-role/") {
		t.Errorf("%+v", issued)
	}
	for _, wrong := range []struct {
		domain, owner string
		seconds       int64
	}{{"T", "", 0}, {"team", "12", 0}, {"team", "", 899}, {"team", "", 43201}} {
		_, err := ask(wrong.domain, wrong.owner, wrong.seconds)
		wantCode(t, err, "ValidationException", "failed to satisfy constraint")
	}
	_, err = paul(sim).codeArtifactClient().GetAuthorizationToken(ctx,
		&codeartifact.GetAuthorizationTokenInput{Domain: aws.String("team"), DurationSeconds: aws.Int64(0)})
	wantCode(t, err, "ValidationException", "temporary credentials")

	forged := dev
	forged.keys.SecretAccessKey += "x"
	_, err = forged.ecrClient().GetAuthorizationToken(ctx, nil)
	wantCode(t, err, "InvalidSignatureException", "")
	_, err = forged.codeArtifactClient().GetAuthorizationToken(ctx,
		&codeartifact.GetAuthorizationTokenInput{Domain: aws.String("team")})
	wantCode(t, err, "InvalidSignatureException", "")
	for _, action := range []string{ecrAction, codeArtifactAction} {
		sim.Fault(Fault{Action: action, Kind: Throttle})
	}
	_, err = dev.ecrClient().GetAuthorizationToken(ctx, nil)
	wantCode(t, err, "TooManyRequestsException", "Rate exceeded")
	_, err = ask("team", "", 0)
	wantCode(t, err, "TooManyRequestsException", "Rate exceeded")
	if n := sim.Successes(ecrAction) + sim.Successes(codeArtifactAction); n != 3 {
		t.Errorf("%d calls succeeded, want 3", n)
	}
}

// TestTokensDenied: policies apply to the calls by their names.
func TestTokensDenied(t *testing.T) {
	org := Demo()
	org.User("security", "paul").Deny = []string{"ecr:GetAuthorizationToken",
		"codeartifact:GetAuthorizationToken arn:aws:codeartifact:eu-west-1:111122223333:domain/team"}
	sim, err := New(org)
	if err != nil {
		t.Fatal(err)
	}
	ctx, user := context.Background(), paul(sim).session(t)
	_, err = user.ecrClient().GetAuthorizationToken(ctx, nil)
	wantCode(t, err, "AccessDeniedException", "not authorized to perform: ecr:GetAuthorizationToken")
	api := user.codeArtifactClient()
	_, err = api.GetAuthorizationToken(ctx, &codeartifact.GetAuthorizationTokenInput{Domain: aws.String("team")})
	wantCode(t, err, "AccessDeniedException", "not authorized to perform: codeartifact:GetAuthorizationToken")
	_, err = api.GetAuthorizationToken(ctx, &codeartifact.GetAuthorizationTokenInput{Domain: aws.String("other")})
	if err != nil {
		t.Error(err)
	}
}

// TestPresigned: a request with its signature in the query is who signed it, as an EKS cluster asks STS, and nothing in
// it can be changed.
func TestPresigned(t *testing.T) {
	sim := newDemo(t)
	dev := paul(sim).session(t).assume(t, devAdmin)
	signed := func() *http.Request {
		r, err := http.NewRequest(http.MethodGet,
			"https://sts.simulated.invalid/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Expires=60", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-K8s-Aws-Id", "main")
		u, _, err := v4.NewSigner().PresignHTTP(context.Background(), dev.keys, r, hexHash(nil), "sts", "eu-west-1", sim.Now())
		if err == nil {
			r.URL, err = url.Parse(u)
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) {
			q := r.URL.Query()
			q.Set(name, value)
			r.URL.RawQuery = q.Encode()
		}
	}
	for name, tt := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"as it is":             {func(*http.Request) {}, http.StatusOK},
		"for another cluster":  {func(r *http.Request) { r.Header.Set("X-K8s-Aws-Id", "other") }, http.StatusForbidden},
		"without a cluster":    {func(r *http.Request) { r.Header.Del("X-K8s-Aws-Id") }, http.StatusForbidden},
		"for longer":           {set("X-Amz-Expires", "900"), http.StatusForbidden},
		"another call":         {set("Action", "GetSessionToken"), http.StatusForbidden},
		"with another session": {set("X-Amz-Security-Token", "x"), http.StatusForbidden},
		"at another host":      {func(r *http.Request) { r.Host = "other.invalid" }, http.StatusForbidden},
		"without a signature":  {set("X-Amz-Signature", ""), http.StatusForbidden},
		"too late":             {func(*http.Request) { sim.SetClockOffset(61 * time.Second) }, http.StatusForbidden},
	} {
		r := signed()
		tt.change(r)
		answer, err := sim.RoundTrip(r)
		sim.SetClockOffset(0)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		if answer.StatusCode != tt.status || (tt.status == http.StatusOK) != strings.Contains(string(body), ":assumed-role/") {
			t.Errorf("%s: %d %s", name, answer.StatusCode, body)
		}
	}
}
