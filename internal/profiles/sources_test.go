//go:build unix

package profiles

import (
	"cmp"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
)

const (
	corpSession = "[sso-session corp]\nsso_start_url = https://corp.awsapps.com/start/#\nsso_region = eu-west-1\n"
	corpAdmin   = "[profile admin]\nsso_session = corp\nsso_account_id = 444455556666\nsso_role_name = Admin\n"
	legacyAdmin = "[profile old]\nsso_start_url = https://Corp.awsapps.com/start/\nsso_region = eu-west-1\n" +
		"sso_account_id = 444455556666\nsso_role_name = Admin\n"
	consoleUser = "arn:aws:iam::111122223333:user/paul"
)

// TestResolveOtherSources checks the chains of the sources that are not IAM users.
func TestResolveOtherSources(t *testing.T) {
	corp := Source{Name: "corp", Kind: Portal, StartURL: "https://corp.awsapps.com/start", Scopes: []string{AccountScope},
		Endpoint: Endpoint{Region: "eu-west-1"}, Origin: Origin{"/config", 1}}
	old := corp
	old.Name = "https://corp.awsapps.com/start"
	role := "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = admin\n"
	for _, tt := range []struct {
		what                          string
		config, credentials, registry string
		name                          string
		want                          Chain
	}{
		{what: "a profile of a session", config: corpSession + corpAdmin + "region = eu-north-1\n", name: "admin",
			want: Chain{Profile: "admin", Region: "eu-north-1", Source: corp,
				Assignment: &Assignment{"admin", "444455556666", "Admin", Origin{"/config", 6}}}},
		{what: "sso_region is not the region of the profile", config: corpSession + corpAdmin, name: "admin",
			want: Chain{Profile: "admin", Source: corp,
				Assignment: &Assignment{"admin", "444455556666", "Admin", Origin{"/config", 6}}}},
		{what: "a quoted name, scopes, and the same key in both places",
			config: "[sso-session \"my corp\"]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = us-gov-west-1\n" +
				"sso_registration_scopes = sso:account:access, codewhisperer:completions,\n[profile admin]\nsso_session = my corp\n" +
				"sso_start_url = https://corp.awsapps.com/start\nsso_account_id = 444455556666\nsso_role_name = Admin\n", name: "admin",
			want: Chain{Profile: "admin", Source: Source{Name: "my corp", Kind: Portal, StartURL: corp.StartURL,
				Scopes:   []string{AccountScope, "codewhisperer:completions"},
				Endpoint: Endpoint{Region: "us-gov-west-1"}, Origin: Origin{"/config", 1}},
				Assignment: &Assignment{"admin", "444455556666", "Admin", Origin{"/config", 8}}}},
		{what: "the session of the registry wins", registry: corpSession + "browser = firefox\n",
			config: "[sso-session corp]\nsso_start_url = https://other.example\nsso_region = us-east-1\n" + corpAdmin, name: "admin",
			want: Chain{Profile: "admin", Source: func() Source { s := corp; s.Origin.File = "/registry"; return s }(),
				Assignment: &Assignment{"admin", "444455556666", "Admin", Origin{"/config", 6}}}},
		{what: "of two sessions with different headers the last wins",
			config: strings.ReplaceAll(strings.ReplaceAll(corpSession, "corp]", `"corp"]`), "eu-west-1", "us-east-1") + corpSession + corpAdmin, name: "admin",
			want: Chain{Profile: "admin", Source: func() Source { s := corp; s.Origin.Line = 4; return s }(),
				Assignment: &Assignment{"admin", "444455556666", "Admin", Origin{"/config", 9}}}},
		{what: "a legacy profile", config: legacyAdmin, name: "old",
			want: Chain{Profile: "old", Source: old,
				Assignment: &Assignment{"old", "444455556666", "Admin", Origin{"/config", 4}}}},
		{what: "Identity Center before plain keys, a console login and a helper, as in botocore", config: corpSession + corpAdmin +
			"login_session = " + consoleUser + "\ncredential_process = /bin/other\n",
			credentials: "[admin]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n", name: "admin",
			want: Chain{Profile: "admin", Source: corp,
				Assignment: &Assignment{"admin", "444455556666", "Admin", Origin{"/config", 6}}}},
		{what: "a role above", config: corpSession + corpAdmin + role, name: "dev",
			want: Chain{Profile: "dev", Source: corp,
				Assignment: &Assignment{"admin", "444455556666", "Admin", Origin{"/config", 6}},
				Roles:      []Role{{Profile: "dev", ARN: account + "dev", Origin: Origin{"/config", 9}}}}},
		{what: "a console login", config: "[profile me]\nregion = eu-west-1\nlogin_session = " + consoleUser + "\ncredential_process = /bin/other\n", name: "me",
			want: Chain{Profile: "me", Region: "eu-west-1", Source: Source{Name: "me", Kind: ConsoleLogin, ARN: consoleUser,
				Endpoint: Endpoint{Region: "eu-west-1"}, Origin: Origin{"/config", 3}}}},
		{what: "a console login of the registry", registry: "[source me]\nlogin_session = " + consoleUser + "\nregion = eu-west-1\nconfirm = first\n",
			config: strings.ReplaceAll(role, "admin", "me"), name: "dev",
			want: Chain{Profile: "dev", Source: Source{Name: "me", Kind: ConsoleLogin, ARN: consoleUser, Guard: Guard{Confirm: First},
				Endpoint: Endpoint{Region: "eu-west-1"}, Origin: Origin{"/registry", 1}}, Guard: Guard{Confirm: First},
				Roles: []Role{{Profile: "dev", ARN: account + "dev", Origin: Origin{"/config", 2}}}}},
		{what: "a web identity", config: "[profile ci]\nweb_identity_token_file = /run/token\nrole_arn = " + account +
			"ci\nrole_session_name = ci\nduration_seconds = 7200\nregion = eu-west-1\n[profile dev]\nrole_arn = " + account +
			"dev\nsource_profile = ci\n", name: "dev",
			want: Chain{Profile: "dev", Source: Source{Name: "ci", Kind: WebIdentity, TokenFile: "/run/token", Origin: Origin{"/config", 2}},
				Roles: []Role{{Profile: "ci", ARN: account + "ci", SessionName: "ci", Duration: 2 * time.Hour,
					Endpoint: Endpoint{Region: "eu-west-1"}, Origin: Origin{"/config", 3}},
					{Profile: "dev", ARN: account + "dev", Origin: Origin{"/config", 8}}}}},
		{what: "a read-only web identity", registry: "[profile ci]\nrole_arn = " + account + "ci\nweb_identity_token_file = /t\nread_only = true\n", name: "ci",
			want: Chain{Profile: "ci", Source: Source{Name: "ci", Kind: WebIdentity, TokenFile: "/t", Origin: Origin{"/registry", 3}},
				Roles: []Role{{Profile: "ci", ARN: account + "ci", ReadOnly: true, Origin: Origin{"/registry", 2}}}}},
		{what: "a program of the registry", registry: "[profile p]\ncredential_process = /bin/other \"a b\"\n", name: "p",
			want: Chain{Profile: "p", Source: Source{Name: "p", Kind: OtherProgram, Command: `/bin/other "a b"`, Origin: Origin{"/registry", 2}}}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			set := load(t, tt.config, tt.credentials, tt.registry)
			got, err := set.Resolve(tt.name)
			if err != nil {
				t.Fatal(err)
			}
			if got.Values == nil {
				t.Error("no values")
			}
			if got.Values = nil; len(got.Roles) == 0 {
				got.Roles = nil
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got\n%+v %+v\nwant\n%+v %+v", got, got.Assignment, tt.want, tt.want.Assignment)
			}
		})
	}
}

func TestResolveRefusesOtherSources(t *testing.T) {
	keys := func(s string) string {
		return corpSession + strings.Replace(corpAdmin, "sso_role_name", s+"sso_role_name", 1)
	}
	legacy := func(url string) string {
		return strings.Replace(legacyAdmin, "https://Corp.awsapps.com/start/", url, 1)
	}
	for _, tt := range []struct {
		what, config, registry, name string
		kind                         fault.Kind
		want                         string
	}{
		{"no such session", corpAdmin, "", "admin", fault.Config, "/config:2: there is no [sso-session corp]"},
		{"a mistyped session", strings.Replace(corpSession, "corp]", "crop]", 1) + corpAdmin, "", "admin", fault.Config, "there is no [sso-session corp]; did you mean crop?"},
		{"another region in the profile", keys("sso_region = us-east-1\n"), "", "admin", fault.Config, `/config:7: sso_region of profile "admin" differs from the one of its sso-session at /config:3`},
		{"another start URL in the profile", keys("sso_start_url = https://other.example\n"), "", "admin", fault.Config, `/config:7: sso_start_url of profile "admin" differs from the one of its sso-session at /config:2`},
		{"the same start URL in another form, which botocore refuses", keys("sso_start_url = https://corp.awsapps.com/start\n"), "", "admin", fault.Config, "differs"},
		{"no account", strings.Replace(keys(""), "sso_account_id = 444455556666\n", "", 1), "", "admin", fault.Config, "/config:4: profile admin has no sso_account_id"},
		{"no permission set", strings.Replace(keys(""), "sso_role_name = Admin\n", "", 1), "", "admin", fault.Config, "/config:4: profile admin has no sso_role_name"},
		{"only a session", corpSession + "[profile admin]\nsso_session = corp\n", "", "admin", fault.Config, "has no sso_account_id"},
		{"no start URL", strings.Replace(corpSession, "sso_start_url", "x", 1) + corpAdmin, "", "admin", fault.Config, "/config:1: sso-session corp has no sso_start_url"},
		{"no region", strings.Replace(corpSession, "sso_region", "x", 1) + corpAdmin, "", "admin", fault.Config, "/config:1: sso-session corp has no sso_region"},
		{"a wrong region", strings.Replace(corpSession, "eu-west-1", "evil.example/x", 1) + corpAdmin, "", "admin", fault.Config, "/config:3: sso_region is not the name of a region"},
		{"a wrong account", strings.Replace(keys(""), "444455556666", "44445555666", 1), "", "admin", fault.Config, "/config:6: sso_account_id is not an account ID"},
		{"a wrong permission set", strings.Replace(keys(""), "Admin", "Ad min", 1), "", "admin", fault.Config, "/config:7: sso_role_name is not"},
		{"a wrong scope", strings.Replace(keys(""), "sso_region", "sso_registration_scopes = a b\nsso_region", 1), "", "admin", fault.Config, "/config:3: sso_registration_scopes is not"},
		{"a nameless session in the registry", "", "[sso-session]\nsso_region = eu-west-1\n", "x", fault.Config, "/registry:1: this sso-session has no name"},
		{"an unknown key in a session of the registry", "", "[sso-session corp]\nsso_regoin = eu-west-1\n", "x", fault.Config, `/registry:2: unknown key "sso_regoin"; did you mean sso_region?`},
		{"another region of a portal", legacyAdmin + strings.NewReplacer("old", "older", "eu-west-1", "us-east-1").Replace(legacyAdmin), "", "older", fault.Config, `/config:8: sso_region of profile "older" differs from the one of profile "old" at /config:3, which has the same sso_start_url`},
		{"a session with the name of a source", keys(""), strings.ReplaceAll(sourceSection, "security", "corp"), "admin", fault.Config, "/config:1: sso-session corp has the name of the source at /registry:1"},
		{"a console login with the name of a session", "[sso-session me]\n[profile me]\nlogin_session = " + consoleUser + "\n", "", "me", fault.Config, "/config:3: profile me has the name of the [sso-session] at /config:1"},
		{"a web identity with the name of a source", "[profile security]\nrole_arn = " + account + "x\nweb_identity_token_file = /t\n", sourceSection, "security", fault.Config, "/config:3: profile security has the name of the source at /registry:1"},
		{"a wrong login_session", "[profile me]\nlogin_session = arn:aws:iam::111122223333:role/x\n", "", "me", fault.Config, "/config:2: login_session is not the ARN"},
		{"a console login without a region", "[profile me]\nlogin_session = " + consoleUser + "\n", "", "me", fault.Config, `/config:2: profile "me" has a login_session but no region`},
		{"a console login with a key", "", sourceSection + "login_session = " + consoleUser + "\n", "security", fault.Config, `/registry:2: source "security" has login_session, so it cannot have access_key_id`},
		{"a token in the home directory", "[profile ci]\nrole_arn = " + account + "x\nweb_identity_token_file = ~/token\n", "", "ci", fault.Config, "/config:3: web_identity_token_file is not an absolute path; AWS tools do not replace ~"},
		{"a relative token", "[profile ci]\nrole_arn = " + account + "x\nweb_identity_token_file = token\n", "", "ci", fault.Config, "is not an absolute path"},
		{"a token without a role", "[profile ci]\nweb_identity_token_file = /t\n", "", "ci", fault.Config, `/config:2: profile "ci" has a web_identity_token_file but no role_arn`},
		{"a token and a source", "[profile ci]\nrole_arn = " + account + "x\nweb_identity_token_file = /t\nsource_profile = x\n", "", "ci", fault.Config, `/config:4: profile "ci" has a web_identity_token_file, so it cannot have source_profile`},
		{"a token and tags", "", "[profile ci]\nrole_arn = " + account + "x\nweb_identity_token_file = /t\nsession_tags = a=b\n", "ci", fault.Config, "so it cannot have session_tags"},
		{"a token for another STS", "[profile ci]\nrole_arn = " + account + "x\nweb_identity_token_file = /t\nendpoint_url = https://x.example\n", "", "ci", fault.NotConfirmed, "/config:4: endpoint_url"},
		{"read-only", keys("read_only = true\n"), "", "admin", fault.Config, `/config:7: profile "admin" has read_only, but Identity Center gives the session of a permission set without a session policy`},
		{"agents of a permission set", keys("agents = read-only\n"), "", "admin", fault.Config, `/config:7: profile "admin" has agents = read-only, but Identity Center gives the session of a permission set without a session policy`},
		{"read-only console login", "[profile me]\nlogin_session = " + consoleUser + "\nregion = eu-west-1\nread_only = true\n", "", "me", fault.Config, `/config:4: profile "me" has read_only, which needs a role_arn`},
		{"tags of a permission set", corpSession, strings.Replace(corpAdmin, "sso_role_name", "session_tags = a=b\nsso_role_name", 1), "admin", fault.Config, "session_tags needs a role_arn"},
		{"a code for each session", corpSession + corpAdmin, "[profile dev]\nrole_arn = " + account + "x\nsource_profile = admin\nmfa = each\n", "dev", fault.Config, `/registry:4: profile "dev" has mfa = each, but its source is not an IAM user`},
		{"a relative program", "[profile p]\ncredential_process = bin/other\n", "", "p", fault.Config, "/config:2: credential_process names a program by a path that is not absolute"},
		{"a program that is not there", "[profile p]\ncredential_process = no-such-program\n", "", "p", fault.Config, "/config:2: credential_process names \"no-such-program\", which is not in the directories"},
		{"the name of a session", corpSession + corpAdmin + legacyAdmin, "", "corp", fault.NotFound, `"corp" is a session of IAM Identity Center, not a profile; name one of its profiles: "admin"`},
		{"the name of an unused session", corpSession, "", "corp", fault.NotFound, "no profile uses it"},
		{"plain http", legacy("http://corp.example/start"), "", "old", fault.Config, "/config:2: sso_start_url is not an address"},
		{"another scheme", legacy("javascript://corp.example/start"), "", "old", fault.Config, "/config:2: sso_start_url is not an address"},
		{"a user name", legacy("https://corp.awsapps.com@evil.example/start"), "", "old", fault.Config, "/config:2: sso_start_url is not"},
		{"a fragment", legacy("https://corp.example/start#x"), "", "old", fault.Config, "/config:2: sso_start_url is not"},
		{"a query", legacy("https://corp.example/start?x=y"), "", "old", fault.Config, "/config:2: sso_start_url is not"},
		{"a control character", legacy("https://corp.example/\x1b[2J"), "", "old", fault.Config, "/config:2: sso_start_url is not"},
		{"a value of two lines", legacy("https://corp.example\n  /x"), "", "old", fault.Config, "/config:2: sso_start_url is not"},
		{"no host", legacy("https:///start"), "", "old", fault.Config, "/config:2: sso_start_url is not"},
		{"not a URL", legacy("corp.awsapps.com/start"), "", "old", fault.Config, "/config:2: sso_start_url is not"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			set, err := loadErr(tt.config, "", tt.registry)
			if err == nil {
				_, err = set.Resolve(tt.name)
			}
			if !fault.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v, want %s: %s", err, tt.kind, tt.want)
			}
		})
	}
}

func TestStartURL(t *testing.T) {
	const want = "https://corp.awsapps.com/start"
	for _, same := range []string{want, want + "/", want + "#", want + "/#", want + "/#/", want + "#//", "HTTPS://Corp.AWSApps.com/start"} {
		if got := StartURL(same); got != want || checkStartURL(same) != nil {
			t.Errorf("StartURL(%q) = %q, %v", same, got, checkStartURL(same))
		}
	}
	for _, other := range []string{"https://corp.awsapps.com/Start", "https://login.corp.example", "https://corp.awsapps.com",
		"https://corp.example:8443/start", "https://d-1234567890.awsapps.com/start"} {
		if got := StartURL(other); got != other || checkStartURL(other) != nil {
			t.Errorf("StartURL(%q) = %q, %v", other, got, checkStartURL(other))
		}
	}
}

// TestHashOfStartURL checks that no dialect takes the "#" of a start URL for a comment.
func TestHashOfStartURL(t *testing.T) {
	text := "[profile x]\nsso_start_url = https://corp.awsapps.com/start/#\n"
	for d := range dialects {
		doc, bad := scanAs([]byte(text), false, d)
		if bad != nil {
			t.Fatal(bad)
		}
		if got := string(doc.entriesOf(SectionProfile, "x")[0].value); got != "https://corp.awsapps.com/start/#" {
			t.Errorf("dialect %d reads %q", d, got)
		}
	}
}

// TestTrustOfProgram checks that another program is run only after a confirmation of its exact line, and never one
// that other users can change or that is our helper.
func TestTrustOfProgram(t *testing.T) {
	line := "[profile p]\ncredential_process = /bin/other --x 1\n"
	role := "[profile dev]\nrole_arn = " + account + "dev\nsource_profile = p\n"
	trusted := func(name, config string) string {
		trust, err := load(t, config, "", "").Trust(name)
		if err != nil || len(trust.Claims) != 1 || trust.State != Untrusted {
			t.Fatalf("%+v, %v", trust, err)
		}
		return "[trust " + name + "]\nsha256 = " + trust.SHA256 + "\n"
	}
	registry := trusted("p", line) + trusted("dev", line+role)
	for _, name := range []string{"p", "dev"} {
		chain, err := load(t, line+role, "", registry).Resolve(name)
		if err != nil || chain.Source.Command != "/bin/other --x 1" {
			t.Errorf("%s: %+v, %v", name, chain.Source, err)
		}
		_, err = load(t, strings.ReplaceAll(line, "x 1", "x 2")+role, "", registry).Resolve(name)
		if !fault.Is(err, fault.NotConfirmed) {
			t.Errorf("%s, after the line changed: %v", name, err)
		}
	}
	if _, err := placed(t, InOther, line, "", registry).Resolve("p"); !fault.Is(err, fault.Config) {
		t.Errorf("in a file that a variable names: %v", err)
	}
	dir := t.TempDir()
	open, link, helper := filepath.Join(dir, "open"), filepath.Join(dir, "link"), filepath.Join(dir, "credproc")
	for _, path := range []string{open, helper} {
		if err := os.WriteFile(path, nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(helper, link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{open: "is not safe to run", "/bin/sh -e " + open: "is not safe to run",
		link: "leads to credproc"} {
		if _, err := load(t, "[profile p]\ncredential_process = "+path+"\n", "", "").Trust("p"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestTrustCoversSources checks that a confirmation ends when what it covers changes.
func TestTrustCoversSources(t *testing.T) {
	config := corpSession + corpAdmin + "[profile dev]\nrole_arn = " + account + "x\nsource_profile = admin\nendpoint_url = https://sts.example\n" +
		"[profile me]\nlogin_session = " + consoleUser + "\nregion = eu-west-1\n[profile r]\nrole_arn = " + account + "x\nsource_profile = me\n" +
		"endpoint_url = https://sts.example\n[profile ci]\nrole_arn = " + account + "x\nweb_identity_token_file = /token\nendpoint_url = https://sts.example\n"
	registry := ""
	for _, name := range []string{"dev", "r", "ci"} {
		trust, err := load(t, config, "", "").Trust(name)
		if err != nil {
			t.Fatal(err)
		}
		registry += "[trust " + name + "]\nsha256 = " + trust.SHA256 + "\n"
		if _, err := load(t, config, "", registry).Resolve(name); err != nil {
			t.Fatal(err)
		}
	}
	for from, name := range map[string]string{"corp.awsapps": "dev", "sso_region = eu": "dev", "444455556666\nsso": "dev", "= Admin": "dev",
		"user/paul": "r", "region = eu-west-1\n[profile r": "r", "= /token": "ci"} {
		to := strings.NewReplacer("corp.", "evil.", "eu", "us", "4444", "7777", "Admin", "Other", "paul", "root", "/token", "/other").Replace(from)
		_, err := load(t, strings.Replace(config, from, to, 1), "", registry).Resolve(name)
		if !fault.Is(err, fault.NotConfirmed) {
			t.Errorf("%q for %q: %v", to, from, err)
		}
	}
}

// TestGuardOfASession: the guard of an [sso-session] counts for all profiles that log in there, and for roles above
// them, in each file.
func TestGuardOfASession(t *testing.T) {
	role := "[profile dev]\nrole_arn = " + account + "x\nsource_profile = admin\n"
	for what, set := range map[string]*Set{
		"config":         load(t, corpSession+"confirm = always\nproduction = true\n"+corpAdmin+role, "", ""),
		"registry":       load(t, corpAdmin+role, "", corpSession+"confirm = always\nproduction = true\n"),
		"both":           load(t, corpSession+"production = true\n"+corpAdmin+role, "", corpSession+"confirm = always\n"),
		"another in own": load(t, corpSession+"confirm = always\nproduction = true\n"+corpAdmin+"confirm = never\n"+role, "", ""),
		"profile in between": load(t, corpSession+"confirm = always\n"+corpAdmin+role+"production = true\n", "",
			"[profile admin]\nsso_session = corp\nsso_account_id = 444455556666\nsso_role_name = Admin\nproduction = true\n"),
	} {
		for _, name := range []string{"admin", "dev"} {
			if c, err := set.Resolve(name); err != nil || c.Guard != (Guard{Confirm: Always, Production: true}) {
				t.Errorf("%s: %s: %+v, %v", what, name, c.Guard, err)
			}
		}
	}
	_, err := load(t, corpAdmin, "", corpSession+"confirm = x\n").Resolve("admin")
	if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), "/registry:4: confirm") {
		t.Error(err)
	}
}

// TestTrustCoversLimits checks that a confirmation ends when an AWS file limits less than before.
func TestTrustCoversLimits(t *testing.T) {
	config := corpSession + corpAdmin + "confirm = always\nproduction = true\n" +
		"[profile dev]\nrole_arn = " + account + "x\nsource_profile = admin\nread_only = true\nagents = deny\n"
	registry := ""
	for _, name := range []string{"admin", "dev"} {
		trust, err := placed(t, InOther, config, "", "").Trust(name)
		if err != nil {
			t.Fatal(err)
		}
		registry += "[trust " + name + "]\nsha256 = " + trust.SHA256 + "\n"
	}
	for _, tt := range []struct {
		line, from, to string
		ends           []string
	}{
		{"confirm = always\n", "", "", []string{"admin", "dev"}},
		{"confirm = always\n", "always", "never", []string{"admin", "dev"}},
		{"production = true\n", "", "", []string{"admin", "dev"}},
		{"read_only = true\n", "", "", []string{"dev"}},
		{"read_only = true\n", "true", "false", []string{"dev"}},
		{"agents = deny\n", "", "", []string{"dev"}},
		{"agents = deny\n", "deny", "ask", []string{"dev"}},
	} {
		line := strings.Replace(tt.line, cmp.Or(tt.from, tt.line), tt.to, 1)
		set := placed(t, InOther, strings.Replace(config, tt.line, line, 1), "", registry)
		for _, name := range []string{"admin", "dev"} {
			_, err := set.Resolve(name)
			if ended := fault.Is(err, fault.NotConfirmed); ended != slices.Contains(tt.ends, name) {
				t.Errorf("%q to %q: %s: %v", tt.line, tt.to, name, err)
			}
		}
	}
	// What the registry limits, the person has written.
	config += "[profile top]\nrole_arn = " + account + "y\nsource_profile = mid\n"
	mid := "[profile mid]\nrole_arn = " + account + "x\nsource_profile = admin\n"
	trust, err := placed(t, InOther, config, "", mid).Trust("top")
	if err != nil {
		t.Fatal(err)
	}
	mid += "confirm = first\nread_only = true\n[trust top]\nsha256 = " + trust.SHA256 + "\n"
	if chain, err := placed(t, InOther, config, "", mid).Resolve("top"); err != nil || chain.Guard.Confirm != Always {
		t.Errorf("%+v, %v", chain.Guard, err)
	}
}

func TestLoginSources(t *testing.T) {
	config := corpSession + corpAdmin + legacyAdmin + strings.ReplaceAll(legacyAdmin, "old", "older") + "[sso-session spare]\nsso_start_url = https://spare.example\nsso_region = us-east-1\n" +
		"[sso-session broken]\n[profile me]\nlogin_session = " + consoleUser + "\nregion = eu-west-1\n[profile dev]\nrole_arn = " + account + "x\nsource_profile = admin\n"
	set := load(t, config, "", sourceSection+"[source console]\nlogin_session = "+consoleUser+"\n[alias]\na = admin\n")
	var names []string
	for _, src := range set.LoginSources() {
		names = append(names, src.Name)
	}
	if want := []string{"console", "corp", "https://corp.awsapps.com/start", "me", "spare"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	for name, want := range map[string]string{"admin": "corp", "a": "corp", "dev": "corp", "corp": "corp", "spare": "spare", "me": "me", "old": "https://corp.awsapps.com/start",
		"console": "console", "https://corp.awsapps.com/start/#": "https://corp.awsapps.com/start", "security": ""} {
		src, ok, err := set.LoginSource(name)
		if err != nil || ok != (want != "") || ok && src.Name != want {
			t.Errorf("%s: %q, %v, %v", name, src.Name, ok, err)
		}
	}
	for name, want := range map[string]fault.Kind{"broken": fault.Config, "nobody": fault.NotFound, "https://nobody.example": fault.NotFound} {
		if _, ok, err := set.LoginSource(name); ok || !fault.Is(err, want) {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
	for short, want := range map[string]string{"cor": "corp", "spa": "spare", "dev": "dev", "a": "admin", "adm": "admin", "secur": "security",
		"https://corp.awsapps.com/start": "https://corp.awsapps.com/start", "broken": "broken"} {
		if got, err := set.FindLogin(short); err != nil || got != want {
			t.Errorf("%s: %q, %v", short, got, err)
		}
	}
	if _, err := set.FindLogin("coprp"); !fault.Is(err, fault.NotFound) ||
		!strings.Contains(err.Error(), `did you mean "corp"?`) {
		t.Error(err)
	}
	if _, err := set.Find("coprp"); !fault.Is(err, fault.NotFound) || strings.Contains(err.Error(), `"corp"`) {
		t.Errorf("a portal is not a profile: %v", err)
	}
	if got, err := set.Find("corp"); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), `name one of its profiles: "admin"`) {
		t.Errorf("%q, %v", got, err)
	}
	if sources := set.Sources(); len(sources) != 1 || sources[0].Name != "security" {
		t.Errorf("IAM users: %+v", sources)
	}
	for name, free := range map[string]bool{"security": true, "new": true, "admin": true, "corp": false, "console": false} {
		if err := set.CheckNewUser(name); (err == nil) != free {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := set.FindSource("console"); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "has no long-lived key") {
		t.Error(err)
	}
	// A session that a variable's file defines is for nobody but profiles that were trusted.
	if _, ok, err := placed(t, InOther, corpSession, "", "").LoginSource("corp"); ok || !fault.Is(err, fault.NotConfirmed) {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestAccountOfOtherSources(t *testing.T) {
	set := load(t, corpSession+corpAdmin+strings.NewReplacer("corp", "gov", "eu-west-1", "us-gov-west-1", "admin", "gov").Replace(corpSession+corpAdmin)+
		"[profile me]\nlogin_session = "+consoleUser+"\nregion = eu-west-1\n", "", "")
	for name, want := range map[string]string{"admin": "aws 444455556666", "gov": "aws-us-gov 444455556666", "me": "aws 111122223333"} {
		chain, err := set.Resolve(name)
		if part, id := chain.Account(); err != nil || part+" "+id != want {
			t.Errorf("%s: %s %s, %v", name, part, id, err)
		}
	}
	for _, sum := range set.List() {
		want := Summary{Kind: KindRole, AccountID: "444455556666", PermissionSet: "Admin"}
		if sum.Name == "me" {
			want = Summary{Kind: KindSource, AccountID: "111122223333"}
		}
		if sum.Kind != want.Kind || sum.AccountID != want.AccountID || sum.PermissionSet != want.PermissionSet ||
			sum.Problem != "" {
			t.Errorf("%+v", sum)
		}
	}
}
