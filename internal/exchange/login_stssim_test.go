//go:build unix

package exchange

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/stssim"
)

const simStart = "https://demo.awsapps.com/start"

var simScopes = []string{"sso:account:access"}

// simulatedIn is a simulator, and a client of its services in a region.
func simulatedIn(t *testing.T, region string) (*stssim.Sim, *Client) {
	t.Helper()
	sim, c := simulator(t)
	c.endpoint += "/_region/" + region
	return sim, c
}

// visit does what a browser does with a page that asks nothing, and returns the query of the redirect.
func visit(t *testing.T, page string, err error) url.Values {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(page)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	to, err := resp.Location()
	if err != nil {
		t.Fatalf("%s answers %d", page, resp.StatusCode)
	}
	return to.Query()
}

func challengeOf(verifier string) string {
	hash := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(hash[:])
}

// TestSimulatedPortal: from the registration to the credentials of a role, with both ways to log in, until the end of
// the session.
func TestSimulatedPortal(t *testing.T) {
	sim, c := simulatedIn(t, "eu-west-1")
	ctx := background(t)
	if err := sim.AnswerPages("allow", ""); err != nil {
		t.Fatal(err)
	}
	reg, err := c.RegisterClient(ctx, ireland, simStart, simScopes, false)
	if err != nil {
		t.Fatal(err)
	}
	page, err := c.AuthorizeURL(ireland, reg, aLoopback, "my-state", challengeOf(strings.Repeat(verifierText, 2)), simScopes)
	back := visit(t, page, err)
	if back.Get("state") != "my-state" {
		t.Fatal(back)
	}
	grant := codeGrant()
	grant.Code, grant.Verifier = secret.New(back.Get("code")), secret.New(strings.Repeat(verifierText, 2))
	first, err := c.CreateToken(ctx, ireland, reg, grant)
	if err != nil || first.Refresh.IsZero() || first.Expires.Sub(first.Issued) != time.Hour {
		t.Fatal(first, err)
	}
	_, err = c.CreateToken(ctx, ireland, reg, grant)
	wantFault(t, err, fault.LoginNeeded, "the code of the page is wrong, was used or has expired")

	accounts, err := c.AssignedAccounts(ctx, ireland, first.Access)
	if err != nil || len(accounts) != 4 {
		t.Fatal(accounts, err)
	}
	roles, err := c.AssignedRoles(ctx, ireland, first.Access, accounts[0].ID)
	if err != nil || strings.Join(roles, " ") != "Admin ReadOnly" {
		t.Fatal(roles, err)
	}
	assume := func(token Token, role string) (session.Credentials, error) {
		return c.Assume(ctx, session.Credentials{SessionToken: token.Access}, session.Call{
			Operation: session.GetRoleCredentials, Endpoint: ireland, AccountID: accounts[0].ID, RoleName: role})
	}
	creds, err := assume(first, "Admin")
	if err != nil {
		t.Fatal(err)
	}
	who, err := c.Identity(ctx, Keys{creds.AccessKeyID, creds.SecretAccessKey, creds.SessionToken}, ireland)
	if err != nil || who.Account != accounts[0].ID || !strings.Contains(who.ARN, ":assumed-role/AWSReservedSSO_Admin_") {
		t.Error(who, err)
	}
	_, err = assume(first, "Nobody")
	wantFault(t, err, fault.Denied, "Nobody is not assigned to you in account "+accounts[0].ID)

	sim.ExpireAccessTokens()
	_, err = assume(first, "Admin")
	wantFault(t, err, fault.ExpiredSession, "the session of the portal has ended")
	second, err := c.CreateToken(ctx, ireland, reg, TokenGrant{Refresh: first.Refresh})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := assume(second, "ReadOnly"); err != nil {
		t.Error(err)
	}
	if err := c.EndPortal(ctx, ireland, second.Access); err != nil {
		t.Error(err)
	}
	if err := c.EndPortal(ctx, ireland, second.Access); err != nil {
		t.Errorf("the second end: %v", err)
	}
	last := second.Refresh
	if last.IsZero() {
		last = first.Refresh
	}
	_, err = c.CreateToken(ctx, ireland, reg, TokenGrant{Refresh: last})
	wantFault(t, err, fault.LoginNeeded, "the session has ended")
}

func TestSimulatedDevice(t *testing.T) {
	sim, c := simulatedIn(t, "eu-west-1")
	ctx := background(t)
	reg, err := c.RegisterClient(ctx, ireland, simStart, simScopes, true)
	if err != nil {
		t.Fatal(err)
	}
	start := func() DeviceGrant {
		t.Helper()
		device, err := c.StartDevice(ctx, ireland, reg, simStart)
		if err != nil {
			t.Fatal(err)
		}
		return device
	}
	poll := func(d DeviceGrant) error {
		_, err := c.CreateToken(ctx, ireland, reg, TokenGrant{Device: d.DeviceCode})
		return err
	}
	device := start()
	if err := poll(device); !errors.Is(err, session.ErrPending) {
		t.Error(err)
	}
	if err := poll(device); !errors.Is(err, session.ErrSlowDown) && !errors.Is(err, session.ErrPending) {
		t.Error(err)
	}
	device = start()
	if err := sim.ApproveDevice(device.UserCode, ""); err != nil {
		t.Fatal(err)
	}
	if err := poll(device); err != nil {
		t.Error(err)
	}
	device = start()
	if err := sim.DenyDevice(device.UserCode); err != nil {
		t.Fatal(err)
	}
	wantFault(t, poll(device), fault.LoginNeeded, "the login was declined on the page")
	device = start()
	sim.ExpireRegistrations()
	if err := poll(device); !errors.Is(err, ErrBadRegistration) || !fault.Is(err, fault.LoginNeeded) {
		t.Error(err)
	}
	if _, err := c.StartDevice(ctx, ireland, reg, simStart); !errors.Is(err, ErrBadRegistration) {
		t.Error(err)
	}
	reg, err = c.RegisterClient(ctx, ireland, simStart, simScopes, true)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.StartDevice(ctx, ireland, reg, "https://other.awsapps.com/start")
	wantFault(t, err, fault.Config, "sso_start_url")
}

// TestSimulatedWrongRegion: a portal in another region is named as the mistake that it is.
func TestSimulatedWrongRegion(t *testing.T) {
	_, c := simulatedIn(t, "us-west-2")
	ctx, oregon := background(t), profiles.Endpoint{Region: "us-west-2"}
	reg, err := c.RegisterClient(ctx, oregon, simStart, simScopes, true)
	if err == nil {
		_, err = c.StartDevice(ctx, oregon, reg, simStart)
	}
	wantFault(t, err, fault.Config, "us-west-2", "sso_region")
}

// TestSimulatedConsoleLogin: a login of `aws login`, its renewal after a lost connection, and its end.
func TestSimulatedConsoleLogin(t *testing.T) {
	for _, cross := range []bool{false, true} {
		sim, c := simulatedIn(t, "eu-west-1")
		ctx, key := background(t), p256(t)
		if err := sim.AnswerPages("allow", "paul"); err != nil {
			t.Fatal(err)
		}
		client, redirect := ConsoleSameDevice, aLoopback
		if cross {
			confirmation, err := c.ConsoleRedirect(ireland)
			if err != nil {
				t.Fatal(err)
			}
			client, redirect = ConsoleCrossDevice, confirmation
		}
		verifier := strings.Repeat(verifierText, 2)
		page, err := c.ConsoleAuthorizeURL(ireland, client, redirect, "my-state", challengeOf(verifier))
		back := visit(t, page, err)
		token, err := c.CreateConsoleToken(ctx, ireland, key, client, TokenGrant{Code: secret.New(back.Get("code")),
			Verifier: secret.New(verifier), Redirect: redirect})
		if err != nil || token.Credentials.Subject != "arn:aws:iam::111122223333:user/paul" {
			t.Fatal(token.Credentials.Subject, err)
		}
		who, err := c.Identity(ctx, Keys{token.Credentials.AccessKeyID, token.Credentials.SecretAccessKey,
			token.Credentials.SessionToken}, ireland)
		if err != nil || who.ARN != token.Credentials.Subject {
			t.Error(who, err)
		}
		_, err = c.CreateConsoleToken(ctx, ireland, p256(t), client, TokenGrant{Refresh: token.Refresh})
		if err == nil {
			t.Error("another key renews the login")
		}
		sim.Fault(stssim.Fault{Action: "CreateOAuth2Token", Kind: stssim.DropBefore})
		if token, err = c.CreateConsoleToken(ctx, ireland, key, client, TokenGrant{Refresh: token.Refresh}); err != nil {
			t.Fatalf("renewal after a lost connection: %v", err)
		}
		sim.Fault(stssim.Fault{Action: "CreateOAuth2Token", Kind: stssim.ErrorAnswer, Code: "INSUFFICIENT_PERMISSIONS", Message: "no", Status: 403})
		_, err = c.CreateConsoleToken(ctx, ireland, key, client, TokenGrant{Refresh: token.Refresh})
		wantFault(t, err, fault.Denied, "SignInLocalDevelopmentAccess")
		if err := sim.EndLogins("paul", "USER_CREDENTIALS_CHANGED"); err != nil {
			t.Fatal(err)
		}
		_, err = c.CreateConsoleToken(ctx, ireland, key, client, TokenGrant{Refresh: token.Refresh})
		wantFault(t, err, fault.LoginNeeded, "changed since the login")
	}
}
