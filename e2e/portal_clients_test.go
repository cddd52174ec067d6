//go:build clients

package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// awsCLI2 returns the AWS CLI 2, the only one with `aws sso login`.
func awsCLI2(t *testing.T, h *house) string {
	t.Helper()
	for _, program := range installed("aws") {
		if strings.HasPrefix(h.run(program, "--version").stdout, "aws-cli/2.") {
			return program
		}
	}
	missing(t, "the AWS CLI 2")
	return ""
}

// asker is a tool that asks AWS who it is. env and args are for a profile.
type asker struct {
	name string
	args func(profile string) []string
}

// portalAskers are the tools that know Identity Center themselves.
func portalAskers(t *testing.T, h *house, cli string) []asker {
	t.Helper()
	python := pythonWithBoto(t, h)
	script := ours("js3.js", "@aws-sdk/client-sts")(t, h)
	self, err := os.Executable()
	must(t, err)
	if python == "" || script == "" {
		missing(t, "boto3 or the SDK for JavaScript 3")
	}
	env := []string{"env", "AWS_ENDPOINT_URL_STS=" + h.sim.url, "AWS_ENDPOINT_URL_SSO=" + h.sim.url,
		"AWS_ENDPOINT_URL_SSO_OIDC=" + h.sim.url, "AWS_EC2_METADATA_DISABLED=true", "AWS_REGION=eu-west-1",
		"NODE_PATH=" + filepath.Join(clientsDir, "node_modules"), "NODE_NO_WARNINGS=1"}
	with := func(args ...string) []string { return slices.Concat(env, args) }
	return []asker{
		{"AWS CLI", func(p string) []string {
			return with(cli, "sts", "get-caller-identity", "--profile", p, "--endpoint-url", h.sim.url)
		}},
		{"boto3", func(p string) []string { return with(python, "-c", botoProgram, p, h.sim.url) }},
		{"JS SDK 3", func(p string) []string { return with("node", script, p) }},
		{"Go SDK 2", func(p string) []string {
			return with("E2E_ROLE=go-sdk", "EMULATOR="+h.sim.url, "AWS_PROFILE="+p, self)
		}},
	}
}

// askedWith returns the access key id of the last GetCallerIdentity.
func (h *house) askedWith(t *testing.T) string {
	t.Helper()
	list, err := h.sim.requests()
	must(t, err)
	for _, r := range slices.Backward(list) {
		if r.Action == "GetCallerIdentity" {
			return r.AccessKeyID
		}
	}
	t.Fatal("nobody asked for an identity")
	return ""
}

// everything returns the contents, times, modes and inodes of all files of a directory, and of the directory.
func everything(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		fmt.Fprintln(&all, path, info.Mode(), stat.Ino, stat.Mtim, stat.Ctim)
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			fmt.Fprintf(&all, "%s\n", text)
			return err
		}
		return nil
	}))
	return all.String()
}

// awsPortal is a portal house with AWS's own hosts, and the AWS CLI 2. The names of the session and of the portal are
// those of known file names.
type awsPortal struct {
	*house
	cli   string
	proxy *recordingProxy
}

func newAWSPortal(t *testing.T) *awsPortal {
	t.Helper()
	org, err := os.ReadFile("../internal/stssim/demo.ini")
	must(t, err)
	file := filepath.Join(t.TempDir(), "org.ini")
	must(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(org), "demo.awsapps.com", "my.awsapps.com")), 0o600))
	h := portal(t, "--org", file)
	p := &awsPortal{house: h, cli: awsCLI2(t, h)}
	p.proxy = startRecordingProxy(t, h.dir, h.sim.url, []string{"oidc.eu-west-1.amazonaws.com",
		"portal.sso.eu-west-1.amazonaws.com", "sts.us-east-1.amazonaws.com"}, func(aws http.Handler) http.Handler { return aws })
	sim := h.sim
	h.sim = nil // no sts_endpoint
	h.more += "https_proxy = " + p.proxy.url + "\nca_bundle = " + p.proxy.ca + "\n"
	must(t, h.settings(""))
	h.sim = sim
	must(t, h.write(h.awsConfig(), strings.ReplaceAll(portalConfig, "demo.awsapps.com", "my.awsapps.com")+
		"[profile legacy]\nsso_start_url = https://my.awsapps.com/start\nsso_region = eu-west-1\n"+
		"sso_account_id = 222233334444\nsso_role_name = Admin\nregion = eu-west-1\n"))
	if home, err := os.UserHomeDir(); err == nil && os.Getenv("PYENV_ROOT") == "" {
		h.env = append(h.env, "PYENV_ROOT="+filepath.Join(home, ".pyenv"))
	}
	return p
}

// cache is the directory of `aws sso login`.
func (p *awsPortal) cache() string { return filepath.Join(p.home, ".aws/sso/cache") }

// awsToken is the file of the session my-sso there. Its name is the SHA-1 of that name.
func (p *awsPortal) awsToken() string {
	return filepath.Join(p.cache(), "0ad374308c5a4e22f723adf10145eafad7c4031c.json")
}

// awsLogin runs `aws sso login`, with a person who confirms the code.
func (p *awsPortal) awsLogin(t *testing.T, profile string) {
	t.Helper()
	ended := make(chan result, 1)
	go func() {
		ended <- finish(p.command("env", "HTTPS_PROXY="+p.proxy.url, "AWS_CA_BUNDLE="+p.proxy.ca, p.cli, "sso", "login",
			"--no-browser", "--profile", profile))
	}()
	p.confirms(t)
	if r := <-ended; r.code != 0 {
		t.Fatalf("aws sso login: %v", r)
	}
}

// age makes the tools renew the token of the file at once.
func (p *awsPortal) age(t *testing.T) {
	t.Helper()
	var token map[string]any
	text, err := os.ReadFile(p.awsToken())
	must(t, err)
	must(t, json.Unmarshal(text, &token))
	token["expiresAt"] = "2020-01-01T00:00:00Z"
	text, err = json.Marshal(token)
	must(t, err)
	must(t, os.WriteFile(p.awsToken(), text, 0o600))
	must(t, p.sim.post("sso/tokens/expire", ""))
}

// TestClientsPortalAdopted checks that Broker takes over what `aws sso login`, boto3 and the SDKs for JavaScript and Go
// have written, without a login of its own and without a change of their files.
func TestClientsPortalAdopted(t *testing.T) {
	for i, name := range []string{"AWS CLI", "boto3", "JS SDK 3", "Go SDK 2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newAWSPortal(t)
			p.awsLogin(t, "dev-admin")
			if i > 0 { // the CLI has just written the file
				p.age(t)
				a := portalAskers(t, p.house, p.cli)[i]
				args := a.args("stage-admin")
				p.ok(t, args[0], args[1:]...)
				p.counted(t, "RegisterClient", 1)
			}
			was := everything(t, p.cache())
			made, err := p.sim.count("CreateToken")
			must(t, err)
			var token struct {
				ExpiresAt time.Time `json:"expiresAt"`
			}
			text, err := os.ReadFile(p.awsToken())
			must(t, err)
			must(t, json.Unmarshal(text, &token))

			told := "uses the login of aws sso login; that tool asks for a login again at " +
				token.ExpiresAt.UTC().Format("2006-01-02 15:04 UTC")
			if i > 0 {
				must(t, p.furnish(false))
				s := p.sit(t, "credproc", "dev-admin")
				s.waits(told)
				s.succeeds()
			} else {
				// There is no keyring yet, and only a person can make one.
				if r := p.run("credproc", "dev-admin"); r.code != 4 || !strings.HasSuffix(r.stderr, "hint: broker login my-sso\n") {
					t.Errorf("without a keyring: %v", r)
				}
				s := p.shell(t, "broker", "login", "my-sso")
				s.waits(told)
				s.waits("my-sso: logged in; ")
				if r := s.ends(); r.code != 0 {
					t.Error(r)
				}
			}
			key := p.ok(t, "broker", "exec", "dev-admin", "--", "sh", "-c", "echo $AWS_ACCESS_KEY_ID")
			if got := p.credentials(t, "dev-admin").AccessKeyID; got != strings.TrimSpace(key) {
				t.Errorf("credproc has %s, exec had %s", got, key)
			}
			p.credentials(t, "prod-read")
			p.counted(t, "CreateToken", made)
			p.counted(t, "RegisterClient", 1)
			// From now on Broker renews it.
			must(t, p.sim.post("sso/tokens/expire", ""))
			p.credentials(t, "prod-admin")
			p.counted(t, "CreateToken", made+1)
			if is := everything(t, p.cache()); is != was {
				t.Errorf("the files of aws sso login were\n%s\nand are\n%s", was, is)
			}
			p.noPage(t)
		})
	}
}

// TestClientsPortalLinked checks that all tools get one session through the helper after `link`, and that Broker does
// not take over again what was logged out, or what AWS has ended.
func TestClientsPortalLinked(t *testing.T) {
	t.Parallel()
	p := newAWSPortal(t)
	p.awsLogin(t, "dev-admin")
	p.awsLogin(t, "legacy")
	if _, err := os.Stat(filepath.Join(p.cache(), "40840c65697c043e2a71754cccb2ab4de3acc1c1.json")); err != nil {
		t.Errorf("the token of the profile without a session: %v", err)
	}
	p.ok(t, "broker", "login", "my-sso")
	was := everything(t, p.cache())
	p.ok(t, "broker", "profiles", "link", "dev-admin", "legacy")
	key := p.credentials(t, "dev-admin").AccessKeyID
	old := p.credentials(t, "legacy").AccessKeyID
	for _, a := range portalAskers(t, p.house, p.cli) {
		for profile, want := range map[string]string{"dev-admin": key, "legacy": old} {
			args := a.args(profile)
			p.ok(t, args[0], args[1:]...)
			if got := p.askedWith(t); got != want {
				t.Errorf("%s asks for %s with %s, want %s", a.name, profile, got, want)
			}
		}
	}
	p.counted(t, "GetRoleCredentials", 2)

	refused := func(when string, calls int) {
		t.Helper()
		before, err := p.sim.count("CreateToken")
		must(t, err)
		for range 2 {
			if r := p.run("credproc", "stage-admin"); r.code != 4 || !strings.HasSuffix(r.stderr, "hint: broker login my-sso\n") {
				t.Errorf("%s: %v", when, r)
			}
		}
		p.counted(t, "CreateToken", before+calls)
		if is := everything(t, p.cache()); is != was {
			t.Errorf("%s, the files of aws sso login were\n%s\nand are\n%s", when, was, is)
		}
	}
	p.ok(t, "broker", "logout", "my-sso")
	p.counted(t, "Logout", 1)
	refused("after a logout", 0)

	p.awsLogin(t, "dev-read")
	was = everything(t, p.cache())
	p.credentials(t, "dev-read")
	must(t, p.sim.post("sso/sessions/end", "{}"))
	refused("after AWS ended the session", 1)
	p.noPage(t)
}

// TestClientsPortalsSideBySide has twelve profiles of three sessions, and roles of two IAM users, in one config. The
// AWS CLI and Terraform get each through the helper, and Serverless 3 through publish.
func TestClientsPortalsSideBySide(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	must(t, h.startSim())
	must(t, h.settings(""))
	must(t, h.furnish(true))
	robot := fmt.Sprintf(`{"AccessKeyId":%q,"SecretAccessKey":%q}`, robotKeyID, robotSecret)
	if r := h.runWith(robot, "broker", "add", "robot", "--stdin"); r.code != 0 {
		t.Fatal(r)
	}
	wants := map[string]string{"prod": "arn:aws:sts::444455556666:assumed-role/allow-admin-from-security-account/",
		"build": "arn:aws:sts::222233334444:assumed-role/build/"}
	config := "[profile prod]\nrole_arn = " + prodRole + "\nsource_profile = security\nregion = eu-west-1\n" +
		"[profile build]\nrole_arn = arn:aws:iam::222233334444:role/build\nsource_profile = robot\nregion = eu-west-1\n"
	sessions := []string{"team-a", "team-b", "team-c"}
	for i, session := range sessions {
		config += "[sso-session " + session + "]\nsso_start_url = https://demo.awsapps.com/start\nsso_region = eu-west-1\n" +
			"sso_registration_scopes = sso:account:access\n"
		for _, account := range portalAccounts {
			set := []string{"Admin", "ReadOnly", "Admin"}[i]
			name := session + "-" + account[:4]
			config += fmt.Sprintf("[profile %s]\nsso_session = %s\nsso_account_id = %s\nsso_role_name = %s\nregion = eu-west-1\n",
				name, session, account, set)
			wants[name] = "arn:aws:sts::" + account + ":assumed-role/AWSReservedSSO_" + set + "_"
		}
	}
	must(t, h.write(h.awsConfig(), config))
	for _, session := range sessions {
		h.logsIn(t, session)
	}
	names := slices.Sorted(maps.Keys(wants))
	h.ok(t, "broker", append([]string{"profiles", "link"}, names...)...)
	keys := map[string]string{} // by access key id
	for _, name := range names {
		keys[h.credentials(t, name).AccessKeyID] = name
	}
	if len(keys) != 14 {
		t.Fatalf("%d sessions for 14 profiles", len(keys))
	}
	cli := awsCLI2(t, h)
	for i, r := range together(t, h, len(names), func(i int) []string {
		return []string{cli, "sts", "get-caller-identity", "--output", "text", "--query", "Arn", "--endpoint-url", h.sim.url,
			"--profile", names[i]}
	}) {
		if r.code != 0 || !strings.HasPrefix(r.stdout, wants[names[i]]) {
			t.Errorf("%s: %v, want %s", names[i], r, wants[names[i]])
		}
	}

	t.Run("Serverless 3", func(t *testing.T) {
		program := fromNPM("serverless/bin/serverless.js")(t, h)
		if program == "" {
			missing(t, "Serverless 3")
		}
		e := startEmulator(t, h)
		h.toolsAsk(t, e)
		some := []string{"build", "team-a-2222", "team-b-4444", "team-c-5555"}
		h.ok(t, "broker", append([]string{"publish"}, some...)...)
		for _, name := range some {
			e.forget(false)
			cmd := h.command("node", program, "info", "--stage", "prod", "--region", "eu-west-1", "--aws-profile", name)
			cmd.Dir = filepath.Join(h.dir, "sls")
			if r := finish(cmd); r.code != 0 || !strings.Contains(r.stdout, "product") {
				t.Errorf("%s: %v", name, r)
			}
			for _, a := range e.arrived() {
				if keys[a.keyID] != name {
					t.Errorf("%s: %s is signed with the session of %q", name, a.what, keys[a.keyID])
				}
			}
			if !e.did(" DescribeStacks") {
				t.Errorf("%s: nothing arrived: the test is void", name)
			}
		}
		h.ok(t, "broker", "unpublish")
	})

	t.Run("Terraform", func(t *testing.T) {
		terraform, err := exec.LookPath("terraform")
		mirror := awsProvider()
		if err != nil || mirror == "" {
			t.Skip("SKIPPED, NOT PROVEN: Terraform with its AWS provider is not installed, and no distribution has it")
		}
		if os.Getenv("CI") == "true" {
			t.Skip("SKIPPED, NOT PROVEN: it uses both cores for minutes, which CI cannot spare; `make test-clients` by hand runs it")
		}
		dir := filepath.Join(h.dir, "terraform")
		must(t, os.Mkdir(dir, 0o755))
		text := "terraform {\n  required_providers {\n    aws = { source = \"hashicorp/aws\" }\n  }\n}\n"
		some := []string{"build", "team-a-2222", "team-b-4444", "team-c-5555"}
		for _, name := range some {
			text += fmt.Sprintf("provider \"aws\" {\n  alias = %[1]q\n  profile = %[1]q\n  region = \"eu-west-1\"\n"+
				"  skip_requesting_account_id = true\n  endpoints { sts = %[2]q }\n}\n"+
				"data \"aws_caller_identity\" %[1]q {\n  provider = aws.%[1]s\n}\n"+
				"output %[1]q { value = data.aws_caller_identity.%[1]s.arn }\n", name, h.sim.url)
		}
		must(t, os.WriteFile(filepath.Join(dir, "main.tf"), []byte(text), 0o600))
		run := h.terraform(t, terraform, dir, mirror)
		run("init", "-no-color")
		run("apply", "-no-color", "-auto-approve")
		var outputs map[string]struct{ Value string }
		must(t, json.Unmarshal([]byte(run("output", "-json")), &outputs))
		for _, name := range some {
			if got := outputs[name].Value; !strings.HasPrefix(got, wants[name]) {
				t.Errorf("%s is %q, want %s", name, got, wants[name])
			}
		}
	})
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "GetRoleCredentials", 12)
	h.counted(t, "AssumeRole", 2)
	logins, err := h.sim.count("RegisterClient")
	must(t, err)
	if logins != len(sessions) {
		t.Errorf("%d clients were registered for %d sessions", logins, len(sessions))
	}
}
