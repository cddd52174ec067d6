//go:build unix

package profiles

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"broker/internal/environ"
	"broker/internal/fault"
)

// TestEachKeyHasARule checks that each key that the parser knows either redirects something and has a row in
// Rules, or is listed as harmless. A key that no rule takes from the AWS files must not even be kept.
func TestEachKeyHasARule(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "table.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 && strings.HasPrefix(spec.Names[0].Name, "key") {
			if text, ok := spec.Values[0].(*ast.BasicLit); ok && text.Kind == token.STRING {
				key, _ := strconv.Unquote(text.Value)
				keys = append(keys, key)
			}
		}
		return true
	})
	if len(keys) < 40 {
		t.Fatalf("only %d keys were found: the test is void", len(keys))
	}
	for _, key := range keys {
		rule, isHarmless := ruleOf(key), slices.Contains(harmless, key)
		if (rule == nil) != isHarmless {
			t.Errorf("%s: it must either have a row in Rules or be listed as harmless", key)
			continue
		}
		if rule != nil && rule.In[InDefault] == Unread && rule.In[InOther] == Unread && slices.Contains(awsKeys, key) {
			t.Errorf("%s is kept from the AWS files, but no rule decides about it there", key)
		}
	}
	for section, known := range registryKeys {
		for _, key := range known {
			if !slices.Contains(keys, key) {
				t.Errorf("[%s] has a key %s that is not in table.go", section, key)
			}
		}
	}
}

// described are variables that describe the machine or the session and redirect nothing.
var described = []string{"USER", "TERM", "SHELL", "LANG", "NO_COLOR", "DISPLAY", "WAYLAND_DISPLAY", "GPG_TTY",
	"SUDO_UID", "SUDO_USER", "SYSTEMD_EXEC_PID", "XPC_SERVICE_NAME"}

// TestEachVariableHasARule checks that each environment variable that the programs read has a row in Rules, unless
// it redirects nothing.
func TestEachVariableHasARule(t *testing.T) {
	reads := regexp.MustCompile(`(?:os\.(?:Getenv|LookupEnv)|e\.path)\("([A-Z][A-Z0-9_]+)"`)
	found := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		if dir := filepath.Base(filepath.Dir(path)); dir == "stssim" || dir == "testbus" {
			return nil
		}
		src, err := os.ReadFile(path)
		for _, m := range reads.FindAllStringSubmatch(string(src), -1) {
			found++
			if ruleOf(m[1]) == nil && !slices.Contains(described, m[1]) && !slices.Contains(clientOnly, m[1]) {
				t.Errorf("%s reads %s, which has no row in Rules", path, m[1])
			}
		}
		return err
	})
	if err != nil || found < 10 {
		t.Fatalf("%d variables were found, %v: the test is void", found, err)
	}
}

// clientOnly are variables that only the client uses and passes to no other process.
var clientOnly = []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
	"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_LOGIN_CACHE_DIRECTORY", "BROKER_PROFILE", "BROKER_EXPIRATION",
	"AWS_VAULT_BACKEND", "AWS_VAULT_FILE_DIR", "AWS_VAULT_FILE_PASSPHRASE", "AWS_VAULT_SECRET_SERVICE_COLLECTION_NAME",
	"AWS_SSO_CONFIG", "KUBERNETES_EXEC_INFO"}

// TestRulesOfEnvironment checks that the code that builds the daemon's environment follows Rules for each
// variable. The AWS file variables are the exception, since each request names its own files.
func TestRulesOfEnvironment(t *testing.T) {
	weighty := environ.Weighty()
	if len(weighty) < 15 {
		t.Fatalf("%d variables: the test is void", len(weighty))
	}
	for name, from := range weighty {
		rule := ruleOf(name)
		if rule == nil {
			t.Errorf("%s has no row", name)
			continue
		}
		if strings.HasPrefix(name, "AWS_") && name != "AWS_CA_BUNDLE" {
			continue
		}
		if got := rule.In[FromShell] == Taken; got != from.Shell {
			t.Errorf("%s: Rules says for a shell: %v", name, rule.In[FromShell])
		}
		if got := rule.In[FromUnit] == Taken; got != from.Unit {
			t.Errorf("%s: Rules says for a unit: %v", name, rule.In[FromUnit])
		}
	}
}

// String returns the word that the table in docs/trust.md uses.
func (d Decision) String() string {
	return [...]string{"–", "taken", "once trusted", "ignored", "refused"}[d]
}

// TestRulesAreDocumented checks that docs/trust.md has the rows of Rules, in the same order and with the same
// words.
func TestRulesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/trust.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(doc), "\n## Who may say what\n")
	if !found {
		t.Fatal("docs/trust.md has no section Who may say what")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var got, want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.*) \\|$").FindAllStringSubmatch(section, -1) {
		got = append(got, m[1]+" | "+m[2])
	}
	for _, r := range Rules {
		words := []string{r.Name}
		for _, d := range r.In {
			words = append(words, d.String())
		}
		want = append(want, strings.Join(words, " | "))
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("row %d of docs/trust.md differs from Rules; it must be\n| `%s |", i+1,
				strings.Join(want, " |\n| `"))
		}
	}
}

// placed returns a Set whose config and credentials file are in this place.
func placed(t *testing.T, config Place, texts ...string) *Set {
	t.Helper()
	var states [3]state
	for i, place := range []Place{config, config, InRegistry} {
		table, err := newTable([]string{"/config", "/credentials", "/registry"}[i], []byte(texts[i]), fileKind(i),
			&provenance{place: place, why: "is a test's"})
		if err != nil {
			t.Fatal(err)
		}
		states[i] = state{settled: true, table: table}
	}
	return newSet(Files{}, states)
}

// TestWalkRules checks for each key of Rules that a profile in each kind of file behaves as the row says.
func TestWalkRules(t *testing.T) {
	role := "role_arn = " + account + "x\nsource_profile = security\n"
	walked := 0
	for _, rule := range Rules {
		line := map[string]string{
			keyEndpointURL:    "endpoint_url = https://x.example\n",
			keyServices:       "services = s\n[services s]\nsts =\n endpoint_url = https://x.example\n",
			keySTSEndpointURL: "services = s\n[services s]\nsts =\n endpoint_url = https://x.example\n",
			keyCABundle:       "ca_bundle = /ca\n",
			keyMFAProcess:     "mfa_process = /bin/code\n",
			keyExternalID:     "external_id = abc\n",
			keyMFASerial:      "mfa_serial = GAHT12345678\n",
			keySessionName:    "role_session_name = paul\n",
			keyDuration:       "duration_seconds = 900\n",
			keyRoleARN:        "\n",
			keySourceProfile:  "\n",
			keyBrowser:        "browser = /bin/evil\n",
			keyPublish:        "publish = true\n",
			keyReadOnly:       "read_only = true\n",
			keyAgents:         "agents = deny\n",
			keySourceIdentity: "source_identity = paul\n",
			keySessionTags:    "session_tags = a=b\n",
			keyTransitiveTags: "session_tags = a=b\ntransitive_tags = a\n",
			keyOptionalTags:   "optional_tags = true\n",
			keyKeyringBackend: "keyring_backend = evil\n",
			keyCatalog:        "catalog = evil\n",
			keyCatalogPath:    "catalog_path = evil\n",
			keySTSEndpoint:    "sts_endpoint = https://evil.example\n",
			keySTSCompatible:  "sts_compatible = true\n",
			keyHTTPSProxy:     "https_proxy = http://evil.example\n",
			keyNoProxy:        "no_proxy = evil.example\n",
			keyPath:           "path = /evil\n",
			keyRegistry:       "registry = /evil\n",
			keyGnuPGHome:      "gnupg_home = /evil\n", keyPasswordStore: "password_store_dir = /evil\n",
			keyCredentialProcess: "-",
			// These are of sources, so they need no role.
			keySSOSession: "-", keySSOStartURL: "-", keySSORegion: "-", keySSOScopes: "-", keySSOAccountID: "-",
			keySSORoleName: "-", keyLoginSession: "-", keyWebIdentity: "-", keyOtherProgram: "-",
		}[rule.Name]
		if line == "" {
			if rule.In[InRegistry] != Unread {
				t.Errorf("%s has no test value here", rule.Name)
			}
			continue
		}
		for _, place := range []Place{InDefault, InOther} {
			text := map[string]string{
				keyCredentialProcess: "credential_process = credproc own\n",
				keyOtherProgram:      "credential_process = /bin/other\n",
				keyLoginSession:      "login_session = arn:aws:iam::111122223333:user/paul\nregion = eu-west-1\n",
				keyWebIdentity:       "role_arn = " + account + "x\nweb_identity_token_file = /token\n",
			}[rule.Name]
			switch {
			case strings.HasPrefix(rule.Name, "sso_"):
				text = "sso_session = corp\nsso_account_id = 444455556666\nsso_role_name = Admin\n[sso-session corp]\n" +
					"sso_start_url = https://corp.awsapps.com/start\nsso_region = eu-west-1\nsso_registration_scopes = a:b\n"
			case text == "":
				text = role + line
			}
			key := rule.Name
			if key == keyOtherProgram {
				key = keyCredentialProcess
			}
			text = "[profile dev]\n" + text
			set := placed(t, place, text, "",
				sourceSection+"[profile own]\nrole_arn = "+account+"own\nsource_profile = security\n")
			trust, err := set.Trust("dev")
			has := func(key string, values []Value) bool {
				return slices.ContainsFunc(values, func(v Value) bool { return v.Key == key })
			}
			var got Decision
			switch {
			case fault.Is(err, fault.Config) && (strings.Contains(err.Error(), key+" has no effect") ||
				rule.Name == keySTSEndpointURL):
				got = Rejected
			case err != nil:
				t.Errorf("%s: %v", rule.Name, err)
				continue
			case has(key, trust.Claims):
				got = OnceTrusted
			case has(key, trust.Chain.Values):
				got = Taken
			case strings.Contains(fmt.Sprint(trust.Chain.Warnings), rule.Name+" has no effect"):
				got = Ignored
			}
			if want := rule.In[place]; got != want {
				t.Errorf("%s in place %d: %v, want %v", rule.Name, place, got, want)
			}
			_, err = set.Resolve("dev")
			if needs := len(trust.Claims) > 0; got != Rejected && fault.Is(err, fault.NotConfirmed) != needs {
				t.Errorf("%s in place %d: %v", rule.Name, place, err)
			}
			walked++
		}
	}
	if walked < 30 {
		t.Errorf("only %d cases: the test is void", walked)
	}
}

// TestServicesWithoutSTS checks that a profile whose services section is only for S3 redirects nothing of Broker.
func TestServicesWithoutSTS(t *testing.T) {
	set := placed(t, InDefault, "[profile dev]\nrole_arn = "+account+"x\nsource_profile = security\nservices = s\n"+
		"[services s]\ns3 =\n endpoint_url = http://x.example\n", "", sourceSection)
	if _, err := set.Resolve("dev"); err != nil {
		t.Error(err)
	}
}

// TestExposed checks who else may change a file, by its own mode and by the mode of what leads to it.
func TestExposed(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "right to change the owner of files (root)")
	}
	for _, tt := range []struct {
		what string
		do   func(dir string) error // dir/aws/config exists, dir/real is an empty directory
		want string                 // the exposed path, below dir; empty if none
	}{
		{"ours", func(dir string) error { return nil }, ""},
		{"read-only", func(dir string) error { return os.Chmod(dir+"/aws/config", 0o444) }, ""},
		{"mode 0666", func(dir string) error { return os.Chmod(dir+"/aws/config", 0o666) }, "/aws/config"},
		{"mode 0664, our private group", func(dir string) error { return os.Chmod(dir+"/aws/config", 0o664) }, ""},
		{"mode 0664, another group", func(dir string) error {
			return errors.Join(os.Chown(dir+"/aws/config", 0, 12345), os.Chmod(dir+"/aws/config", 0o664))
		}, "/aws/config"},
		{"another's", func(dir string) error { return os.Chown(dir+"/aws/config", 12345, -1) }, "/aws/config"},
		{"directory that all can write", func(dir string) error { return os.Chmod(dir+"/aws", 0o777) }, "/aws"},
		{"directory above", func(dir string) error { return os.Chmod(dir, 0o777) }, "/"},
		{"another's directory", func(dir string) error { return os.Chown(dir+"/aws", 12345, -1) }, "/aws"},
		{"sticky, ours within", func(dir string) error { return os.Chmod(dir+"/aws", 0o777|os.ModeSticky) }, ""},
		{"sticky, another's link within", func(dir string) error {
			return errors.Join(os.Chmod(dir+"/aws", 0o777|os.ModeSticky), os.Rename(dir+"/aws/config", dir+"/real/config"),
				os.Symlink(dir+"/real/config", dir+"/aws/config"), os.Lchown(dir+"/aws/config", 12345, -1))
		}, "/aws/config"},
		{"a link", func(dir string) error {
			return errors.Join(os.Rename(dir+"/aws/config", dir+"/real/config"), os.Symlink("../real/config", dir+"/aws/config"))
		}, ""},
		{"a link into a directory that all can write", func(dir string) error {
			return errors.Join(os.Rename(dir+"/aws/config", dir+"/real/config"), os.Symlink("../real/config", dir+"/aws/config"),
				os.Chmod(dir+"/real", 0o777))
		}, "/real"},
		{"a link to a link", func(dir string) error {
			return errors.Join(os.Rename(dir+"/aws/config", dir+"/real/config"), os.Symlink("../link", dir+"/aws/config"),
				os.Symlink("real/config", dir+"/link"), os.Chmod(dir+"/real", 0o777))
		}, "/real"},
		{"a link to itself", func(dir string) error {
			return errors.Join(os.Remove(dir+"/aws/config"), os.Symlink("config", dir+"/aws/config"))
		}, ""},
		{"gone", func(dir string) error { return os.Remove(dir + "/aws/config") }, ""},
	} {
		dir := t.TempDir()
		if err := errors.Join(os.Mkdir(dir+"/aws", 0o755), os.Mkdir(dir+"/real", 0o755),
			os.WriteFile(dir+"/aws/config", []byte("x"), 0o644)); err != nil {
			t.Fatal(err)
		}
		if err := tt.do(dir); err != nil {
			t.Fatalf("%s: %v", tt.what, err)
		}
		got := ""
		if e := exposed(dir + "/aws/config"); e != nil {
			got = e.Path
		}
		if want := map[bool]string{true: strings.TrimSuffix(dir+tt.want, "/")}[tt.want != ""]; got != want {
			t.Errorf("%s: %q is exposed, want %q", tt.what, got, want)
		}
	}
}
