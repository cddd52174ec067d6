//go:build clients

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// javaScript2 reads a profile as Serverless 3 does for --aws-profile: only with this class, which does not support
// credential_process.
const javaScript2 = `
const AWS = require("aws-sdk");
const credentials = new AWS.SharedIniFileCredentials({profile: process.argv[1]});
new AWS.STS({credentials, endpoint: process.argv[2], region: "eu-west-1"}).getCallerIdentity({}, (err, data) => {
  if (err) { console.error(err.message); process.exit(1) }
  console.log(data.Arn);
});
`

// fileReaders returns commands that print the ARN of a profile of the AWS files.
func fileReaders(t *testing.T, h *house) map[string]func(profile string) []string {
	t.Helper()
	readers := map[string]func(string) []string{}
	for _, program := range installed("aws") {
		if h.run(program, "--version").code == 0 {
			readers[program] = func(profile string) []string {
				return []string{program, "sts", "get-caller-identity", "--output", "text", "--query", "Arn", "--endpoint-url", h.sim.url, "--region", "eu-west-1", "--profile", profile}
			}
		}
	}
	for _, python := range installed("python3") {
		if h.run(python, "-c", "import boto3").code == 0 {
			readers[python] = func(profile string) []string { return []string{python, "-c", botoProgram, profile, h.sim.url} }
		}
	}
	if len(readers) == 0 {
		missing(t, "the AWS CLI, or a python3 with boto3")
	}
	h.env = append(h.env, "NODE_PATH="+filepath.Join(clientsDir, "node_modules"))
	for _, node := range installed("node") {
		if h.run(node, "-e", `require("aws-sdk")`).code == 0 {
			readers["JS SDK 2"] = func(profile string) []string { return []string{node, "-e", javaScript2, profile, h.sim.url} }
			break
		}
	}
	if readers["JS SDK 2"] == nil {
		missing(t, "node with aws-sdk@2")
	}
	return readers
}

// TestClientsPublished checks that tools that read only the credentials file work with exec --mode file and with
// publish, and that other tools still work.
func TestClientsPublished(t *testing.T) {
	h := clientHouse(t)
	must(t, h.write(h.awsConfig(), demoConfig))
	h.ok(t, "broker", "profiles", "alias", "live", "product_prod_paul")
	readers := fileReaders(t, h)
	const prod, dev = "arn:aws:sts::444455556666:assumed-role/", "arn:aws:sts::222233334444:assumed-role/"
	try := func(name, want string, args ...string) {
		t.Helper()
		if out := h.ok(t, args[0], args[1:]...); !strings.HasPrefix(out, want) {
			t.Errorf("%s: %q, want %s", name, out, want)
		}
	}
	for name, reader := range readers {
		// For a profile that is not linked: its role_arn would win over the file.
		for _, profile := range []string{"product_prod_paul", "live"} {
			try(name, prod, append([]string{"broker", "exec", "--mode", "file", "product_prod_paul", "--"}, reader(profile)...)...)
		}
	}
	h.ok(t, "broker", "profiles", "link", "product_prod_paul", "product_dev_paul")
	for name, reader := range readers {
		try(name, prod, append([]string{"broker", "exec", "--mode", "file", "live", "--"}, reader("product_prod_paul")...)...)
		if name == "JS SDK 2" {
			if r := h.run("node", reader("product_prod_paul")[1:]...); r.code == 0 {
				t.Error("the SDK for JavaScript 2 reads credential_process: this test shows nothing")
			}
			continue
		}
		try(name, dev, append([]string{"broker", "exec", "--mode", "file", "live", "--"}, reader("product_dev_paul")...)...)
	}
	h.ok(t, "broker", "publish", "product_prod_paul")
	for name, reader := range readers {
		try(name, prod, reader("product_prod_paul")...)
		if name != "JS SDK 2" {
			try(name, dev, reader("product_dev_paul")...)
		}
	}
	h.ok(t, "broker", "unpublish")
}
