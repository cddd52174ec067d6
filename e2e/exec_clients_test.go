//go:build clients

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// Programs that use the profiles in their arguments at the same time, and then the default profile.
const (
	botoSeveral = `
import boto3, sys
def arn(profile):
    return boto3.Session(profile_name=profile).client("sts", endpoint_url=sys.argv[1]).get_caller_identity()["Arn"]
for profile in sys.argv[2:]:
    print(arn(profile), boto3.Session(profile_name=profile).region_name)
print(arn(None))
`
	// Serverless 3 uses SharedIniFileCredentials for --aws-profile; it reads only the credentials file.
	javaScriptSeveral = `
const AWS = require("aws-sdk");
const [endpoint, ...profiles] = process.argv.slice(1);
(async () => {
  for (const profile of [...profiles, undefined]) {
    const credentials = new AWS.SharedIniFileCredentials({profile});
    console.log((await new AWS.STS({credentials, endpoint, region: "eu-west-1"}).getCallerIdentity({}).promise()).Arn);
  }
})().catch((err) => { console.error(err.message); process.exit(1) });
`
	cliSeveral = `
aws=$1 endpoint=$2
shift 2
for profile; do
	"$aws" sts get-caller-identity --output text --query Arn --endpoint-url "$endpoint" --profile "$profile" || exit
done
exec "$aws" sts get-caller-identity --output text --query Arn --endpoint-url "$endpoint"
`
)

// TestClientsSeveral checks that tools that need two profiles at once find each under its name and its alias, even
// if they read only the credentials file. A tool without a profile gets the first one.
func TestClientsSeveral(t *testing.T) {
	h := clientHouse(t)
	must(t, h.write(h.awsConfig(), strings.Replace(demoConfig, "region = eu-west-1", "region = eu-west-3", 1)))
	h.ok(t, "broker", "profiles", "alias", "live", "product_prod_paul")
	programs := map[string][]string{}
	for _, python := range installed("python3") {
		if h.run(python, "-c", "import boto3").code == 0 {
			programs[python] = []string{python, "-c", botoSeveral, h.sim.url}
		}
	}
	for _, aws := range installed("aws") {
		if h.run(aws, "--version").code == 0 {
			programs[aws] = []string{"sh", "-c", cliSeveral, "sh", aws, h.sim.url}
		}
	}
	if len(programs) == 0 {
		missing(t, "the AWS CLI, or a python3 with boto3")
	}
	h.env = append(h.env, "NODE_PATH="+filepath.Join(clientsDir, "node_modules"))
	for _, node := range installed("node") {
		if h.run(node, "-e", `require("aws-sdk")`).code == 0 {
			programs["JS SDK 2"] = []string{node, "-e", javaScriptSeveral, h.sim.url}
			break
		}
	}
	if programs["JS SDK 2"] == nil {
		missing(t, "node with aws-sdk@2")
	}
	const prod, dev = "arn:aws:sts::444455556666:assumed-role/", "arn:aws:sts::222233334444:assumed-role/"
	want := []string{dev, prod, prod, dev}
	try := func(name string) {
		t.Helper()
		command := append([]string{"exec", "product_dev_paul", "live", "--"}, programs[name]...)
		lines := strings.Split(strings.TrimSpace(h.ok(t, "broker", append(command, "product_dev_paul", "product_prod_paul", "live")...)), "\n")
		if len(lines) != len(want) {
			t.Fatalf("%s: %q", name, lines)
		}
		for i, line := range lines {
			if !strings.HasPrefix(line, want[i]) {
				t.Errorf("%s: line %d is %q, want %s", name, i, line, want[i])
			}
		}
		if strings.Contains(name, "python") && (!strings.HasSuffix(lines[0], " eu-central-1") || !strings.HasSuffix(lines[1], " eu-west-3")) {
			t.Errorf("%s: the regions of %q", name, lines)
		}
	}
	for name := range programs {
		try(name)
	}
	h.ok(t, "broker", "profiles", "link", "product_prod_paul", "product_dev_paul")
	for name := range programs {
		try(name)
	}
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 2)
}
