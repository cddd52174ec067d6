package stssim

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/logincreds"
	"github.com/aws/aws-sdk-go-v2/service/signin"
	"github.com/aws/aws-sdk-go-v2/service/signin/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	paulARN    = "arn:aws:iam::111122223333:user/paul"
	signInHost = "eu-west-1.signin.aws.amazon.com"
)

// loginClient is a program that logs in: the SDK's client with a key for its proofs.
type loginClient struct {
	t    testing.TB
	sim  *Sim
	host string
	key  *ecdsa.PrivateKey
	// change changes the parts of a proof before it is signed.
	change func(header, claims map[string]any)
	last   string // the last proof
}

func newLoginClient(t testing.TB, sim *Sim) *loginClient {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &loginClient{t: t, sim: sim, host: signInHost, key: key}
}

// dpop returns a proof.
func (c *loginClient) dpop() string {
	c.t.Helper()
	public, err := c.key.PublicKey.Bytes()
	if err != nil {
		c.t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString
	header := map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": map[string]any{
		"kty": "EC", "crv": "P-256", "x": text(public[1:33]), "y": text(public[33:]),
	}}
	claims := map[string]any{
		"htm": "POST", "htu": "https://" + c.host + "/v1/token", "iat": c.sim.Now().Unix(), "jti": randomUUID(),
	}
	if c.change != nil {
		c.change(header, claims)
	}
	part := func(value any) string {
		encoded, err := json.Marshal(value)
		if err != nil {
			c.t.Fatal(err)
		}
		return text(encoded)
	}
	message := part(header) + "." + part(claims)
	hash := sha256.Sum256([]byte(message))
	r, s, err := ecdsa.Sign(rand.Reader, c.key, hash[:])
	if err != nil {
		c.t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	c.last = message + "." + text(signature)
	return c.last
}

// send calls CreateOAuth2Token with a proof.
func (c *loginClient) send(
	proof string, body types.CreateOAuth2TokenRequestBody,
) (*types.CreateOAuth2TokenResponseBody, error) {
	c.t.Helper()
	api := signin.New(signin.Options{
		BaseEndpoint: aws.String("https://" + c.host),
		Region:       "eu-west-1",
		HTTPClient:   &http.Client{Transport: c.sim},
		Retryer:      aws.NopRetryer{},
	}, signin.WithAPIOptions(smithyhttp.AddHeaderValue("DPoP", proof)))
	if body.ClientId == nil {
		body.ClientId = aws.String(sameDevice)
	}
	out, err := api.CreateOAuth2Token(context.Background(), &signin.CreateOAuth2TokenInput{TokenInput: &body})
	if err != nil {
		return nil, err
	}
	return out.TokenOutput, nil
}

func (c *loginClient) redeem(code, verifier, redirect string) (*types.CreateOAuth2TokenResponseBody, error) {
	c.t.Helper()
	return c.send(c.dpop(), types.CreateOAuth2TokenRequestBody{
		GrantType: aws.String(grantCode), Code: &code, CodeVerifier: &verifier, RedirectUri: &redirect,
	})
}

func (c *loginClient) refresh(token *string) (*types.CreateOAuth2TokenResponseBody, error) {
	c.t.Helper()
	return c.send(c.dpop(), types.CreateOAuth2TokenRequestBody{GrantType: aws.String(grantRefresh), RefreshToken: token})
}

// authorization is the request that `aws login` makes of the browser.
func loginRequest() url.Values {
	return url.Values{
		"response_type":         {"code"},
		"client_id":             {sameDevice},
		"state":                 {"stated"},
		"code_challenge_method": {"SHA-256"},
		"scope":                 {"openid"},
		"redirect_uri":          {calledBack},
		"code_challenge":        {challenge},
	}
}

// code gets an authorization code from the page.
func (c *loginClient) code() string {
	c.t.Helper()
	got := newBrowser(c.t, c.sim, c.host).click("/v1/authorize", loginRequest(), "allow")
	if got.code() == "" || got.to.Query().Get("state") != "stated" {
		c.t.Fatalf("page %+v", got)
	}
	return got.code()
}

func (c *loginClient) login() *types.CreateOAuth2TokenResponseBody {
	c.t.Helper()
	out, err := c.redeem(c.code(), verifier, calledBack)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// holder is a caller with the credentials of a login.
func (c *loginClient) holder(out *types.CreateOAuth2TokenResponseBody) caller {
	keys := out.AccessToken
	return caller{sim: c.sim, keys: aws.Credentials{
		AccessKeyID: *keys.AccessKeyId, SecretAccessKey: *keys.SecretAccessKey, SessionToken: *keys.SessionToken,
	}}
}

// wantLogin fails the test unless err is an error of the sign-in service with that code and status.
func wantLogin(t testing.TB, err error, code types.OAuth2ErrorCode, status int) {
	t.Helper()
	denied, invalid := (*types.AccessDeniedException)(nil), (*types.ValidationException)(nil)
	switch {
	case errors.As(err, &denied) && denied.Error_ == code:
	case errors.As(err, &invalid) && invalid.Error_ == code:
	default:
		t.Fatalf("error %v, want %s", err, code)
	}
	wantStatus(t, err, status)
}

func TestLoginFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		client := newLoginClient(t, sim)
		asked := newBrowser(t, sim, signInHost).get("/v1/authorize", loginRequest())
		if asked.status != 200 || !strings.Contains(asked.text, "<option>"+paulARN) {
			t.Fatalf("page %+v", asked)
		}
		out := client.login()
		if *out.TokenType != "aws_sigv4" || *out.ExpiresIn > 900 || *out.ExpiresIn < 899 {
			t.Errorf("token %+v", out)
		}
		claims, err := base64.RawURLEncoding.DecodeString(strings.Split(*out.IdToken, ".")[1])
		if err != nil || !strings.Contains(string(claims), `"sub":"`+paulARN+`"`) {
			t.Errorf("id token %s, %v", claims, err)
		}
		who := client.holder(out)
		if arn := who.call("GetCallerIdentity").field("Arn"); arn != paulARN {
			t.Errorf("arn %s", arn)
		}
		who.call("GetUser").want(t, "", "")
		who.call("GetSessionToken").want(t, "AccessDenied", "session credentials")
		assume := []string{"RoleArn", devAdmin, "RoleSessionName", "test"}
		who.call("AssumeRole", assume...).want(t, "", "")
		who.call("AssumeRole", append(assume, "DurationSeconds", "3601")...).want(t, "ValidationError", "role chaining")
		sim.SetLoginMFA(false)
		client.holder(client.login()).call("AssumeRole", assume...).want(t, "AccessDenied", "not authorized")

		second, err := client.refresh(out.RefreshToken)
		if err != nil || second.IdToken != nil || *second.RefreshToken == *out.RefreshToken {
			t.Fatalf("refreshed %+v, %v", second, err)
		}
		_, err = client.refresh(out.RefreshToken)
		wantLogin(t, err, loginExpired, 401)
		time.Sleep(15 * time.Minute)
		who.call("GetCallerIdentity").want(t, "ExpiredToken", "")
		time.Sleep(11*time.Hour + 40*time.Minute)
		third, err := client.refresh(second.RefreshToken)
		if err != nil || *third.ExpiresIn != 300 {
			t.Fatalf("refreshed %+v, %v", third, err)
		}
		time.Sleep(5 * time.Minute)
		_, err = client.refresh(third.RefreshToken)
		wantLogin(t, err, loginExpired, 401)
	})
}

func TestLoginRefusals(t *testing.T) {
	sim := newDemo(t)
	client := newLoginClient(t, sim)
	code := client.code()
	_, err := client.redeem("unknown", verifier, calledBack)
	wantLogin(t, err, loginInvalid, 400)
	_, err = client.redeem(code, strings.ToLower(verifier), calledBack)
	wantLogin(t, err, loginInvalid, 400)
	_, err = client.redeem(code, verifier, calledBack)
	wantLogin(t, err, loginCodeExpired, 401)
	_, err = client.redeem(client.code(), verifier, strings.Replace(calledBack, "43210", "43211", 1))
	wantLogin(t, err, loginInvalid, 400)
	code = client.code()
	elsewhere := *client
	elsewhere.host = "us-east-1.signin.aws.amazon.com"
	_, err = elsewhere.redeem(code, verifier, calledBack)
	wantLogin(t, err, loginInvalid, 400)
	_, err = client.send(client.dpop(), types.CreateOAuth2TokenRequestBody{
		ClientId: aws.String(crossDevice), GrantType: aws.String(grantCode), Code: &code,
		CodeVerifier: aws.String(verifier), RedirectUri: aws.String(calledBack),
	})
	wantLogin(t, err, loginInvalid, 400)
	if _, err = client.redeem(code, verifier, calledBack); err != nil {
		t.Error(err)
	}
	code = client.code()
	sim.SetClockOffset(10 * time.Minute)
	_, err = client.redeem(code, verifier, calledBack)
	wantLogin(t, err, loginCodeExpired, 401)

	// A session belongs to its region, its client and its key.
	out := client.login()
	_, err = elsewhere.refresh(out.RefreshToken)
	wantLogin(t, err, loginInvalid, 400)
	_, err = newLoginClient(t, sim).refresh(out.RefreshToken)
	wantLogin(t, err, loginInvalid, 400)
	_, err = client.send(client.dpop(), types.CreateOAuth2TokenRequestBody{
		ClientId: aws.String(crossDevice), GrantType: aws.String(grantRefresh), RefreshToken: out.RefreshToken,
	})
	wantLogin(t, err, loginInvalid, 400)
	if err := sim.EndLogins("nobody", ""); err != nil {
		t.Fatal(err)
	}
	if out, err = client.refresh(out.RefreshToken); err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{loginExpired, loginChanged} {
		if err := sim.EndLogins("paul", code); err != nil {
			t.Fatal(err)
		}
		_, err = client.refresh(out.RefreshToken)
		wantLogin(t, err, types.OAuth2ErrorCode(code), map[string]int{loginExpired: 401, loginChanged: 403}[code])
	}
	if err := sim.EndLogins("", "server_error"); err == nil {
		t.Error("took an error that no refresh has")
	}
	sim.Fault(Fault{Kind: Throttle, Action: "CreateOAuth2Token"})
	_, err = client.refresh(out.RefreshToken)
	if slow := (*types.TooManyRequestsError)(nil); !errors.As(err, &slow) {
		t.Errorf("error %v", err)
	}
	wantStatus(t, err, 429)
	sim.Fault(Fault{Kind: ErrorAnswer, Action: "CreateOAuth2Token", Code: "server_error", Status: 500})
	_, err = client.refresh(out.RefreshToken)
	if broken := (*types.InternalServerException)(nil); !errors.As(err, &broken) {
		t.Errorf("error %v", err)
	}
}

func TestProofIsChecked(t *testing.T) {
	sim := newDemo(t)
	client := newLoginClient(t, sim)
	out := client.login()
	ask := types.CreateOAuth2TokenRequestBody{GrantType: aws.String(grantRefresh), RefreshToken: out.RefreshToken}
	jwk := func(header map[string]any) map[string]any { return header["jwk"].(map[string]any) }
	changes := map[string]func(header, claims map[string]any){
		"type":        func(h, _ map[string]any) { h["typ"] = "JWT" },
		"algorithm":   func(h, _ map[string]any) { h["alg"] = "none" },
		"key type":    func(h, _ map[string]any) { jwk(h)["kty"] = "RSA" },
		"curve":       func(h, _ map[string]any) { jwk(h)["crv"] = "P-384" },
		"short x":     func(h, _ map[string]any) { jwk(h)["x"] = jwk(h)["x"].(string)[:42] },
		"no point":    func(h, _ map[string]any) { jwk(h)["y"] = jwk(h)["x"] },
		"private key": func(h, _ map[string]any) { jwk(h)["d"] = "AAAA" },
		"method":      func(_, c map[string]any) { c["htm"] = "GET" },
		"host":        func(_, c map[string]any) { c["htu"] = "https://us-east-1.signin.aws.amazon.com/v1/token" },
		"path":        func(_, c map[string]any) { c["htu"] = "https://" + signInHost + "/v1/authorize" },
		"old":         func(_, c map[string]any) { c["iat"] = sim.Now().Add(-6 * time.Minute).Unix() },
		"early":       func(_, c map[string]any) { c["iat"] = sim.Now().Add(6 * time.Minute).Unix() },
		"no id":       func(_, c map[string]any) { delete(c, "jti") },
	}
	for name, change := range changes {
		client.change = change
		_, err := client.send(client.dpop(), ask)
		wantProof(t, name, err)
	}
	client.change = nil
	proof := client.dpop()
	other := newLoginClient(t, sim)
	other.key = client.key
	parts, foreign := strings.Split(proof, "."), strings.Split(newLoginClient(t, sim).dpop(), ".")
	for name, wrong := range map[string]string{
		"signature of another key": parts[0] + "." + parts[1] + "." + foreign[2],
		"key of another signature": foreign[0] + "." + parts[1] + "." + parts[2],
		"cut":                      parts[0] + "." + parts[1],
		"not base64":               "a.b.c",
	} {
		_, err := client.send(wrong, ask)
		wantProof(t, name, err)
	}
	out, err := client.send(proof, ask)
	if err != nil {
		t.Fatal(err)
	}
	ask.RefreshToken = out.RefreshToken
	_, err = client.send(proof, ask)
	wantProof(t, "used", err)
	if _, err := other.send(other.dpop(), ask); err != nil {
		t.Errorf("a second client with the key: %v", err)
	}
}

func wantProof(t *testing.T, name string, err error) {
	t.Helper()
	invalid := (*types.ValidationException)(nil)
	if !errors.As(err, &invalid) || !strings.Contains(*invalid.Message, "DPoP") {
		t.Errorf("%s: %v", name, err)
	}
}

func TestLoginOnAnotherDevice(t *testing.T) {
	sim := newDemo(t)
	client := newLoginClient(t, sim)
	request, confirmation := loginRequest(), "https://"+signInHost+confirmationPath
	request.Set("client_id", crossDevice)
	request.Set("redirect_uri", confirmation)
	user := newBrowser(t, sim, signInHost)
	allowed := user.click("/v1/authorize", request, "allow")
	if !strings.HasPrefix(allowed.to.String(), confirmation+"?") {
		t.Fatalf("page %+v", allowed)
	}
	shown := user.get(confirmationPath, allowed.to.Query())
	text := regexp.MustCompile(`id="done">([^<]+)<`).FindStringSubmatch(shown.text)
	if text == nil {
		t.Fatalf("page %+v", shown)
	}
	plain, err := base64.StdEncoding.DecodeString(strings.NewReplacer("&#43;", "+", "&#61;", "=").Replace(text[1]))
	if err != nil {
		t.Fatal(err)
	}
	typed, err := url.ParseQuery(string(plain))
	if err != nil || typed.Get("state") != "stated" {
		t.Fatalf("text %s, %v", plain, err)
	}
	out, err := client.send(client.dpop(), types.CreateOAuth2TokenRequestBody{
		ClientId: aws.String(crossDevice), GrantType: aws.String(grantCode), Code: aws.String(typed.Get("code")),
		CodeVerifier: aws.String(verifier), RedirectUri: &confirmation,
	})
	if err != nil || out.IdToken == nil {
		t.Fatalf("token %+v, %v", out, err)
	}
}

func TestLoginRequestIsChecked(t *testing.T) {
	sim := newDemo(t)
	if err := sim.AnswerPages("allow", "paul"); err != nil {
		t.Fatal(err)
	}
	user := newBrowser(t, sim, signInHost)
	if got := user.get("/v1/authorize", loginRequest()); got.code() == "" {
		t.Errorf("page %+v", got)
	}
	for _, test := range []struct{ key, value, code string }{
		{"client_id", "arn:aws:signin:::devtools/other", ""},
		{"client_id", crossDevice, ""},
		{"redirect_uri", "http://127.0.0.1/oauth/callback", ""},
		{"redirect_uri", "http://localhost:43210/oauth/callback", ""},
		{"redirect_uri", "https://" + signInHost + confirmationPath, ""},
		{"code_challenge_method", "S256", "invalid_request"},
		{"scope", "profile", "invalid_request"},
		{"state", "", "invalid_request"},
		{"response_type", "token", "invalid_request"},
	} {
		request := loginRequest()
		request.Set(test.key, test.value)
		got := user.get("/v1/authorize", request)
		switch {
		case test.code == "" && (got.status != 400 || got.to != nil):
			t.Errorf("%s=%s: %+v, want a page", test.key, test.value, got)
		case test.code != "" && (got.to == nil || got.to.Query().Get("error") != test.code || got.code() != ""):
			t.Errorf("%s=%s: %+v, want %s", test.key, test.value, got, test.code)
		}
	}
	if err := sim.AnswerPages("deny", ""); err != nil {
		t.Fatal(err)
	}
	if got := user.get("/v1/authorize", loginRequest()); got.to.Query().Get("error") != "access_denied" {
		t.Errorf("denied: %+v", got)
	}
}

func TestLoginPermissions(t *testing.T) {
	for deny, atPage := range map[string]bool{"signin:AuthorizeOAuth2Access": true, "signin:CreateOAuth2Token": false} {
		org := Demo()
		org.User("security", "paul").Deny = []string{deny}
		sim, err := New(org)
		if err != nil {
			t.Fatal(err)
		}
		client := newLoginClient(t, sim)
		got := newBrowser(t, sim, signInHost).click("/v1/authorize", loginRequest(), "allow")
		if atPage {
			if got.to.Query().Get("error") != "access_denied" {
				t.Errorf("page %+v", got)
			}
			continue
		}
		_, err = client.redeem(got.code(), verifier, calledBack)
		wantLogin(t, err, loginInsufficient, 403)
	}
}

// TestLoginProviderOfTheSDK: the provider of the Go SDK refreshes a cache file, with proofs of its own.
func TestLoginProviderOfTheSDK(t *testing.T) {
	sim := newDemo(t)
	client := newLoginClient(t, sim)
	// The provider leaves out leading zeros of a coordinate, in one key of 128. This service refuses such a key.
	for public := make([]byte, 65); public[1] == 0 || public[33] == 0; {
		client = newLoginClient(t, sim)
		var err error
		if public, err = client.key.PublicKey.Bytes(); err != nil {
			t.Fatal(err)
		}
	}
	out := client.login()
	der, err := x509.MarshalECPrivateKey(client.key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token.json")
	text := fmt.Sprintf(`{"accessToken":{"accessKeyId":"a","secretAccessKey":"b","sessionToken":"c","accountId":"111122223333",
		"expiresAt":"2020-01-01T00:00:00Z"},"tokenType":"aws_sigv4","clientId":%q,"refreshToken":%q,"idToken":%q,"dpopKey":%q}`,
		sameDevice, *out.RefreshToken, *out.IdToken, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	api := signin.New(signin.Options{
		BaseEndpoint: aws.String("https://" + signInHost),
		Region:       "eu-west-1",
		HTTPClient:   &http.Client{Transport: sim},
		Retryer:      aws.NopRetryer{},
	})
	keys, err := logincreds.New(api, file).Retrieve(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if arn := (caller{sim: sim, keys: keys}).call("GetCallerIdentity").field("Arn"); arn != paulARN {
		t.Errorf("arn %s", arn)
	}
}

func TestLoginAdminPaths(t *testing.T) {
	sim := newDemo(t)
	client := newLoginClient(t, sim)
	out := client.login()
	post := func(path, body string, want int) {
		t.Helper()
		web := http.Client{Transport: sim}
		response, err := web.Post("https://simulated.invalid/_sim/"+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s %s: %d, want %d", path, body, response.StatusCode, want)
		}
	}
	post("login/mfa", `{"mfa":false}`, 200)
	out, err := client.refresh(out.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	client.holder(out).call("AssumeRole", "RoleArn", devAdmin, "RoleSessionName", "test").want(t, "AccessDenied", "")
	post("lives", `{"login_keys_seconds":3600,"login_session_seconds":1800}`, 200)
	out = client.login()
	if *out.ExpiresIn > 900 {
		t.Errorf("life %d", *out.ExpiresIn)
	}
	post("login/end", `{"error":"AUTHCODE_EXPIRED"}`, 400)
	post("login/end", `{"user":"`+paulARN+`","error":"USER_CREDENTIALS_CHANGED"}`, 200)
	_, err = client.refresh(out.RefreshToken)
	wantLogin(t, err, loginChanged, 403)

	records, err := json.Marshal(sim.Requests())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{*out.RefreshToken, *out.AccessToken.SessionToken, verifier, client.last} {
		if strings.Contains(string(records), secret) {
			t.Errorf("a secret was recorded: %.20s…", secret)
		}
	}
}
