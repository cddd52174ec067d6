package stssim

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// profileText is ~/.aws/config of a user of the demo organization.
const profileText = `[sso-session demo]
sso_start_url = ` + demoStart + `
sso_region = eu-west-1
sso_registration_scopes = sso:account:access
[profile dev]
sso_session = demo
sso_account_id = ` + devID + `
sso_role_name = Admin
region = eu-central-1
`

// cachedToken is the file in which tools keep a token of Identity Center.
type cachedToken struct {
	StartURL            string `json:"startUrl"`
	Region              string `json:"region"`
	AccessToken         string `json:"accessToken"`
	ExpiresAt           string `json:"expiresAt"`
	ClientID            string `json:"clientId"`
	ClientSecret        string `json:"clientSecret"`
	RegistrationExpires string `json:"registrationExpiresAt"`
	RefreshToken        string `json:"refreshToken"`
}

// tokenFile returns the name of that file.
func tokenFile(home string) string {
	sum := sha1.Sum([]byte("demo"))
	return filepath.Join(home, ".aws", "sso", "cache", hex.EncodeToString(sum[:])+".json")
}

// homeWithToken makes a home with the profile dev, and with a token that has to be refreshed.
func homeWithToken(t *testing.T, sim *Sim) string {
	t.Helper()
	home, client := t.TempDir(), deviceClient(t, sim, scopeAccount)
	out := client.login()
	token := cachedToken{
		StartURL:            demoStart,
		Region:              "eu-west-1",
		AccessToken:         *out.AccessToken,
		ExpiresAt:           time.Now().Add(-time.Minute).UTC().Format(time.RFC3339),
		ClientID:            *client.id,
		ClientSecret:        *client.secret,
		RegistrationExpires: time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339),
		RefreshToken:        *out.RefreshToken,
	}
	text, err := json.Marshal(token)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, tokenFile(home), string(text))
	writeFile(t, filepath.Join(home, ".aws", "config"), profileText)
	sim.ExpireAccessTokens()
	return home
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTokenCacheOfTheSDK: the Go SDK refreshes the token of its cache, gets the role's credentials and calls STS.
func TestTokenCacheOfTheSDK(t *testing.T) {
	sim := newDemo(t)
	server, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	home, ctx := homeWithToken(t, sim), context.Background()
	for name, value := range map[string]string{
		"HOME": home, "AWS_PROFILE": "dev",
		// The SDK's provider for Identity Center does not read AWS_ENDPOINT_URL.
		"AWS_ENDPOINT_URL": server.URL, "AWS_ENDPOINT_URL_SSO": server.URL, "AWS_ENDPOINT_URL_SSO_OIDC": server.URL,
		"AWS_CONFIG_FILE": filepath.Join(home, ".aws", "config"), "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "",
	} {
		t.Setenv(name, value)
	}
	settings, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		t.Fatal(err)
	}
	out, err := sts.NewFromConfig(settings).GetCallerIdentity(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if *out.Account != devID || sim.Successes("GetRoleCredentials") != 1 || sim.Successes("CreateToken") != 2 {
		t.Errorf("caller %s, counts %+v", *out.Arn, sim.Counts())
	}
}
