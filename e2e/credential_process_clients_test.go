//go:build clients

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// These tests run other projects' software: `make test-clients`. A missing tool skips its test with a message, and
// fails it in CI.

// missing skips the test, or fails it in CI.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("MISSING, NOT PROVEN: %s; see `make deps-clients`", what)
	}
	t.Skipf("SKIPPED, NOT PROVEN: %s is not installed; see `make deps-clients`", what)
}

// installed returns every program of that name on the PATH, each file once.
func installed(name string) []string {
	var all, real []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		target, err := filepath.EvalSymlinks(path)
		if err != nil || slices.Contains(real, target) {
			continue
		}
		if info, err := os.Stat(target); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			all, real = append(all, path), append(real, target)
		}
	}
	return all
}

// clientRoles are the profiles that each client is tried with, and the ARN that AWS must see.
var clientRoles = []struct{ profile, arn string }{
	{"c-source", "arn:aws:iam::111122223333:user/paul"},
	{"c-prod", "arn:aws:sts::444455556666:assumed-role/allow-admin-from-security-account/"},
	{"c-release", "arn:aws:sts::444455556666:assumed-role/release/"},
}

// clientHouse returns a house with profiles for which AWS tools ask credproc.
func clientHouse(t *testing.T) *house {
	t.Helper()
	h := demo(t)
	must(t, h.settings(`[source security]
access_key_id = `+keyID+`
mfa_serial = `+serial+`
mfa_seed = keyring
[profile prod]
role_arn = `+prodRole+`
source_profile = security
region = eu-west-1
[profile dev]
role_arn = `+devRole+`
source_profile = security
region = eu-west-1
[profile release]
role_arn = arn:aws:iam::444455556666:role/release
source_profile = dev
region = eu-west-1
`))
	process := func(name string) string {
		return fmt.Sprintf("credential_process = %q %s\nregion = eu-west-1\n", filepath.Join(h.bin, "credproc"), name)
	}
	must(t, h.write(h.awsConfig(), "[profile c-source]\n"+process("security")+"[profile c-prod]\n"+process("prod")+"[profile c-release]\n"+process("release")))
	// pyenv looks for the tools below the HOME where they were installed.
	if root := os.Getenv("PYENV_ROOT"); root != "" {
		h.env = append(h.env, "PYENV_ROOT="+root)
	} else if home, err := os.UserHomeDir(); err == nil {
		h.env = append(h.env, "PYENV_ROOT="+filepath.Join(home, ".pyenv"))
	}
	h.env = append(h.env, "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_ENDPOINT_URL_STS="+h.sim.url)
	return h
}

// viaExec holds the same three roles through `broker exec`.
var viaExec = map[string]string{"c-source": "security", "c-prod": "prod", "c-release": "release"}

func TestClientsAWSCLI(t *testing.T) {
	found := installed("aws")
	if len(found) == 0 {
		missing(t, "the AWS CLI (aws)")
	}
	h := clientHouse(t)
	for _, program := range found {
		t.Run(program, func(t *testing.T) {
			if r := h.run(program, "--version"); r.code != 0 {
				t.Skipf("SKIPPED: %s does not run: %v", program, r)
			} else {
				t.Log(strings.TrimSpace(r.stdout + r.stderr))
			}
			for _, c := range clientRoles {
				args := []string{"sts", "get-caller-identity", "--output", "text", "--query", "Arn", "--endpoint-url", h.sim.url}
				out := h.ok(t, program, append(args, "--profile", c.profile)...)
				if !strings.HasPrefix(out, c.arn) {
					t.Errorf("%s: %q, want %s", c.profile, out, c.arn)
				}
				out = h.ok(t, "broker", append([]string{"exec", viaExec[c.profile], "--", program}, append(args, "--region", "eu-west-1")...)...)
				if !strings.HasPrefix(out, c.arn) {
					t.Errorf("exec %s: %q, want %s", viaExec[c.profile], out, c.arn)
				}
			}
		})
	}
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 3)
}

const botoProgram = `
import boto3, os, sys
s = boto3.Session(profile_name=sys.argv[1] or None)
print(s.client("sts", endpoint_url=sys.argv[2], region_name="eu-west-1").get_caller_identity()["Arn"])
`

func TestClientsBoto3(t *testing.T) {
	h := clientHouse(t)
	ran := 0
	for _, python := range installed("python3") {
		if r := h.run(python, "-c", "import boto3"); r.code != 0 {
			t.Logf("%s has no boto3", python)
			continue
		}
		ran++
		t.Run(python, func(t *testing.T) {
			for _, c := range clientRoles {
				if out := h.ok(t, python, "-c", botoProgram, c.profile, h.sim.url); !strings.HasPrefix(out, c.arn) {
					t.Errorf("%s: %q, want %s", c.profile, out, c.arn)
				}
				if out := h.ok(t, "broker", "exec", viaExec[c.profile], "--", python, "-c", botoProgram, "", h.sim.url); !strings.HasPrefix(out, c.arn) {
					t.Errorf("exec %s: %q, want %s", viaExec[c.profile], out, c.arn)
				}
			}
		})
	}
	if ran == 0 {
		missing(t, "a python3 with boto3")
	}
}

// TestClientsWebIdentity: once a web identity is linked, boto3 and the AWS CLI get its session from Broker, and none of
// them reads the token.
func TestClientsWebIdentity(t *testing.T) {
	h := newHouse(t)
	must(t, h.startSim())
	must(t, h.settings(""))
	token := filepath.Join(h.dir, "token.jwt")
	payload := fmt.Sprintf(`{"iss": "https://oidc.demo.example/cluster", "sub": "shop", "aud": "sts", "exp": %d}`,
		time.Now().Add(time.Hour).Unix())
	must(t, h.write(token, "e30."+base64.RawURLEncoding.EncodeToString([]byte(payload))+".c2lnbmF0dXJl"))
	must(t, h.write(h.awsConfig(), "[profile shop]\nweb_identity_token_file = "+token+
		"\nrole_arn = arn:aws:iam::222233334444:role/pod\nregion = eu-west-1\n"))
	h.ok(t, "broker", "profiles", "link", "shop")
	ran := 0
	const arn = "arn:aws:sts::222233334444:assumed-role/pod/"
	for _, python := range installed("python3") {
		if r := h.run(python, "-c", "import boto3"); r.code == 0 {
			ran++
			if out := h.ok(t, python, "-c", botoProgram, "shop", h.sim.url); !strings.HasPrefix(out, arn) {
				t.Errorf("%s: %q", python, out)
			}
		}
	}
	for _, program := range installed("aws") {
		ran++
		out := h.ok(t, program, "sts", "get-caller-identity", "--profile", "shop", "--endpoint-url", h.sim.url,
			"--query", "Arn", "--output", "text")
		if !strings.HasPrefix(out, arn) {
			t.Errorf("%s: %q", program, out)
		}
	}
	if ran == 0 {
		missing(t, "a python3 with boto3")
	}
	h.counted(t, "AssumeRoleWithWebIdentity", 1)
}

// TestClientsGoSDK loads the profiles as a Go program does, with the SDK's own parser of credential_process.
func TestClientsGoSDK(t *testing.T) {
	h := clientHouse(t)
	for _, kv := range append(h.env, "AWS_CONFIG_FILE="+h.awsConfig(), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(h.home, ".aws/credentials")) {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	for _, c := range clientRoles {
		cfg, err := config.LoadDefaultConfig(t.Context(), config.WithSharedConfigProfile(c.profile))
		must(t, err)
		out, err := sts.NewFromConfig(cfg, func(o *sts.Options) { o.BaseEndpoint = aws.String(h.sim.url) }).
			GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		must(t, err)
		if arn := aws.ToString(out.Arn); !strings.HasPrefix(arn, c.arn) {
			t.Errorf("%s: %s, want %s", c.profile, arn, c.arn)
		}
	}
}

// TestClientsMoto runs all steps against another project's STS, which accepts any key and any code.
func TestClientsMoto(t *testing.T) {
	url := startMoto(t)
	h := newHouse(t)
	must(t, h.write(h.registry(), "[settings]\nkeyring_backend = file\nsts_endpoint = "+url+"\n"))
	must(t, h.write(h.awsConfig(), demoConfig+"[profile release]\nrole_arn = arn:aws:iam::444455556666:role/release\nsource_profile = product_dev_paul\n"))
	// Its users have ARNs that no IAM user has, so Broker cannot ask whose key it is.
	storeKey(t, h, keyID, keySecret)
	seen := map[string]bool{}
	for _, name := range []string{"security", "product_prod_paul", "product_dev_paul", "release"} {
		// Unlike AWS, it returns the same key id for each GetSessionToken.
		var d document
		must(t, json.Unmarshal([]byte(h.ok(t, "credproc", name)), &d))
		if d.SecretAccessKey == "" || d.SessionToken == "" || seen[d.AccessKeyID] || time.Until(d.Expiration) < 50*time.Minute {
			t.Errorf("%s: %s until %v", name, d.AccessKeyID, d.Expiration)
		}
		seen[d.AccessKeyID] = true
	}
}

// TestClientsSecretService runs all steps with a real gnome-keyring on its own bus.
func TestClientsSecretService(t *testing.T) {
	for _, name := range []string{"dbus-run-session", "gnome-keyring-daemon"} {
		if len(installed(name)) == 0 {
			missing(t, name)
		}
	}
	h := newHouse(t)
	must(t, h.startSim())
	must(t, h.write(h.registry(), "[settings]\nkeyring_backend = secret-service\nsts_endpoint = "+h.sim.url+"\n"))
	must(t, h.write(h.awsConfig(), demoConfig))
	must(t, os.WriteFile(filepath.Join(h.dir, "keys.csv"), []byte("Access key ID,Secret access key\n"+keyID+","+keySecret+"\n"), 0o600))
	runtime := filepath.Join(h.dir, "xdg")
	must(t, os.Mkdir(runtime, 0o700))
	h.env = append(h.env, "XDG_RUNTIME_DIR="+runtime)
	script := filepath.Join(h.dir, "script.sh")
	must(t, os.WriteFile(script, []byte(`set -e
ended() { broker status --json | sed -n 's/.*"pid": \([0-9]*\).*/\1/p' | xargs kill; sleep 0.3; }
printf 'login-password' | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1
broker add security --csv keys.csv --mfa-serial `+serial+`
echo `+seed+` | broker mfa set security --seed-stdin
credproc product_prod_paul
ended
`), 0o700))
	// The keyring's daemon belongs to the session of the bus; both end together.
	r := finish(h.command("dbus-run-session", "--", "sh", script))
	if r.code != 0 {
		t.Fatal(r)
	}
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if _, err := parseDocument(lines[len(lines)-1]); err != nil || !strings.Contains(r.stdout, "in secret-service") {
		t.Errorf("%v: %v", err, r)
	}
	h.counted(t, "GetSessionToken", 1)

	// The same keyring, but nobody unlocks it.
	must(t, h.freshCodes())
	must(t, os.WriteFile(script, []byte(`printf 'another-password' | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1
credproc product_dev_paul 2>said; code=$?
broker status --json | sed -n 's/.*"pid": \([0-9]*\).*/\1/p' | xargs kill; sleep 0.3
exit $code
`), 0o700))
	r = finish(h.command("dbus-run-session", "--", "sh", script))
	said, err := os.ReadFile(filepath.Join(h.dir, "said")) // the bus writes its own messages to stderr
	must(t, err)
	r.stderr = string(said)
	if err := checkFailure(r, "7", "credproc", nil); err != nil {
		t.Error(err)
	}
	t.Log(strings.TrimSpace(r.stderr))
	h.counted(t, "GetSessionToken", 1)
}
