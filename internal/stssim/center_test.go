package stssim

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sso"
	"github.com/aws/aws-sdk-go-v2/service/ssooidc"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	demoStart  = "https://demo.awsapps.com/start"
	callback   = "http://127.0.0.1/oauth/callback"
	calledBack = "http://127.0.0.1:43210/oauth/callback"
	// The pair of RFC 7636, appendix B.
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// oidcIn is the real SDK's client of OIDC, without a network and without retries.
func oidcIn(sim *Sim, region string) *ssooidc.Client {
	return ssooidc.New(ssooidc.Options{
		BaseEndpoint: aws.String("https://oidc." + region + ".amazonaws.com"),
		Region:       region,
		HTTPClient:   &http.Client{Transport: sim},
		Retryer:      aws.NopRetryer{},
	})
}

// portalIn is the real SDK's client of the portal.
func portalIn(sim *Sim, region string) *sso.Client {
	return sso.New(sso.Options{
		BaseEndpoint: aws.String("https://portal.sso." + region + ".amazonaws.com"),
		Region:       region,
		HTTPClient:   &http.Client{Transport: sim},
		Retryer:      aws.NopRetryer{},
	})
}

// registered is a client of OIDC with the calls that the tests make.
type registered struct {
	t      testing.TB
	sim    *Sim
	api    *ssooidc.Client
	id     *string
	secret *string
}

// register registers a client in the portal's region.
func register(t testing.TB, sim *Sim, in ssooidc.RegisterClientInput) registered {
	t.Helper()
	api := oidcIn(sim, "eu-west-1")
	in.ClientName, in.ClientType = aws.String("test"), aws.String("public")
	out, err := api.RegisterClient(context.Background(), &in)
	if err != nil {
		t.Fatal(err)
	}
	return registered{t, sim, api, out.ClientId, out.ClientSecret}
}

// deviceClient registers a client of the device flow.
func deviceClient(t testing.TB, sim *Sim, scopes ...string) registered {
	t.Helper()
	return register(t, sim, ssooidc.RegisterClientInput{Scopes: scopes})
}

// browserClient registers a client of the code flow.
func browserClient(t testing.TB, sim *Sim) registered {
	t.Helper()
	return register(t, sim, ssooidc.RegisterClientInput{
		Scopes:       []string{scopeAccount},
		GrantTypes:   []string{grantCode, grantRefresh},
		RedirectUris: []string{callback},
		IssuerUrl:    aws.String(demoStart),
	})
}

func (r registered) start() *ssooidc.StartDeviceAuthorizationOutput {
	r.t.Helper()
	out, err := r.api.StartDeviceAuthorization(context.Background(), &ssooidc.StartDeviceAuthorizationInput{
		ClientId: r.id, ClientSecret: r.secret, StartUrl: aws.String(demoStart),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r registered) token(in ssooidc.CreateTokenInput) (*ssooidc.CreateTokenOutput, error) {
	in.ClientId, in.ClientSecret = r.id, r.secret
	return r.api.CreateToken(context.Background(), &in)
}

func (r registered) poll(code *string) (*ssooidc.CreateTokenOutput, error) {
	return r.token(ssooidc.CreateTokenInput{GrantType: aws.String(grantDevice), DeviceCode: code})
}

func (r registered) refresh(token *string) (*ssooidc.CreateTokenOutput, error) {
	return r.token(ssooidc.CreateTokenInput{GrantType: aws.String(grantRefresh), RefreshToken: token})
}

func (r registered) redeem(code, verifier, redirect string) (*ssooidc.CreateTokenOutput, error) {
	return r.token(ssooidc.CreateTokenInput{
		GrantType: aws.String(grantCode), Code: &code, CodeVerifier: &verifier, RedirectUri: &redirect,
	})
}

// login gets the tokens of paul in the device flow.
func (r registered) login() *ssooidc.CreateTokenOutput {
	r.t.Helper()
	started := r.start()
	if err := r.sim.ApproveDevice(*started.UserCode, ""); err != nil {
		r.t.Fatal(err)
	}
	out, err := r.poll(started.DeviceCode)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// authorization is the request of the code flow that the CLI makes.
func (r registered) authorization() url.Values {
	return url.Values{
		"response_type":         {"code"},
		"client_id":             {*r.id},
		"redirect_uri":          {calledBack},
		"state":                 {"stated"},
		"code_challenge_method": {"S256"},
		"scopes":                {scopeAccount},
		"code_challenge":        {challenge},
	}
}

// browser is a person's browser: it keeps cookies, and stops at a redirect.
type browser struct {
	t       testing.TB
	host    string
	client  http.Client
	cookies []*http.Cookie
}

func newBrowser(t testing.TB, sim *Sim, host string) *browser {
	b := &browser{t: t, host: "https://" + host}
	b.client.Transport = sim
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return b
}

// shown is what a browser got.
type shown struct {
	status int
	text   string
	to     *url.URL // the target of a redirect, or nil
}

// code returns the authorization code that the browser brings back.
func (p shown) code() string {
	if p.to == nil {
		return ""
	}
	return p.to.Query().Get("code")
}

func (b *browser) do(request *http.Request) shown {
	b.t.Helper()
	for _, cookie := range b.cookies {
		request.AddCookie(cookie)
	}
	response, err := b.client.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	b.cookies = append(b.cookies, response.Cookies()...)
	got := shown{status: response.StatusCode, text: string(text)}
	if location := response.Header.Get("Location"); location != "" {
		if got.to, err = url.Parse(location); err != nil {
			b.t.Fatal(err)
		}
	}
	return got
}

func (b *browser) get(path string, params url.Values) shown {
	b.t.Helper()
	request, err := http.NewRequest("GET", b.host+path+"?"+params.Encode(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(request)
}

// click answers a page with one of its buttons.
func (b *browser) click(path string, params url.Values, answer string) shown {
	b.t.Helper()
	form := url.Values{"answer": {answer}}
	for name, values := range params {
		form[name] = values
	}
	request, err := http.NewRequest("POST", b.host+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(request)
}

// errorCode returns the code of the service's error, or "" if there is no such error.
func errorCode(err error) string {
	refusal := smithy.APIError(nil)
	if errors.As(err, &refusal) {
		return refusal.ErrorCode()
	}
	return ""
}

// wantStatus fails the test unless err is an answer with that HTTP status.
func wantStatus(t testing.TB, err error, status int) {
	t.Helper()
	answer := (*smithyhttp.ResponseError)(nil)
	if !errors.As(err, &answer) || answer.HTTPStatusCode() != status {
		t.Errorf("error %v, want status %d", err, status)
	}
}
