package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/profiles"
)

// TestFindLogout: a source without a login can be named too, because its sessions can be forgotten. A profile of a
// portal cannot, because a logout ends the login of all of them.
func TestFindLogout(t *testing.T) {
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
	if name, err := findLogout(set, "ci"); err != nil || name != "ci" {
		t.Errorf("ci: %q, %v", name, err)
	}
	for typed, left := range map[string]string{"dev": "", "de": "de"} { // "de" may be a login that no file names
		name, err := findLogout(set, typed)
		if !fault.Is(err, fault.NotFound) || fault.Of(err).Hint != "broker logout corp" || name != left {
			t.Errorf("%s: %q, %v, hint %q", typed, name, err, fault.Of(err).Hint)
		}
	}
	const old = "https://old.awsapps.com/start"
	if name, err := findLogout(set, old+"/#"); !fault.Is(err, fault.NotFound) || name != old {
		t.Errorf("a portal: %q, %v", name, err)
	}
	if _, err := findLogout(set, "coprp"); !fault.Is(err, fault.NotFound) ||
		!strings.Contains(err.Error(), `did you mean "corp"`) {
		t.Errorf("coprp: %v", err)
	}
}
