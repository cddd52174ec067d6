package cli

import (
	"bytes"
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/wire"
)

const ofProd = "444455556666.dkr.ecr.eu-west-1.amazonaws.com"

// TestRegistryOf: which hosts are registries of ECR, and whose. A host of somebody else never is.
func TestRegistryOf(t *testing.T) {
	for server, want := range map[string]string{
		ofProd:                       "444455556666 eu-west-1",
		"https://" + ofProd:          "444455556666 eu-west-1",
		"https://" + ofProd + "/v2/": "444455556666 eu-west-1",
		ofProd + ":443":              "444455556666 eu-west-1",
		ofProd + "/team/app":         "444455556666 eu-west-1",
		"444455556666.dkr.ecr-fips.us-gov-west-1.amazonaws.com": "444455556666 us-gov-west-1",
		"444455556666.dkr.ecr.cn-north-1.amazonaws.com.cn":      "444455556666 cn-north-1",
		"444455556666.dkr-ecr.eu-west-1.on.aws":                 "444455556666 eu-west-1",
		"444455556666.dkr-ecr-fips.us-east-1.on.aws":            "444455556666 us-east-1",
		"444455556666.dkr.ecr.us-iso-east-1.c2s.ic.gov":         "444455556666 us-iso-east-1",
		"444455556666.dkr.ecr.eusc-de-east-1.amazonaws.eu":      "444455556666 eusc-de-east-1",

		"":                               "",
		"index.docker.io/v1/":            "",
		"https://index.docker.io/v1/":    "",
		"ghcr.io":                        "",
		"public.ecr.aws":                 "",
		"localhost:5000":                 "",
		"http://" + ofProd:               "",
		"ftp://" + ofProd:                "",
		ofProd + ":80":                   "",
		ofProd + ":8443":                 "",
		ofProd + ".":                     "",
		ofProd + ".evil.example":         "",
		"evil.example/" + ofProd:         "",
		"https://evil.example/" + ofProd: "",
		"evil.example#" + ofProd:         "",
		ofProd + "@evil.example":         "",
		"x@" + ofProd:                    "",
		ofProd + "\\@evil.example":       "",
		ofProd + "?@evil.example":        "",
		"https://https://" + ofProd:      "",
		"x" + ofProd:                     "",
		"x." + ofProd:                    "",
		ofProd + "\nevil.example":        "",
		"44445555666.dkr.ecr.eu-west-1.amazonaws.com":     "",
		"444455556666.dkr.ecr.mars-1.amazonaws.com":       "",
		"444455556666.dkr.ecr..amazonaws.com":             "",
		"444455556666.dkr.s3.eu-west-1.amazonaws.com":     "",
		"444455556666.dkr.ecr.eu-west-1.amazonaws.org":    "",
		"444455556666.dkr.ecr.eu-west-1.amazonaws.co":     "",
		"444455556666.dkr.ecr.eu-west-1.amazonaws.com.au": "",
		"444455556666.dkr.ecr.eu-west-1xamazonaws.com":    "",
	} {
		account, region, ok := registryOf(server)
		if got := strings.TrimSpace(account + " " + region); got != want || ok != (want != "") {
			t.Errorf("%q is %q, want %q", server, got, want)
		}
	}
}

// registryOfDocker has one profile in the account 444455556666, two in 222233334444, where one is broken, and two
// in 333344445555.
const registryOfDocker = registryOfTests + `
[profile dev]
role_arn = arn:aws:iam::222233334444:role/admin
source_profile = security
[profile broken]
role_arn = arn:aws:iam::222233334444:role/admin
source_profile = nobody
[profile stage]
role_arn = arn:aws:iam::333344445555:role/admin
source_profile = security
[profile stage-read]
role_arn = arn:aws:iam::333344445555:role/read
source_profile = security
[sso-session corp]
sso_start_url = https://corp.awsapps.com/start
sso_region = eu-west-1
[profile set]
sso_session = corp
sso_account_id = 666677778888
sso_role_name = Admin
`

// TestDockerHelper checks the answers to Docker, and which profile gets the token.
func TestDockerHelper(t *testing.T) {
	const found = `{"ServerURL":"` + ofProd + `","Username":"AWS","Secret":"secret/token="}` + "\n"
	const nothing = "credentials not found in native keychain\n"
	stage := strings.Replace(ofProd, "444455556666", "333344445555", 1)
	denied := wire.Response{Err: fault.New(fault.Denied, "AWS said\x1b no").WithHint("broker explain prod")}
	for name, tt := range map[string]struct {
		operation, stdin string
		env              string // AWS_PROFILE
		answer           wire.Response
		asked            string
		stdout           string // begins with
		code             int
	}{
		"get":             {"get", ofProd + "\n", "", aToken(), "token prod eu-west-1", found, 0},
		"another account": {"get", strings.Replace(ofProd, "444455556666", "222233334444", 1), "", aToken(), "token dev eu-west-1", `{"ServerURL":"2222`, 0},
		"another region":  {"get", strings.Replace(ofProd, "eu-west-1", "us-east-2", 1), "", aToken(), "token prod us-east-2", `{"ServerURL":"4444`, 0},
		"a permission set": {"get", strings.Replace(ofProd, "444455556666", "666677778888", 1), "",
			aToken(), "token set eu-west-1", `{"ServerURL":"6666`, 0},
		"AWS_PROFILE":          {"get", ofProd, "stage-read", aToken(), "token stage-read eu-west-1", found, 0},
		"AWS_PROFILE, alias":   {"get", stage, "p", aToken(), "token prod eu-west-1", `{"ServerURL":"3333`, 0},
		"AWS_PROFILE, unknown": {"get", ofProd, "nobody", wire.Response{}, "", `no profile, source or alias is called "nobody"`, 3},
		"several":              {"get", stage, "", wire.Response{}, "", "several profiles have a role in the account 333344445555 of the registry; set AWS_PROFILE to one of them: stage, stage-read\nhint: export AWS_PROFILE=stage\n", 2},
		"none":                 {"get", strings.Replace(ofProd, "4444", "9999", 1), "", wire.Response{}, "", "no profile has a role in the account 999955556666 of the registry; set AWS_PROFILE to the profile to use\n", 3},
		"Docker Hub":           {"get", "https://index.docker.io/v1/", "", wire.Response{}, "", nothing, 3},
		"ECR Public":           {"get", "public.ecr.aws", "", wire.Response{}, "", nothing, 3},
		"nothing":              {"get", "", "", wire.Response{}, "", nothing, 3},
		"too much":             {"get", strings.Repeat("x", 1<<20), "", wire.Response{}, "", "Docker sent more", 2},
		"denied":               {"get", ofProd, "", denied, "token prod eu-west-1", "AWS said\\x1b no\nhint: broker explain prod\n", 6},
		"no token":             {"get", ofProd, "", wire.Response{}, "token prod eu-west-1", "the daemon's answer has no token\n", 5},
		"store":                {"store", `{"ServerURL":"` + ofProd + `","Username":"AWS","Secret":"x"}`, "", wire.Response{}, "", "", 0},
		"store of another":     {"store", `{"ServerURL":"ghcr.io","Username":"paul","Secret":"x"}`, "", wire.Response{}, "", "Broker stores no logins", 2},
		"store of nothing":     {"store", "", "", wire.Response{}, "", "what Docker sent is not JSON", 2},
		"erase":                {"erase", ofProd, "", wire.Response{}, "", "", 0},
		"list":                 {"list", "", "", wire.Response{}, "", "{}\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			daemon := &scripted{answers: []any{tt.answer}}
			stdout, stderr, code := dockerCommand(t, tt.env, daemon, tt.stdin, tt.operation)
			if code != tt.code || stderr != "" || !strings.HasPrefix(stdout, tt.stdout) ||
				stdout != tt.stdout && (tt.stdout == "" || tt.stdout == nothing) {
				t.Errorf("exit %d, stdout %s, stderr %s", code, stdout, stderr)
			}
			got := daemon.verbs()
			if len(daemon.asked) > 0 {
				got += " " + daemon.asked[0].TokenTerms.Region
			}
			if got != tt.asked {
				t.Errorf("asked for %q, want %q", got, tt.asked)
			}
		})
	}
	for _, args := range []string{"version", "--version", "-v"} {
		stdout, stderr, code := dockerCommand(t, "", &scripted{}, "", args)
		if code != 0 || stderr != "" || !strings.HasPrefix(stdout, "docker-credential-broker (broker) ") {
			t.Errorf("%s: exit %d, %s%s", args, code, stdout, stderr)
		}
	}
	if stdout, stderr, code := dockerCommand(t, "", &scripted{}, "", "--help"); code != 0 || stderr != "" ||
		!strings.Contains(stdout, "get, store, erase, list or version") {
		t.Errorf("--help: exit %d, %s%s", code, stdout, stderr)
	}
	for args, says := range map[string]string{
		"":         "needs one operation",
		"push":     `"push" is not an operation; use get, store, erase, list or version`,
		"get list": "takes one operation",
	} {
		stdout, stderr, code := dockerCommand(t, "", &scripted{}, "", strings.Fields(args)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, says) {
			t.Errorf("%q: exit %d, %s%s", args, code, stdout, stderr)
		}
	}
}

// dockerCommand runs the helper under the name by which Docker finds it.
func dockerCommand(t *testing.T, profile string, daemon *scripted, stdin string, args ...string) (
	stdout, stderr string, code int,
) {
	t.Helper()
	prepare(t, registryOfDocker)
	t.Setenv("AWS_PROFILE", profile)
	var out, problems bytes.Buffer
	p := newProgram(strings.NewReader(stdin), &out, &problems)
	p.client.Transport = daemon.carry
	code = p.main(asDockerHelper(append([]string{"/usr/local/bin/docker-credential-broker"}, args...)))
	return out.String(), problems.String(), code
}

// TestDockerHelperName: only the whole name makes the program a helper.
func TestDockerHelperName(t *testing.T) {
	for name, want := range map[string]bool{"docker-credential-broker": true, "/a/docker-credential-broker.exe": true,
		"broker": false, "docker-credential-broker2": false, "/docker-credential-broker/broker": false, "": false} {
		if got := asDockerHelper([]string{name, "list"}); (got[0] == "broker" && len(got) == 4) != want {
			t.Errorf("%q runs %q", name, got)
		}
	}
	if got := asDockerHelper(nil); got != nil {
		t.Errorf("%q", got)
	}
}
