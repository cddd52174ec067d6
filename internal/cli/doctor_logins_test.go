package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/wire"
)

// TestCheckLogins: a login that is needed or ends soon, a file of `aws sso login`, and permission sets that are not
// linked.
func TestCheckLogins(t *testing.T) {
	dir := t.TempDir()
	p := &program{paths: paths.Paths{AWS: dir, Config: filepath.Join(dir, "config"),
		Credentials: filepath.Join(dir, "credentials"), Registry: filepath.Join(dir, "registry")}}
	const session = "[sso-session my-sso]\nsso_start_url = https://my.awsapps.com/start\nsso_region = eu-west-1\n"
	const set = "[profile dev]\nsso_session = my-sso\nsso_account_id = 444455556666\nsso_role_name = Admin\n"
	// The hash of my-sso, as the AWS CLI computes it.
	cache := filepath.Join(dir, "sso", "cache", "0ad374308c5a4e22f723adf10145eafad7c4031c.json")
	soon, later, renews := time.Now().Add(10*time.Minute), time.Now().Add(5*time.Hour), time.Now().Add(time.Minute)
	for name, tt := range map[string]struct {
		config string
		login  *wire.Session
		file   bool
		want   []string // parts of text and command
	}{
		"nothing":            {"", nil, true, nil},
		"a session":          {session, nil, false, nil},
		"a profile":          {session + set, nil, false, []string{"1 profile of IAM Identity Center, such as dev|broker profiles link dev"}},
		"a login":            {session, &wire.Session{Expires: &later}, false, nil},
		"a renewed login":    {session, &wire.Session{Expires: &soon, Renews: &renews}, false, nil},
		"a login that ends":  {session, &wire.Session{Expires: &soon}, false, []string{"the login to my-sso ends at|broker login my-sso"}},
		"a login that ended": {session, &wire.Session{Error: "it ended"}, false, []string{"the login to my-sso: it ended|broker login my-sso"}},
		"a login of the CLI": {session, nil, true, []string{"aws sso login keeps a login to my-sso of its own in " + cache + "|"}},
	} {
		_ = os.RemoveAll(filepath.Dir(cache))
		if tt.file {
			if err := os.MkdirAll(filepath.Dir(cache), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(cache, []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(p.paths.Config, []byte(tt.config), 0o600); err != nil {
			t.Fatal(err)
		}
		x := &examination{program: p}
		if x.set, x.err = new(profiles.Store).Load(p.files()); x.err != nil {
			t.Fatal(x.err)
		}
		if tt.login != nil {
			tt.login.Login, tt.login.Source = true, "my-sso"
			x.status.Sessions = []wire.Session{*tt.login}
		}
		found := x.checkLogins(t.Context())
		if len(found) != len(tt.want) {
			t.Errorf("%s: %+v", name, found)
			continue
		}
		for i, want := range tt.want {
			text, command, _ := strings.Cut(want, "|")
			if !strings.Contains(found[i].Text, text) || string(found[i].Command) != command {
				t.Errorf("%s: %+v, want %s", name, found[i], want)
			}
		}
	}
}
