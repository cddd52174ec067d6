package stssim

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssooidc"
	"github.com/aws/aws-sdk-go-v2/service/ssooidc/types"
)

func TestDeviceFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		client := deviceClient(t, sim, scopeAccount)
		started := client.start()
		if started.ExpiresIn != 600 || started.Interval != 1 ||
			*started.VerificationUriComplete != *started.VerificationUri+"?user_code="+*started.UserCode ||
			!strings.HasPrefix(*started.VerificationUri, "https://oidc.eu-west-1.amazonaws.com/") {
			t.Errorf("started %+v", started)
		}
		_, err := client.poll(started.DeviceCode)
		wantCode(t, err, "AuthorizationPendingException", "")
		pending := (*types.AuthorizationPendingException)(nil)
		if !errors.As(err, &pending) || *pending.Error_ != "authorization_pending" {
			t.Errorf("error %v", err)
		}
		time.Sleep(500 * time.Millisecond)
		_, err = client.poll(started.DeviceCode)
		wantCode(t, err, "SlowDownException", "")
		time.Sleep(5900 * time.Millisecond) // it has to wait for 6 s now
		_, err = client.poll(started.DeviceCode)
		wantCode(t, err, "SlowDownException", "")
		time.Sleep(11 * time.Second)
		_, err = client.poll(started.DeviceCode)
		wantCode(t, err, "AuthorizationPendingException", "")

		if waiting := sim.Portal().Devices; len(waiting) != 1 || waiting[0].UserCode != *started.UserCode {
			t.Errorf("devices %+v", waiting)
		}
		if err := sim.ApproveDevice(strings.ToLower(*started.UserCode), "paul"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		_, err = deviceClient(t, sim, scopeAccount).poll(started.DeviceCode)
		wantCode(t, err, "InvalidGrantException", "") // of another client
		out, err := client.poll(started.DeviceCode)
		if err != nil || out.ExpiresIn != 3600 || *out.TokenType != "Bearer" || out.RefreshToken == nil {
			t.Fatalf("token %+v, %v", out, err)
		}
		time.Sleep(11 * time.Second)
		_, err = client.poll(started.DeviceCode)
		wantCode(t, err, "InvalidGrantException", "") // a code is for one token
		if err := sim.ApproveDevice(*started.UserCode, ""); err == nil {
			t.Error("approved a code that does not wait")
		}

		denied := client.start()
		if err := sim.DenyDevice(*denied.UserCode); err != nil {
			t.Fatal(err)
		}
		_, err = client.poll(denied.DeviceCode)
		wantCode(t, err, "AccessDeniedException", "")
		late := client.start()
		sim.SetClockOffset(10 * time.Minute)
		_, err = client.poll(late.DeviceCode)
		wantCode(t, err, "ExpiredTokenException", "")
		if err := sim.ApproveDevice(*late.UserCode, ""); err == nil {
			t.Error("approved an expired code")
		}
	})
}

func TestRegistration(t *testing.T) {
	sim, api, ctx := newDemo(t), oidcIn(newDemo(t), "eu-west-1"), context.Background()
	tests := []struct {
		name string
		in   ssooidc.RegisterClientInput
		code string
	}{
		{"no grant type", ssooidc.RegisterClientInput{}, ""},
		{"another port", ssooidc.RegisterClientInput{
			GrantTypes: []string{grantCode}, RedirectUris: []string{calledBack}, IssuerUrl: aws.String(demoStart),
		}, "InvalidRedirectUriException"},
		{"IPv6", ssooidc.RegisterClientInput{RedirectUris: []string{"http://[::1]/oauth/callback"}}, "InvalidRedirectUriException"},
		{"another path", ssooidc.RegisterClientInput{RedirectUris: []string{"http://127.0.0.1/"}}, "InvalidRedirectUriException"},
		{"another host", ssooidc.RegisterClientInput{RedirectUris: []string{"http://example.com/oauth/callback"}}, "InvalidRedirectUriException"},
		{"no redirect", ssooidc.RegisterClientInput{
			GrantTypes: []string{grantCode}, IssuerUrl: aws.String(demoStart),
		}, "InvalidRedirectUriException"},
		{"two flows", ssooidc.RegisterClientInput{
			GrantTypes: []string{grantCode, grantDevice}, RedirectUris: []string{callback}, IssuerUrl: aws.String(demoStart),
		}, "InternalServerException"},
		{"another portal", ssooidc.RegisterClientInput{
			GrantTypes: []string{grantCode}, RedirectUris: []string{callback}, IssuerUrl: aws.String("https://other.awsapps.com/start"),
		}, "InvalidRequestException"},
		{"grant type", ssooidc.RegisterClientInput{GrantTypes: []string{"password"}}, "UnsupportedGrantTypeException"},
		{"scope", ssooidc.RegisterClientInput{Scopes: []string{"everything"}}, "InvalidScopeException"},
		{"start URL with #", ssooidc.RegisterClientInput{
			GrantTypes: []string{grantCode}, RedirectUris: []string{callback}, IssuerUrl: aws.String(demoStart + "/#"),
		}, ""},
	}
	for _, test := range tests {
		test.in.ClientName, test.in.ClientType = aws.String("test"), aws.String("public")
		out, err := api.RegisterClient(ctx, &test.in)
		if errorCode(err) != test.code || (err == nil) != (test.code == "") {
			t.Errorf("%s: %v, want %q", test.name, err, test.code)
		}
		if err == nil && out.ClientSecretExpiresAt-out.ClientIdIssuedAt != 90*24*3600 {
			t.Errorf("%s: %+v", test.name, out)
		}
	}
	confidential := ssooidc.RegisterClientInput{ClientName: aws.String("test"), ClientType: aws.String("confidential")}
	_, err := api.RegisterClient(ctx, &confidential)
	wantCode(t, err, "InvalidClientMetadataException", "")

	client := deviceClient(t, sim)
	started := client.start()
	wrong := client
	wrong.secret = aws.String("wrong")
	_, err = wrong.poll(started.DeviceCode)
	wantCode(t, err, "InvalidClientException", "")
	wantStatus(t, err, http.StatusUnauthorized)
	_, err = browserClient(t, sim).poll(started.DeviceCode)
	wantCode(t, err, "UnauthorizedClientException", "")
	_, err = client.token(ssooidc.CreateTokenInput{GrantType: aws.String("password")})
	wantCode(t, err, "UnsupportedGrantTypeException", "")
	sim.ExpireRegistrations()
	_, err = client.poll(started.DeviceCode)
	wantCode(t, err, "InvalidClientException", "")
}

func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		client := deviceClient(t, sim, scopeAccount)
		first := client.login()
		second, err := client.refresh(first.RefreshToken)
		if err != nil || *second.RefreshToken == *first.RefreshToken || *second.AccessToken == *first.AccessToken {
			t.Fatalf("refreshed %+v, %v", second, err)
		}
		_, err = client.refresh(first.RefreshToken)
		wantCode(t, err, "InvalidGrantException", "")
		_, err = deviceClient(t, sim, scopeAccount).refresh(second.RefreshToken)
		wantCode(t, err, "InvalidGrantException", "")
		elsewhere := client
		elsewhere.api = oidcIn(sim, "us-east-1")
		_, err = elsewhere.refresh(second.RefreshToken)
		wantCode(t, err, "InvalidRequestException", "")
		foreign := (*types.InvalidRequestException)(nil)
		if !errors.As(err, &foreign) || *foreign.Error_description != "Invalid token provided" {
			t.Errorf("error %v", err)
		}
		// The last access token ends with the session, and so does the refresh token.
		time.Sleep(7*time.Hour + 30*time.Minute)
		third, err := client.refresh(second.RefreshToken)
		if err != nil || third.ExpiresIn != 1800 {
			t.Fatalf("refreshed %+v, %v", third, err)
		}
		time.Sleep(30 * time.Minute)
		_, err = client.refresh(third.RefreshToken)
		wantCode(t, err, "InvalidGrantException", "")

		fourth := client.login()
		sim.SpendRefreshTokens()
		_, err = client.refresh(fourth.RefreshToken)
		wantCode(t, err, "InvalidGrantException", "")
		fifth := client.login()
		sim.EndPortalSessions("paul")
		_, err = client.refresh(fifth.RefreshToken)
		wantCode(t, err, "InvalidGrantException", "")

		// Without a scope, or with that of the portal alone, the token lives as long as the session.
		for _, scopes := range [][]string{nil, {scopePortal}} {
			if out := deviceClient(t, sim, scopes...).login(); out.RefreshToken != nil || out.ExpiresIn != 8*3600 {
				t.Errorf("scopes %v: %+v", scopes, out)
			}
		}
	})
}

func TestCodeFlow(t *testing.T) {
	sim := newDemo(t)
	client := browserClient(t, sim)
	user := newBrowser(t, sim, "oidc.eu-west-1.amazonaws.com")
	asked := user.get("/authorize", client.authorization())
	if asked.status != 200 || !strings.Contains(asked.text, `id="allow"`) || !strings.Contains(asked.text, "<option>paul") {
		t.Fatalf("page %+v", asked)
	}
	denied := user.click("/authorize", client.authorization(), "deny")
	if q := denied.to.Query(); q.Get("error") != "access_denied" || q.Get("state") != "stated" {
		t.Errorf("denied: %s", denied.to)
	}
	allowed := user.click("/authorize", client.authorization(), "allow")
	if allowed.code() == "" || !strings.HasPrefix(allowed.to.String(), calledBack+"?") || allowed.to.Query().Get("state") != "stated" {
		t.Fatalf("allowed: %+v", allowed)
	}
	out, err := client.redeem(allowed.code(), verifier, calledBack)
	if err != nil || out.RefreshToken == nil {
		t.Fatalf("token %+v, %v", out, err)
	}
	_, err = client.redeem(allowed.code(), verifier, calledBack)
	wantCode(t, err, "InvalidGrantException", "")

	// A warm session needs no click, and a wrong request gets no second chance with its code.
	wrong := []struct{ name, verifier, redirect string }{
		{"another verifier", strings.ToLower(verifier), calledBack},
		{"another port", verifier, strings.Replace(calledBack, "43210", "43211", 1)},
		{"a verifier that is too short", verifier[:42], calledBack},
	}
	for _, test := range wrong {
		warm := user.get("/authorize", client.authorization())
		if warm.code() == "" {
			t.Fatalf("warm: %+v", warm)
		}
		for _, with := range [][2]string{{test.verifier, test.redirect}, {verifier, calledBack}} {
			_, err = client.redeem(warm.code(), with[0], with[1])
			wantCode(t, err, "InvalidGrantException", "")
		}
	}
	warm := user.get("/authorize", client.authorization())
	_, err = browserClient(t, sim).redeem(warm.code(), verifier, calledBack)
	wantCode(t, err, "InvalidGrantException", "") // of another client
	sim.SetClockOffset(10 * time.Minute)
	_, err = client.redeem(warm.code(), verifier, calledBack)
	wantCode(t, err, "InvalidGrantException", "") // too late
	sim.EndPortalSessions("")
	if cold := user.get("/authorize", client.authorization()); cold.to != nil {
		t.Errorf("after the end of the session: %s", cold.to)
	}
}

func TestAuthorizeRequestIsChecked(t *testing.T) {
	sim := newDemo(t)
	client := browserClient(t, sim)
	if err := sim.AnswerPages("allow", ""); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		key, value string
		code       string // "" means a page instead of a redirect
	}{
		{"client_id", "unknown", ""},
		{"redirect_uri", "http://127.0.0.1:43210/", ""},
		{"redirect_uri", "http://[::1]:43210/oauth/callback", ""},
		{"redirect_uri", "https://127.0.0.1:43210/oauth/callback", ""},
		{"redirect_uri", "http://127.0.0.1.example.com/oauth/callback", ""},
		{"response_type", "token", "unsupported_response_type"},
		{"code_challenge_method", "plain", "invalid_request"},
		{"code_challenge", "", "invalid_request"},
		{"state", "", "invalid_request"},
		{"scopes", "sso:account:access,codewhisperer:completions", "invalid_scope"},
	}
	for _, test := range tests {
		request := client.authorization()
		request.Set(test.key, test.value)
		got := newBrowser(t, sim, "oidc.eu-west-1.amazonaws.com").get("/authorize", request)
		switch {
		case test.code == "" && (got.status != 400 || got.to != nil):
			t.Errorf("%s=%s: %+v, want a page", test.key, test.value, got)
		case test.code != "" && (got.to == nil || got.to.Query().Get("error") != test.code || got.code() != ""):
			t.Errorf("%s=%s: %+v, want %s", test.key, test.value, got, test.code)
		}
	}
	user := newBrowser(t, sim, "oidc.eu-west-1.amazonaws.com")
	if got := user.get("/authorize", client.authorization()); got.code() == "" {
		t.Errorf("a page that answers by itself: %+v", got)
	}
	if got := newBrowser(t, sim, "oidc.us-east-1.amazonaws.com").get("/authorize", client.authorization()); got.code() != "" {
		t.Error("authorized in another region")
	}
	elsewhere := client
	elsewhere.api = oidcIn(sim, "us-east-1")
	code := user.get("/authorize", client.authorization()).code()
	_, err := elsewhere.redeem(code, verifier, calledBack)
	wantCode(t, err, "InvalidRequestException", "")
	if _, err := client.redeem(code, verifier, calledBack); err != nil {
		t.Error(err)
	}
	_, err = elsewhere.api.StartDeviceAuthorization(context.Background(), &ssooidc.StartDeviceAuthorizationInput{
		ClientId: deviceClient(t, sim).id, ClientSecret: aws.String("wrong"), StartUrl: aws.String(demoStart),
	})
	wantCode(t, err, "InvalidClientException", "")
	device := deviceClient(t, sim)
	_, err = elsewhere.api.StartDeviceAuthorization(context.Background(), &ssooidc.StartDeviceAuthorizationInput{
		ClientId: device.id, ClientSecret: device.secret, StartUrl: aws.String(demoStart),
	})
	wantCode(t, err, "InvalidRequestException", "")
	// A link cannot answer for the person.
	if err := sim.AnswerPages("ask", ""); err != nil {
		t.Fatal(err)
	}
	link := client.authorization()
	link.Set("answer", "allow")
	if got := newBrowser(t, sim, "oidc.eu-west-1.amazonaws.com").get("/authorize", link); got.to != nil {
		t.Errorf("a link allowed: %+v", got)
	}
}

func TestDevicePage(t *testing.T) {
	sim := newDemo(t)
	client := deviceClient(t, sim, scopeAccount)
	user := newBrowser(t, sim, "oidc.eu-west-1.amazonaws.com")
	started := client.start()
	code := url.Values{"user_code": {*started.UserCode}}
	if asked := user.get("/device", code); asked.status != 200 || !strings.Contains(asked.text, *started.UserCode) {
		t.Fatalf("page %+v", asked)
	}
	if done := user.click("/device", code, "allow"); done.status != 200 || !strings.Contains(done.text, "approved") {
		t.Fatalf("page %+v", done)
	}
	if _, err := client.poll(started.DeviceCode); err != nil {
		t.Fatal(err)
	}
	if again := user.get("/device", code); again.status != 400 {
		t.Errorf("a used code: %+v", again)
	}
	started = client.start()
	code.Set("user_code", *started.UserCode)
	user.click("/device", code, "deny")
	_, err := client.poll(started.DeviceCode)
	wantCode(t, err, "AccessDeniedException", "")
}
