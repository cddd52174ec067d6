//go:build clients

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// serverHouse is clientHouse without profiles that win over an endpoint, and without profiles that the tools could
// use by themselves.
func serverHouse(t *testing.T) *house {
	t.Helper()
	h := clientHouse(t)
	must(t, os.Remove(h.awsConfig()))
	return h
}

// viaServer runs a program under `broker exec --mode server`, with the token in the environment and in a file.
func (h *house) viaServer(
	t *testing.T,
	flags []string,
	check func(profile, arn, out string),
	program string,
	args ...string,
) {
	t.Helper()
	for _, c := range clientRoles {
		command := append([]string{"exec", viaExec[c.profile], "--mode", "server"}, flags...)
		command = append(append(command, "--", program), args...)
		check(viaExec[c.profile], c.arn, h.ok(t, "broker", command...))
	}
}

func TestClientsServerAWSCLI(t *testing.T) {
	found := installed("aws")
	if len(found) == 0 {
		missing(t, "the AWS CLI (aws)")
	}
	h := serverHouse(t)
	for _, program := range found {
		t.Run(program, func(t *testing.T) {
			if r := h.run(program, "--version"); r.code != 0 {
				t.Skipf("SKIPPED: %s does not run: %v", program, r)
			}
			h.viaServer(t, nil, func(profile, arn, out string) {
				if !strings.HasPrefix(out, arn) {
					t.Errorf("%s: %q, want %s", profile, out, arn)
				}
			}, program, "sts", "get-caller-identity", "--output", "text", "--query", "Arn", "--endpoint-url", h.sim.url, "--region", "eu-west-1")
		})
	}
}

const botoPoller = `
import boto3, sys, time
sts = boto3.Session().client("sts", endpoint_url=sys.argv[1], region_name="eu-west-1")
end, calls, arn = time.time() + float(sys.argv[2]), 0, ""
while calls == 0 or time.time() < end:
    arn = sts.get_caller_identity()["Arn"]
    calls += 1
    time.sleep(0.02)
print(arn, calls)
`

// hasTokenFile checks whether a botocore reads AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; versions before 1.31.69 do
// not.
const hasTokenFile = `
import botocore.credentials as c, sys
sys.exit(0 if hasattr(c.ContainerProvider, "ENV_VAR_AUTH_TOKEN_FILE") else 3)
`

// TestClientsServerBoto3 also runs over five lifetimes of a session that is so short that boto3 asks before each
// call.
func TestClientsServerBoto3(t *testing.T) {
	found := installed("python3")
	h := serverHouse(t)
	short := robotHouse(t, "6s")
	ran := 0
	for _, program := range found {
		if h.run(program, "-c", "import boto3").code != 0 {
			continue
		}
		ran++
		t.Run(program, func(t *testing.T) {
			right := func(profile, arn, out string) {
				if !strings.HasPrefix(out, arn) {
					t.Errorf("%s: %q, want %s", profile, out, arn)
				}
			}
			h.viaServer(t, nil, right, program, "-c", botoPoller, h.sim.url, "0")
			if h.run(program, "-c", hasTokenFile).code == 0 {
				h.viaServer(t, []string{"--token-file"}, right, program, "-c", botoPoller, h.sim.url, "0")
			} else {
				t.Log("this botocore does not read a token from a file")
			}
			short.env = append(short.env, "AWS_EC2_METADATA_DISABLED=true")
			for _, kv := range h.env {
				if strings.HasPrefix(kv, "PYENV_ROOT=") {
					short.env = append(short.env, kv)
				}
			}
			out := short.ok(t, "broker", "exec", "build", "--mode", "server", "--", program, "-c", botoPoller, short.sim.url, "34")
			right("build", "arn:aws:sts::222233334444:assumed-role/build/", out)
			t.Log(strings.TrimSpace(out))
		})
	}
	if ran == 0 {
		missing(t, "a python3 with boto3")
	}
}

func TestClientsServerGoSDK(t *testing.T) {
	h := serverHouse(t)
	h.env = append(h.env, "E2E_ROLE=poller", "E2E_FOR=1ns", "E2E_STS="+h.sim.url, "AWS_REGION=eu-west-1")
	for _, flags := range [][]string{nil, {"--token-file"}} {
		for _, c := range clientRoles {
			h.env = append(h.env, "E2E_ARN="+c.arn)
			command := append([]string{"exec", viaExec[c.profile], "--mode", "server"}, flags...)
			if out := h.ok(t, "broker", append(command, "--", selfProgram(t))...); !strings.HasPrefix(out, "1 calls, 1 sessions") {
				t.Errorf("%s: %s", c.profile, out)
			}
		}
	}
}

// TestClientsServerJS runs the SDKs for JavaScript that `make deps-clients` installs.
func TestClientsServerJS(t *testing.T) {
	node := installed("node")
	if len(node) == 0 {
		missing(t, "node")
	}
	h := serverHouse(t)
	h.env = append(h.env, "NODE_PATH="+filepath.Join(clientsDir, "node_modules"), "AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE=1")
	for name, script := range map[string]string{
		"@aws-sdk/client-sts": `const {STSClient, GetCallerIdentityCommand} = require("@aws-sdk/client-sts");
new STSClient({endpoint: process.argv[1], region: "eu-west-1"}).send(new GetCallerIdentityCommand({})).then(r => console.log(r.Arn));`,
		"aws-sdk": `const AWS = require("aws-sdk");
new AWS.STS({endpoint: process.argv[1], region: "eu-west-1"}).getCallerIdentity().promise().then(r => console.log(r.Arn));`,
	} {
		t.Run(name, func(t *testing.T) {
			if fromNPM(name)(t, h) == "" {
				missing(t, name)
			}
			h.viaServer(t, nil, func(profile, arn, out string) {
				if !strings.HasPrefix(out, arn) {
					t.Errorf("%s: %q, want %s", profile, out, arn)
				}
			}, node[0], "-e", script, h.sim.url)
		})
	}
}

// crtNode signs with the credentials that the Common Runtime found, and prints the key id.
const crtNode = `const crt = require("aws-crt");
const r = new crt.http.HttpRequest("GET", "/", new crt.http.HttpHeaders([["host", "example.com"]]));
crt.auth.aws_sign_request(r, {algorithm: crt.auth.AwsSigningAlgorithm.SigV4,
	signature_type: crt.auth.AwsSignatureType.HttpRequestViaHeaders, provider: crt.auth.AwsCredentialsProvider.newDefault(),
	region: "eu-west-1", service: "sts", date: new Date()}).then(
	() => console.log(/Credential=(\w+)/.exec(r.headers.get("Authorization"))[1]),
	e => { console.error(String(e)); process.exit(1); });`

const crtPython = `
import awscrt.auth
print(awscrt.auth.AwsCredentialsProvider.new_default_chain().get_credentials().result(30).access_key_id)
`

// nodeFetch asks as a program without an SDK does.
const nodeFetch = `fetch(process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI,
	{headers: {Authorization: process.env.AWS_CONTAINER_AUTHORIZATION_TOKEN}}).then(async r => {
	const text = await r.text();
	if (!r.ok) { console.error(r.status, text); process.exit(1); }
	console.log(JSON.parse(text).AccessKeyId);
});`

// TestClientsServerOthers runs clients that are not a language's SDK, or that send unusual HTTP. The Common
// Runtime omits the port from Host, and Node's fetch sends Sec-Fetch-Mode.
func TestClientsServerOthers(t *testing.T) {
	h := serverHouse(t)
	h.env = append(h.env, "NODE_PATH="+filepath.Join(clientsDir, "node_modules"), "NODE_NO_WARNINGS=1")
	node := append(installed("node"), "")[0]
	withCRT := func() string {
		for _, python := range installed("python3") {
			if h.run(python, "-c", "import awscrt.auth").code == 0 {
				return python
			}
		}
		return ""
	}
	for _, c := range []struct {
		name, program string
		args          []string
	}{
		{"aws-crt of npm", node, []string{"-e", crtNode}},
		{"awscrt of Debian", withCRT(), []string{"-c", crtPython}},
		{"fetch of Node", node, []string{"-e", nodeFetch}},
		{"minio-go", filepath.Join(clientsDir, "miniogo"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.program == "" || !isFile(c.program) || c.name == "aws-crt of npm" && fromNPM("aws-crt")(t, h) == "" {
				missing(t, c.name)
			}
			h.viaServer(t, nil, func(profile, _, out string) {
				if want := h.credentials(t, profile).AccessKeyID; strings.TrimSpace(out) != want {
					t.Errorf("%s: the key %q, want %s", profile, out, want)
				}
			}, c.program, c.args...)
		})
	}
}
