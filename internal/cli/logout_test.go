package cli

import (
	"os"
	"path/filepath"
	"testing"

	"broker/internal/fault"
	"broker/internal/profiles"
)

// TestFindLogoutOfSourcesWithoutLogin checks that a logout of a source that has no login gives a hint that works.
func TestFindLogoutOfSourcesWithoutLogin(t *testing.T) {
	registry := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(registry, []byte("[sso-session corp]\n"+
		"sso_start_url = https://corp.awsapps.com/start\nsso_region = eu-west-1\n"+
		"[profile dev]\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = Admin\n"+
		"[profile ci]\nweb_identity_token_file = /t\nrole_arn = arn:aws:iam::111122223333:role/x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := new(profiles.Store).Load(profiles.Files{Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]fault.Hint{"ci": "broker logout", "dev": "broker logout corp"} {
		if _, err := findLogout(set, typed); !fault.Is(err, fault.NotFound) || fault.Of(err).Hint != want {
			t.Errorf("%s: %v, hint %q, want %q", typed, err, fault.Of(err).Hint, want)
		}
	}
}
