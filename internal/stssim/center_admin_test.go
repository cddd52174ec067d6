package stssim

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sso"
	"github.com/aws/aws-sdk-go-v2/service/ssooidc"
)

// TestCenterAdminPaths: a script does over HTTP what tests in Go do with methods. The client of the region in the
// path stays in it.
func TestCenterAdminPaths(t *testing.T) {
	sim := newDemo(t)
	server, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	post := func(path, body string, want int) {
		t.Helper()
		response, err := http.Post(server.URL+"/_sim/"+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if text, _ := io.ReadAll(response.Body); response.StatusCode != want {
			t.Errorf("%s %s: %d %s, want %d", path, body, response.StatusCode, text, want)
		}
	}
	state := func() (state PortalState) {
		t.Helper()
		response, err := http.Get(server.URL + "/_sim/sso")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if err := json.NewDecoder(response.Body).Decode(&state); err != nil {
			t.Fatal(err)
		}
		return state
	}
	client := deviceClient(t, sim, scopeAccount)
	client.api = ssooidc.New(ssooidc.Options{
		BaseEndpoint: aws.String(server.URL + "/_region/eu-west-1"), Region: "eu-west-1", Retryer: aws.NopRetryer{},
	})
	started := client.start()
	if page := server.URL + "/_region/eu-west-1/device"; *started.VerificationUri != page {
		t.Errorf("page %s, want %s", *started.VerificationUri, page)
	}
	if s := state(); s.StartURL != demoStart || s.Region != "eu-west-1" || s.Clients != 1 || len(s.Devices) != 1 {
		t.Errorf("state %+v", s)
	}
	post("sso/approve", `{"user_code":"none"}`, 404)
	post("sso/approve", `{"user_code":"`+*started.UserCode+`","user":"nobody"}`, 404)
	post("sso/approve", `{"user_code":"`+*started.UserCode+`","user":"paul"}`, 200)
	out, err := client.poll(started.DeviceCode)
	if err != nil {
		t.Fatal(err)
	}
	s := state()
	if len(s.Sessions) != 1 || s.Sessions[0].User != "paul" || s.Sessions[0].AccessTokens+s.Sessions[0].RefreshTokens != 2 {
		t.Errorf("state %+v", s)
	}
	post("sso/tokens/expire", "", 200)
	_, err = roleOf(sim, out.AccessToken, devID, "Admin")
	wantCode(t, err, "UnauthorizedException", "")
	post("sso/refresh/spend", "", 200)
	_, err = client.refresh(out.RefreshToken)
	wantCode(t, err, "InvalidGrantException", "")
	post("sso/sessions/end", `{}`, 200)
	if s := state(); len(s.Sessions) != 0 {
		t.Errorf("state %+v", s)
	}
	started = client.start()
	post("sso/deny", `{"user_code":"`+*started.UserCode+`"}`, 200)
	_, err = client.poll(started.DeviceCode)
	wantCode(t, err, "AccessDeniedException", "")

	post("lives", `{"access_token_seconds":60,"code_seconds":30}`, 200)
	post("lives", `{"access_token":60}`, 400)
	started = client.start()
	if started.ExpiresIn != 30 {
		t.Errorf("code lives %d s", started.ExpiresIn)
	}
	post("pages", `{"answer":"maybe"}`, 400)
	post("pages", `{"answer":"allow"}`, 200)
	response, err := http.Get(*started.VerificationUriComplete)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if out, err := client.poll(started.DeviceCode); err != nil || out.ExpiresIn != 60 {
		t.Errorf("token %+v, %v", out, err)
	}
	post("sso/registrations/expire", "", 200)
	_, err = client.poll(started.DeviceCode)
	wantCode(t, err, "InvalidClientException", "")
	if s := state(); s.Clients != 0 {
		t.Errorf("state %+v", s)
	}
}

func TestCenterFile(t *testing.T) {
	text := `
[account dev]
id = 222233334444
[identity_center]
start_url = https://example.awsapps.com/start/#
users     = ana, leo
[permission_set Admin]
accounts = dev
users    = leo
session_duration = 2h
`
	org, err := ParseOrganization([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	sim, err := New(org)
	if err != nil {
		t.Fatal(err)
	}
	started, err := oidcIn(sim, "us-east-1").RegisterClient(context.Background(),
		&ssooidc.RegisterClientInput{ClientName: aws.String("test"), ClientType: aws.String("public")})
	if err != nil {
		t.Fatal(err)
	}
	client := registered{t, sim, oidcIn(sim, "us-east-1"), started.ClientId, started.ClientSecret}
	for user, code := range map[string]string{"ana": "ForbiddenException", "leo": ""} {
		grant, err := client.api.StartDeviceAuthorization(context.Background(), &ssooidc.StartDeviceAuthorizationInput{
			ClientId: client.id, ClientSecret: client.secret, StartUrl: aws.String("https://example.awsapps.com/start"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := sim.ApproveDevice(*grant.UserCode, user); err != nil {
			t.Fatal(err)
		}
		out, err := client.poll(grant.DeviceCode)
		if err != nil {
			t.Fatal(err)
		}
		_, err = portalIn(sim, "us-east-1").GetRoleCredentials(context.Background(), &sso.GetRoleCredentialsInput{
			AccessToken: out.AccessToken, AccountId: aws.String(devID), RoleName: aws.String("Admin"),
		})
		if errorCode(err) != code {
			t.Errorf("%s: %v, want %q", user, err, code)
		}
	}

	for wrong, reason := range map[string]string{
		"[identity_center]\nusers = ana":                                                "start_url is missing",
		"[identity_center]\nstart_url = http://a.example/start\nusers = ana":            "not an https URL",
		"[identity_center]\nstart_url = https://a.example\nusers = ana\nregion = there": "no such region",
		"[identity_center]\nstart_url = https://a.example":                              "no users",
		"[identity_center]\nstart_url = https://a.example\nusers = a b":                 "user \"a b\"",
		"[permission_set Admin]":                                                        "there is no [identity_center]",
	} {
		if _, err := ParseOrganization([]byte(wrong)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %v, want %q", wrong, err, reason)
		}
	}
	for key, reason := range map[string]string{
		"accounts = prod": "no such account", "users = max": "no such user", "session_duration = 13h": "not between",
		"policies = {}": "policy",
	} {
		wrong := fmt.Sprintf("%s\n[permission_set Other]\n%s\n", text, key)
		if _, err := ParseOrganization([]byte(wrong)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %v, want %q", key, err, reason)
		}
	}
}
