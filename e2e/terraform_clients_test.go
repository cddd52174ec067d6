//go:build clients

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// awsProvider returns a directory in which Terraform finds its AWS provider without the registry: one of its
// default directories, or one of a package. It is empty if there is none.
func awsProvider() string {
	places, _ := filepath.Glob("/opt/*")
	places = append(places, "/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins")
	if home, err := os.UserHomeDir(); err == nil {
		places = append(places, filepath.Join(home, ".terraform.d/plugins"))
	}
	for _, dir := range places {
		if found, _ := filepath.Glob(filepath.Join(dir, "registry.terraform.io/hashicorp/aws/*/"+runtime.GOOS+"_"+runtime.GOARCH)); len(found) > 0 {
			return dir
		}
	}
	return ""
}

// terraform returns a function that runs Terraform in a directory, with the provider of the mirror, and returns its
// output.
func (h *house) terraform(t *testing.T, program, dir, mirror string) func(args ...string) string {
	t.Helper()
	config := writeMirrorConfig(t, dir, mirror)
	return func(args ...string) string {
		t.Helper()
		cmd := h.command(program, args...)
		cmd.Dir = dir
		cmd.Env = append(slices.Clone(h.env), "TF_CLI_CONFIG_FILE="+config, "TF_IN_AUTOMATION=1", "TF_INPUT=0")
		r := finishWithin(5*time.Minute, cmd) // the provider is 700 MB, and ten processes of it may start
		if r.code != 0 {
			t.Fatalf("terraform %v: %v", args, r)
		}
		return r.stdout
	}
}

// writeMirrorConfig writes the CLI configuration with which Terraform takes its provider from a directory.
func writeMirrorConfig(t *testing.T, dir, mirror string) string {
	t.Helper()
	file := filepath.Join(dir, "cli.tfrc")
	text := fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n"+
		"disable_checkpoint = true\n", mirror)
	must(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// TestClientsTerraform runs plan and apply with ten aliases of the AWS provider, each a process that asks its own
// helper. No distribution has the provider. Where it is missing, only TestClientsTenAliases covers this.
func TestClientsTerraform(t *testing.T) {
	terraform, err := exec.LookPath("terraform")
	mirror := awsProvider()
	if err != nil || mirror == "" {
		t.Skip("SKIPPED, NOT PROVEN: Terraform with its AWS provider is not installed, and no distribution has it; see TestClientsTenAliases")
	}
	if os.Getenv("CI") == "true" {
		t.Skip("SKIPPED, NOT PROVEN: it uses both cores for minutes, which CI cannot spare; `make test-clients` by hand runs it")
	}
	h := clientHouse(t)
	dir := filepath.Join(h.dir, "terraform")
	must(t, os.Mkdir(dir, 0o755))
	text := "terraform {\n  required_providers {\n    aws = { source = \"hashicorp/aws\" }\n  }\n}\n"
	text += "resource \"terraform_data\" \"first\" {}\n"
	const aliases = 10
	for i := range aliases {
		when := "" // in the plan
		if i%2 == 1 {
			when = "depends_on = [terraform_data.first]" // in the apply
		}
		text += fmt.Sprintf(`
provider "aws" {
  alias                       = "p%[1]d"
  profile                     = %[2]q
  region                      = "eu-west-1"
  skip_requesting_account_id  = true
  endpoints { sts = %[3]q }
}
data "aws_caller_identity" "p%[1]d" {
  provider = aws.p%[1]d
  %[4]s
}
output "p%[1]d" { value = data.aws_caller_identity.p%[1]d.arn }
`, i, clientRoles[i%len(clientRoles)].profile, h.sim.url, when)
	}
	must(t, os.WriteFile(filepath.Join(dir, "main.tf"), []byte(text), 0o600))
	run := h.terraform(t, terraform, dir, mirror)
	run("init", "-no-color")
	run("plan", "-no-color", "-out=plan")
	run("apply", "-no-color", "plan")
	var outputs map[string]struct{ Value string }
	must(t, json.Unmarshal([]byte(run("output", "-json")), &outputs))
	for i := range aliases {
		want := clientRoles[i%len(clientRoles)].arn
		if got := outputs[fmt.Sprint("p", i)].Value; !strings.HasPrefix(got, want) {
			t.Errorf("alias p%d is %q, want %s", i, got, want)
		}
	}
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 3)
	calls, err := h.sim.count("GetCallerIdentity")
	must(t, err)
	if calls < aliases {
		t.Errorf("%d calls of the providers arrived, want at least %d: the test is void", calls, aliases)
	}
}
