//go:build unix

package exchange

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// The secrets of a login. They share no piece of eight characters with any message of the package.
const (
	clientSecret = "eyJraWQiOiJrZXkxQ0xJRU5UU0VDUkVU"
	accessText   = "aoaAAAAAGkq7hQ2ACCESSzT0pL7s3hSKr"
	refreshText  = "aorAAAAAGkREFRESHy1b5uN8cRfG6oWdE"
	pageCode     = "qwCODEq5t7XzL0vB3nM8kJ2hG"
	verifierText = "VERIFIERw8sQ1zX5cR7vT3bY6nU0mI4kL9pO2aS"
	deviceText   = "DEVICEp3lWk9vQxZ7jH5gF1dS"
	webToken     = "eyJhbGciOiJSUzI1NiJ9.V0VCVE9LRU4x.c2lnbmF0dXJl"
	startURL     = "https://my-sso.awsapps.com/start"
	aLoopback    = "http://127.0.0.1:43210/oauth/callback"
)

var loginSecrets = []string{clientSecret, accessText, refreshText, pageCode, verifierText, deviceText, webToken,
	answerSecret, answerToken}

func aRegistration() Registration {
	return Registration{ID: "QeXuPlEcLiEnT", Secret: secret.New(clientSecret), Expires: time.Now().Add(time.Hour)}
}

func codeGrant() TokenGrant {
	return TokenGrant{Code: secret.New(pageCode), Verifier: secret.New(verifierText), Redirect: aLoopback}
}

func deviceGrant() TokenGrant  { return TokenGrant{Device: secret.New(deviceText)} }
func refreshGrant() TokenGrant { return TokenGrant{Refresh: secret.New(refreshText)} }

func p256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func roleCall() session.Call {
	return session.Call{Operation: session.GetRoleCredentials, Endpoint: ireland, AccountID: "444455556666", RoleName: "Admin"}
}

func webCall() session.Call {
	return session.Call{Operation: session.AssumeRoleWithWebIdentity, RoleARN: aRole, SessionName: "paul"}
}

// loginCall is one of the calls to the services that log people in.
type loginCall struct {
	path  string // of the request
	good  string // an answer
	tries int    // how many attempts a service gets that does not answer
	make  func(context.Context, *Client, profiles.Endpoint) error
}

func loginCalls(t *testing.T) map[string]loginCall {
	access, key := secret.New(accessText), p256(t)
	token := func(g TokenGrant) func(context.Context, *Client, profiles.Endpoint) error {
		return func(ctx context.Context, c *Client, e profiles.Endpoint) error {
			_, err := c.CreateToken(ctx, e, aRegistration(), g)
			return err
		}
	}
	console := func(g TokenGrant) func(context.Context, *Client, profiles.Endpoint) error {
		return func(ctx context.Context, c *Client, e profiles.Endpoint) error {
			_, err := c.CreateConsoleToken(ctx, e, key, ConsoleSameDevice, g)
			return err
		}
	}
	goodToken := `{"accessToken":"` + answerToken + `","expiresIn":3600,"tokenType":"Bearer"}`
	return map[string]loginCall{
		"RegisterClient": {"/client/register", goodRegistration(), maxAttempts,
			func(ctx context.Context, c *Client, e profiles.Endpoint) error {
				_, err := c.RegisterClient(ctx, e, startURL, []string{"sso:account:access"}, false)
				return err
			}},
		"StartDeviceAuthorization": {"/device_authorization", goodDevice, maxAttempts,
			func(ctx context.Context, c *Client, e profiles.Endpoint) error {
				_, err := c.StartDevice(ctx, e, aRegistration(), startURL)
				return err
			}},
		"CreateToken code":    {"/token", goodToken, 1, token(codeGrant())},
		"CreateToken device":  {"/token", goodToken, 1, token(deviceGrant())},
		"CreateToken refresh": {"/token", goodToken, 1, token(refreshGrant())},
		"Logout": {"/logout", ``, maxAttempts, func(ctx context.Context, c *Client, e profiles.Endpoint) error {
			return c.EndPortal(ctx, e, access)
		}},
		"ListAccounts": {"/assignment/accounts", `{"accountList":[{"accountId":"444455556666"}]}`, maxAttempts,
			func(ctx context.Context, c *Client, e profiles.Endpoint) error {
				_, err := c.AssignedAccounts(ctx, e, access)
				return err
			}},
		"ListAccountRoles": {"/assignment/roles", `{"roleList":[{"accountId":"444455556666","roleName":"Admin"}]}`, maxAttempts,
			func(ctx context.Context, c *Client, e profiles.Endpoint) error {
				_, err := c.AssignedRoles(ctx, e, access, "444455556666")
				return err
			}},
		"GetRoleCredentials": {"/federation/credentials", goodRole(time.Hour), maxAttempts,
			func(ctx context.Context, c *Client, e profiles.Endpoint) error {
				call := roleCall()
				call.Endpoint = e
				_, err := c.Assume(ctx, session.Credentials{SessionToken: access}, call)
				return err
			}},
		"CreateOAuth2Token code": {"/v1/token", goodConsole(idToken("arn:aws:iam::111122223333:user/paul")), 1,
			console(codeGrant())},
		"CreateOAuth2Token refresh": {"/v1/token", goodConsole(""), maxAttempts, console(refreshGrant())},
	}
}

func goodRegistration() string {
	return fmt.Sprintf(`{"clientId":"QeXuPlEcLiEnT","clientSecret":%q,"clientSecretExpiresAt":%d}`, answerSecret,
		time.Now().Add(90*24*time.Hour).Unix())
}

const goodDevice = `{"deviceCode":"` + answerToken + `","userCode":"MNPQ-RSTV","verificationUri":"https://my-sso.awsapps.com/start/#/device",
	"verificationUriComplete":"https://my-sso.awsapps.com/start/#/device?user_code=MNPQ-RSTV","expiresIn":600,"interval":1}`

func goodRole(life time.Duration) string {
	return fmt.Sprintf(`{"roleCredentials":{"accessKeyId":"ASIA2BCDEFGHIJKLMNOP","secretAccessKey":%q,"sessionToken":%q,"expiration":%d}}`,
		answerSecret, answerToken, time.Now().Add(life).UnixMilli())
}

func goodConsole(id string) string {
	return fmt.Sprintf(`{"accessToken":{"accessKeyId":"ASIA2BCDEFGHIJKLMNOP","secretAccessKey":%q,"sessionToken":%q},"expiresIn":900,
		"refreshToken":"new","tokenType":"aws_sigv4","idToken":%q}`, answerSecret, answerToken, id)
}

func idToken(arn string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"ES384"}`)) + "." + encode([]byte(`{"sub":"`+arn+`","aud":"x"}`)) + ".c2ln"
}

var ireland = profiles.Endpoint{Region: "eu-west-1"}

// saying serves one answer to everything.
func saying(t *testing.T, status int, body string) (*fake, *Client) {
	f := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
	return f, client(f)
}

func wantNoLoginSecret(t *testing.T, err error) {
	t.Helper()
	wantClean(t, err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		text := strings.ToLower(fmt.Sprintf("%v %+v %#v", e, e, e))
		for _, s := range loginSecrets {
			for i := 0; i+grain <= len(s); i++ {
				if strings.Contains(text, strings.ToLower(s[i:i+grain])) {
					t.Fatalf("a piece of a secret (%q) is in %q", s[i:i+grain], text)
				}
			}
		}
	}
}

// TestHostsOfLogins: where each call goes in each partition, whatever the environment says. No call is signed.
func TestHostsOfLogins(t *testing.T) {
	for name, value := range hostile {
		t.Setenv(name, value)
	}
	t.Setenv("AWS_ENDPOINT_URL_SSO", "http://127.0.0.1:1")
	t.Setenv("AWS_ENDPOINT_URL_SSO_OIDC", "http://127.0.0.1:1")
	t.Setenv("AWS_ENDPOINT_URL_SIGNIN", "http://127.0.0.1:1")
	calls := loginCalls(t)
	for _, tt := range []struct {
		e                     profiles.Endpoint
		oidc, portal, console string
	}{
		{ireland, "oidc.eu-west-1.amazonaws.com", "portal.sso.eu-west-1.amazonaws.com", "eu-west-1.signin.aws.amazon.com"},
		{profiles.Endpoint{Region: "eu-west-1", Legacy: true},
			"oidc.eu-west-1.amazonaws.com", "portal.sso.eu-west-1.amazonaws.com", "eu-west-1.signin.aws.amazon.com"},
		{profiles.Endpoint{Region: "us-east-1", FIPS: true},
			"oidc-fips.us-east-1.amazonaws.com", "portal.sso-fips.us-east-1.amazonaws.com", "signin-fips.us-east-1.amazonaws.com"},
		{profiles.Endpoint{Region: "us-gov-west-1"},
			"oidc.us-gov-west-1.amazonaws.com", "portal.sso.us-gov-west-1.amazonaws.com", "us-gov-west-1.signin.amazonaws-us-gov.com"},
		{profiles.Endpoint{Region: "us-gov-west-1", FIPS: true},
			"oidc.us-gov-west-1.amazonaws.com", "portal.sso.us-gov-west-1.amazonaws.com", "signin-fips.amazonaws-us-gov.com"},
		{profiles.Endpoint{Region: "cn-north-1"},
			"oidc.cn-north-1.amazonaws.com.cn", "portal.sso.cn-north-1.amazonaws.com.cn", "cn-north-1.signin.amazonaws.cn"},
		{profiles.Endpoint{Region: "eusc-de-east-1"},
			"oidc.eusc-de-east-1.amazonaws.eu", "portal.sso.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1.signin.amazonaws-eusc.eu"},
		{profiles.Endpoint{Region: "eu-west-1", FIPS: true, URL: "https://simulator.example:8443/base"},
			"simulator.example:8443", "simulator.example:8443", "simulator.example:8443"},
	} {
		base := ""
		if tt.e.URL != "" {
			base = "/base"
		}
		for name, call := range calls {
			r := &recorder{answer: func(*http.Request) (*http.Response, error) {
				// An ID token of the partition: the wrong one has a test of its own.
				body := strings.ReplaceAll(call.good, idToken("arn:aws:iam::111122223333:user/paul"),
					idToken("arn:"+partitionOf(tt.e.Region)+":iam::111122223333:user/paul"))
				return response(200, body), nil
			}}
			c := New(Options{})
			c.connect = r.connect
			if err := call.make(background(t), c, tt.e); err != nil {
				t.Errorf("%s in %s: %v", name, tt.e.Region, err)
				continue
			}
			q, want := r.requests[0], tt.oidc
			switch {
			case strings.HasPrefix(name, "CreateOAuth2Token"):
				want = tt.console
			case !strings.HasPrefix(call.path, "/client") && !strings.HasPrefix(call.path, "/device") && call.path != "/token":
				want = tt.portal
			}
			if q.URL.Scheme != "https" || q.URL.Host != want || q.URL.Path != base+call.path {
				t.Errorf("%s in %s (FIPS %t) calls %s, want https://%s%s", name, tt.e.Region, tt.e.FIPS, q.URL, want, base+call.path)
			}
			if q.Header.Get("Authorization") != "" || q.Header.Get("X-Amz-Security-Token") != "" {
				t.Errorf("%s is signed", name)
			}
		}
		c := New(Options{})
		for what, page := range map[string]func() (string, error){
			"https://" + tt.oidc + base + "/authorize?": func() (string, error) {
				return c.AuthorizeURL(tt.e, aRegistration(), aLoopback, "s", "c", nil)
			},
			"https://" + tt.console + base + "/v1/authorize?": func() (string, error) {
				return c.ConsoleAuthorizeURL(tt.e, ConsoleSameDevice, aLoopback, "s", "c")
			},
			"https://" + tt.console + base + "/v1/sessions/confirmation": func() (string, error) { return c.ConsoleRedirect(tt.e) },
		} {
			if got, err := page(); err != nil || !strings.HasPrefix(got, what) {
				t.Errorf("the page is %s (%v), want %s", got, err, what)
			}
		}
	}
}

func partitionOf(region string) string {
	for prefix, id := range map[string]string{"us-gov-": "aws-us-gov", "cn-": "aws-cn", "eusc-": "aws-eusc"} {
		if strings.HasPrefix(region, prefix) {
			return id
		}
	}
	return "aws"
}

// TestLoginsNeedARegion: there is no region to fall back to, and nothing is sent without one.
func TestLoginsNeedARegion(t *testing.T) {
	for _, e := range []profiles.Endpoint{{}, {Region: "aws-global"}, {Region: "evil.example/"}} {
		f, c := saying(t, 200, "{}")
		for name, call := range loginCalls(t) {
			err := call.make(background(t), c, e)
			wantFault(t, err, fault.Config, "region")
			if f.count() != 0 {
				t.Errorf("%s: something was sent", name)
			}
		}
		_, err := c.AuthorizeURL(e, aRegistration(), aLoopback, "s", "c", nil)
		wantFault(t, err, fault.Config, "region")
		_, err = c.ConsoleAuthorizeURL(e, ConsoleSameDevice, aLoopback, "s", "c")
		wantFault(t, err, fault.Config, "region")
	}
}

// TestLoginAnswersOfStrangers: an answer that is not one of the service, to each call.
func TestLoginAnswersOfStrangers(t *testing.T) {
	for name, call := range loginCalls(t) {
		for _, tt := range []struct {
			name   string
			status int
			body   string
			kind   fault.Kind
			text   string
		}{
			{"a page", 200, "<!DOCTYPE html><html>" + accessText, fault.BadAnswer, "a web page"},
			{"a page that denies", 403, "<html>" + accessText, fault.BadAnswer, "a web page"},
			{"a page without login", 401, "<html>" + accessText, fault.BadAnswer, "a web page"},
			{"text", 200, "hello " + accessText, fault.BadAnswer, ""},
			{"XML", 200, "<a>" + accessText + "</a>", fault.BadAnswer, ""},
			{"half of the JSON", 200, `{"accessToken":`, fault.BadAnswer, ""},
			{"other types", 200, `{"accessToken":[1],"clientId":{},"deviceCode":1,"accountList":1,"roleList":"x","roleCredentials":[]}`, fault.BadAnswer, ""},
			{"nothing in it", 200, `{}`, fault.BadAnswer, ""},
			{"nothing", 200, ``, fault.BadAnswer, ""},
			{"2 MiB", 200, `{"accessToken":"` + strings.Repeat("a", 2<<20) + `"}`, fault.BadAnswer, "larger than 1 MiB"},
			{"a redirect", 302, "", fault.BadAnswer, "redirect"},
			{"an unknown error", 400, `{"message":"` + accessText + ` \u001b[2J\u202e"}`, "", ""},
			{"a refusal without words", 418, ``, fault.BadAnswer, ""},
		} {
			empty := tt.name == "nothing in it" || tt.name == "nothing"
			if empty && (name == "Logout" || tt.body != "" && strings.HasPrefix(name, "List")) {
				continue // that is a good answer
			}
			if name == "Logout" && (tt.name == "half of the JSON" || tt.name == "other types") {
				continue // nobody reads it
			}
			f, c := saying(t, tt.status, tt.body)
			err := call.make(background(t), c, ireland)
			if tt.kind != "" {
				wantFault(t, err, tt.kind, tt.text)
			}
			wantNoLoginSecret(t, err)
			if strings.ContainsAny(fmt.Sprint(err), "\x1b\u202e") {
				t.Errorf("%s, %s: %q", name, tt.name, err)
			}
			if f.count() != 1 {
				t.Errorf("%s, %s: %d requests", name, tt.name, f.count())
			}
		}
	}
}

// TestAttemptsOfLogins: a grant that counts once is sent once; the other calls are repeated.
func TestAttemptsOfLogins(t *testing.T) {
	for name, call := range loginCalls(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they pause between two attempts
			f, c := saying(t, 503, "")
			wantFault(t, call.make(background(t), c, ireland), fault.Network, "answered 503")
			if f.count() != call.tries {
				t.Errorf("%d requests after 503, want %d", f.count(), call.tries)
			}
			f, c = saying(t, 429, `{"message":"slow"}`)
			wantFault(t, call.make(background(t), c, ireland), fault.Throttled)
			if f.count() != call.tries {
				t.Errorf("%d requests after 429, want %d", f.count(), call.tries)
			}
			gone := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
					_ = conn.Close()
				}
			})
			err := call.make(background(t), client(gone), ireland)
			wantFault(t, err, fault.Network)
			if gone.count() != call.tries || strings.Contains(err.Error(), "AWS may have") != (call.tries == 1) || !MaybeSeen(err) {
				t.Errorf("%d requests after a lost answer, want %d: %v", gone.count(), call.tries, err)
			}
		})
	}
}

// TestRefusalsRepeatNoSecret: a refusal may quote the whole request.
func TestRefusalsRepeatNoSecret(t *testing.T) {
	codes := []string{"InvalidGrantException", "InvalidClientException", "InvalidRequestException", "AccessDeniedException",
		"InvalidScopeException", "UnknownException", "ExpiredTokenException", "ValidationException", "UnauthorizedException", ""}
	calls := loginCalls(t)
	calls["AssumeRoleWithWebIdentity"] = loginCall{make: func(ctx context.Context, c *Client, _ profiles.Endpoint) error {
		_, err := c.Assume(ctx, session.Credentials{SessionToken: secret.New(webToken)}, webCall())
		return err
	}}
	for name, call := range calls {
		for _, code := range codes {
			for _, status := range []int{400, 401, 403, 404} {
				f := serve(t, nil)
				f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					echo := base64.StdEncoding.EncodeToString([]byte(accessText)) + strings.ReplaceAll(string(body), `"`, " ") +
						r.URL.String() + r.Header.Get("x-amz-sso_bearer_token")
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(status)
					if name == "AssumeRoleWithWebIdentity" {
						_, _ = io.WriteString(w, "<ErrorResponse><Error><Code>"+code+"</Code><Message>"+
							strings.ReplaceAll(echo, "&", " ")+"</Message></Error></ErrorResponse>")
						return
					}
					fmt.Fprintf(w, `{"__type":%q,"error":%q,"error_description":%q,"message":%q,"reason":%q}`, code, echo, echo, echo, echo)
				})
				// Only the secrets of this call are known to it; the answer repeats no other.
				if err := call.make(background(t), client(f), ireland); err != nil {
					wantNoLoginSecret(t, err)
				} else if name != "Logout" || status != 401 && code != "ExpiredTokenException" {
					t.Errorf("%s: no error after %d %s", name, status, code)
				}
			}
		}
	}
}

// TestModelledRefusals replays the errors of the SDK's own tests. An error that the SDK learns must be added here.
func TestModelledRefusals(t *testing.T) {
	calls := loginCalls(t)
	type want struct {
		kind fault.Kind
		is   error
	}
	for _, tt := range []struct {
		module string
		call   string
		want   map[string]want
	}{
		{"ssooidc", "CreateToken device", map[string]want{
			"AccessDeniedException":          {fault.Denied, nil}, // it has a reason: the encryption key
			"AuthorizationPendingException":  {fault.LoginNeeded, session.ErrPending},
			"ExpiredTokenException":          {fault.LoginNeeded, nil},
			"InternalServerException":        {fault.Network, nil},
			"InvalidClientException":         {fault.LoginNeeded, ErrBadRegistration},
			"InvalidClientMetadataException": {fault.Failed, nil},
			"InvalidGrantException":          {fault.LoginNeeded, nil},
			"InvalidRedirectUriException":    {fault.Failed, nil},
			"InvalidRequestException":        {fault.Denied, nil}, // it has a reason: the encryption key
			"InvalidRequestRegionException":  {fault.Config, nil},
			"InvalidScopeException":          {fault.Config, nil},
			"SlowDownException":              {fault.LoginNeeded, session.ErrSlowDown},
			"UnauthorizedClientException":    {fault.LoginNeeded, ErrBadRegistration},
			"UnsupportedGrantTypeException":  {fault.Failed, nil},
		}},
		{"sso", "GetRoleCredentials", map[string]want{
			"InvalidRequestException":   {fault.Failed, nil},
			"ResourceNotFoundException": {fault.Denied, nil},
			"TooManyRequestsException":  {fault.Throttled, nil},
			"UnauthorizedException":     {fault.ExpiredSession, nil},
		}},
		{"signin", "CreateOAuth2Token code", map[string]want{ // each says TOKEN_EXPIRED in the SDK's tests
			"AccessDeniedException":         {fault.LoginNeeded, nil},
			"ConflictException":             {fault.LoginNeeded, nil},
			"InternalServerException":       {fault.Network, nil},
			"InvalidGrantException":         {fault.LoginNeeded, nil},
			"InvalidScopeException":         {fault.LoginNeeded, nil},
			"ResourceNotFoundException":     {fault.LoginNeeded, nil},
			"ServiceQuotaExceededException": {fault.LoginNeeded, nil},
			"ServiceUnavailableException":   {fault.Network, nil},
			"TooManyRequestsError":          {fault.Throttled, nil},
			"ValidationException":           {fault.LoginNeeded, nil},
		}},
	} {
		dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/"+tt.module).Output()
		if err != nil {
			t.Fatal(err)
		}
		files, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "response_snapshot", "*.error.snap"))
		if len(files) != len(tt.want) {
			t.Errorf("%s has %d errors, this test %d", tt.module, len(files), len(tt.want))
		}
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".error.snap")
			want, known := tt.want[name]
			if !known {
				t.Errorf("this test does not know %s of %s", name, tt.module)
				continue
			}
			status, body := snapshot(t, file)
			_, c := saying(t, status, body)
			err := calls[tt.call].make(background(t), c, ireland)
			if !fault.Is(err, want.kind) || want.is != nil && !errors.Is(err, want.is) {
				t.Errorf("%s of %s: %v %v", name, tt.module, fault.Of(err).Kind, err)
			}
			wantClean(t, err)
		}
	}
}

func snapshot(t *testing.T, file string) (status int, body string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(data), "\n\n")
	if _, err := fmt.Sscan(head, &status); err != nil {
		t.Fatal(err)
	}
	return status, body
}

// TestRefusalsOfLogins: what a person has to do after each refusal, by the names of OAuth and by the status.
func TestRefusalsOfLogins(t *testing.T) {
	calls := loginCalls(t)
	oauth := func(name, words string) string { return `{"error":"` + name + `","error_description":"` + words + `"}` }
	signIn := func(reason string) string {
		return `{"__type":"AccessDeniedException","error":"` + reason + `","message":"no"}`
	}
	for _, tt := range []struct {
		call   string
		status int
		body   string
		kind   fault.Kind
		is     error
		text   string
	}{
		{"CreateToken device", 400, oauth("authorization_pending", ""), fault.LoginNeeded, session.ErrPending, "not confirmed"},
		{"CreateToken device", 400, oauth("slow_down", ""), fault.LoginNeeded, session.ErrSlowDown, "too often"},
		{"CreateToken device", 400, oauth("access_denied", ""), fault.LoginNeeded, nil, "the login was declined on the page"},
		{"CreateToken refresh", 400, oauth("access_denied", "no"), fault.Denied, nil, "AWS denied it: no"},
		{"CreateToken device", 400, oauth("expired_token", "late"), fault.LoginNeeded, nil, "not confirmed in time: late"},
		{"CreateToken device", 400, oauth("invalid_grant", "late"), fault.LoginNeeded, nil, "not confirmed in time: late"},
		{"CreateToken refresh", 400, oauth("invalid_grant", "gone"), fault.LoginNeeded, nil, "the session has ended: gone"},
		{"CreateToken refresh", 400, oauth("expired_token", "gone"), fault.LoginNeeded, nil, "the session has ended: gone"},
		{"CreateToken code", 400, oauth("invalid_grant", "x"), fault.LoginNeeded, nil, "the code of the page is wrong"},
		{"CreateToken refresh", 401, oauth("invalid_client", "x"), fault.LoginNeeded, ErrBadRegistration, "the registration"},
		{"StartDeviceAuthorization", 401, oauth("invalid_client", "x"), fault.LoginNeeded, ErrBadRegistration, "the registration"},
		{"CreateToken refresh", 400, oauth("invalid_request", "Invalid token provided"), fault.LoginNeeded, nil,
			"in region eu-west-1, sso_region must be that of the portal"},
		{"StartDeviceAuthorization", 400, oauth("invalid_request", "x"), fault.Config, nil, "check sso_region and sso_start_url"},
		{"StartDeviceAuthorization", 400, `{"__type":"InvalidRequestRegionException","region":"us-west-2"}`, fault.Config, nil,
			"the portal is in region us-west-2, but sso_region is eu-west-1"},
		{"StartDeviceAuthorization", 400, `{"__type":"InvalidRequestRegionException","region":"us\u001b[2J"}`, fault.Config, nil,
			"check sso_region"},
		{"RegisterClient", 400, oauth("invalid_scope", "x"), fault.Config, nil, "sso_registration_scopes"},
		{"CreateToken refresh", 500, oauth("server_error", "x"), fault.Network, nil, "500"},

		{"GetRoleCredentials", 401, `{"message":"Session token not found or invalid"}`, fault.ExpiredSession, nil, "the session of the portal has ended: Session token"},
		{"ListAccounts", 401, `{"message":"x"}`, fault.ExpiredSession, nil, "ended"},
		{"GetRoleCredentials", 403, `{"message":"No access","__type":"com.amazonaws.switchboard.portal#ForbiddenException"}`, fault.Denied, nil,
			"Admin is not assigned to you in account 444455556666 (a new assignment takes a minute or two): No access"},
		{"GetRoleCredentials", 403, `{"message":"No access"}`, fault.Denied, nil, "is not assigned"},
		{"ListAccountRoles", 403, `{"message":"No access"}`, fault.Denied, nil, "AWS denied it: No access"},

		{"CreateOAuth2Token refresh", 400, signIn("TOKEN_EXPIRED"), fault.LoginNeeded, nil, "the login has ended"},
		{"CreateOAuth2Token refresh", 400, signIn("USER_CREDENTIALS_CHANGED"), fault.LoginNeeded, nil, "changed since the login"},
		{"CreateOAuth2Token code", 400, signIn("AUTHCODE_EXPIRED"), fault.LoginNeeded, nil, "the code of the page has expired"},
		{"CreateOAuth2Token code", 400, signIn("INSUFFICIENT_PERMISSIONS"), fault.Denied, nil, "SignInLocalDevelopmentAccess"},
		{"CreateOAuth2Token refresh", 400, signIn("INVALID_REQUEST"), fault.Config, nil, "in region eu-west-1, which must be the region of the login"},
		{"CreateOAuth2Token refresh", 400, signIn("invalid_grant"), fault.LoginNeeded, nil, "does not accept"},
		{"CreateOAuth2Token refresh", 403, signIn(""), fault.Denied, nil, "AWS denied it: no"},
	} {
		_, c := saying(t, tt.status, tt.body)
		err := calls[tt.call].make(background(t), c, ireland)
		if err == nil || !fault.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s, %s: %v %v", tt.call, tt.body, fault.Of(err), err)
			continue
		}
		for _, reason := range []error{session.ErrPending, session.ErrSlowDown, ErrBadRegistration} {
			if errors.Is(err, reason) != (reason == tt.is) {
				t.Errorf("%s, %s: %v", tt.call, tt.body, err)
			}
		}
		wantClean(t, err)
	}
	_, c := saying(t, 401, `{"message":"x"}`)
	if err := calls["Logout"].make(background(t), c, ireland); err != nil {
		t.Errorf("a session that has ended cannot be ended: %v", err)
	}
}
