//go:build clients

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// TestClientsExplain compares what explain says about the AWS CLI, boto3, the JS SDKs and the Go SDK with what
// these tools do with the same files. An answer from Broker is a role of prod; an answer from elsewhere has
// another account.
func TestClientsExplain(t *testing.T) {
	const robot = "aws_access_key_id = AKIADEMOROBOTFAKE333\naws_secret_access_key = fake/demo+secret/of+robot/fake/demo+3333\n"
	h := clientHouse(t)
	h.env = append(h.env, "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1", "AWS_SDK_LOAD_CONFIG=1")
	credproc := fmt.Sprintf("credential_process = %q prod\n", filepath.Join(h.bin, "credproc"))
	role := "role_arn = " + prodRole + "\nsource_profile = security\n"
	const region = "region = eu-west-1\n"
	for name, files := range map[string][2]string{
		"linked":                  {"[profile prod]\n" + region + credproc, ""},
		"role first":              {"[profile prod]\n" + region + credproc + role, ""},
		"role, source linked":     {"[profile prod]\n" + region + role + "[profile security]\n" + strings.Replace(credproc, " prod\n", " security\n", 1), ""},
		"keys in the credentials": {"[profile prod]\n" + region + credproc, "[prod]\n" + robot},
		"keys in the config":      {"[profile prod]\n" + region + credproc + robot, ""},
		"unknown":                 {"[profile other]\n" + region, ""},
		"nothing in it":           {"[profile prod]\n" + region, ""},
		"twice":                   {"[profile prod]\n" + region + credproc + "[profile x]\n" + region + "[profile x]\n" + region, ""},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, h.write(h.awsConfig(), files[0]))
			must(t, h.write(filepath.Join(h.home, ".aws/credentials"), files[1]))
			var said struct {
				Tools []struct{ Tool, From, Text string }
			}
			must(t, json.Unmarshal([]byte(h.ok(t, "broker", "explain", "--json", "prod")), &said))
			for tool, ask := range askers(t, h) {
				if name == "role, source linked" && tool == "AWS CLI" {
					continue // older versions send their own AssumeRole to AWS whatever the endpoint; boto3 covers botocore
				}
				from := "nobody"
				switch arn := ask("prod"); {
				case strings.HasPrefix(arn, clientRoles[1].arn):
					from = "broker"
				case arn != "":
					from = "else"
				}
				for _, v := range said.Tools {
					if v.Tool == tool && v.From != from {
						t.Errorf("%s: explain says %s (%s), but it is %s", tool, v.From, v.Text, from)
					}
				}
			}
		})
	}

	// explain says that a key in the environment wins over AWS_PROFILE, but not over a profile that is given.
	must(t, h.write(h.awsConfig(), "[profile prod]\n"+region+credproc))
	must(t, h.write(filepath.Join(h.home, ".aws/credentials"), ""))
	h.env = append(h.env, "AWS_ACCESS_KEY_ID=AKIADEMOROBOTFAKE333", "AWS_SECRET_ACCESS_KEY=fake/demo+secret/of+robot/fake/demo+3333", "AWS_PROFILE=prod", "AWS_REGION=eu-west-1")
	for tool, ask := range askers(t, h) {
		switch {
		case tool == "JS SDK 3":
			if arn := ask(""); !strings.HasPrefix(arn, clientRoles[1].arn) {
				t.Errorf("%s, with AWS_PROFILE: %q", tool, arn)
			}
			continue
		case tool == "JS SDK 2":
			if arn := ask("prod"); !strings.Contains(arn, "robot") {
				t.Errorf("%s, with AWS_PROFILE: %q", tool, arn)
			}
			continue
		}
		if arn := ask("prod"); !strings.HasPrefix(arn, clientRoles[1].arn) {
			t.Errorf("%s, given the profile: %q", tool, arn)
		}
		if arn := ask(""); !strings.Contains(arn, "robot") {
			t.Errorf("%s, with AWS_PROFILE: %q", tool, arn)
		}
	}
}

// askers returns a function for each installed tool. It returns the identity that the tool gets for a profile, or
// from the environment, and is empty if the tool fails.
func askers(t *testing.T, h *house) map[string]func(profile string) string {
	t.Helper()
	all := map[string]func(string) string{"Go SDK": func(profile string) string { return goIdentity(t, h, profile) }}
	if found := installed("aws"); len(found) > 0 {
		all["AWS CLI"] = func(profile string) string {
			args := []string{"sts", "get-caller-identity", "--output", "text", "--query", "Arn", "--endpoint-url", h.sim.url}
			if profile != "" {
				args = append(args, "--profile", profile)
			}
			return succeeded(h.run(found[0], args...))
		}
	} else {
		missing(t, "the AWS CLI (aws)")
	}
	for _, python := range installed("python3") {
		// It must know AWS_ENDPOINT_URL_STS, since its own AssumeRole must not leave the machine.
		if r := h.run(python, "-c", "import boto3; from botocore.configprovider import ConfiguredEndpointProvider"); r.code == 0 {
			all["boto3"] = func(profile string) string { return succeeded(h.run(python, "-c", botoProgram, profile, h.sim.url)) }
		}
	}
	for tool, file := range map[string]string{"JS SDK 2": "js2.js", "JS SDK 3": "js3.js"} {
		program := ours(file, "aws-sdk")(t, h)
		if program == "" {
			missing(t, tool)
		}
		redirect, err := filepath.Abs("testdata/clients/redirect.js")
		must(t, err)
		all[tool] = func(profile string) string {
			words := []string{"EMULATOR=" + h.sim.url, "NODE_PATH=" + filepath.Join(clientsDir, "node_modules")}
			if profile != "" && tool == "JS SDK 2" {
				words = append(words, "AWS_PROFILE="+profile)
			}
			return succeeded(h.run("env", append(words, "node", "--require", redirect, program, profile)...))
		}
	}
	if all["boto3"] == nil { // newer than Debian's
		t.Log("SKIPPED, NOT PROVEN: a python3 with boto3 1.28 or later")
	}
	return all
}

func succeeded(r result) string {
	if r.code != 0 {
		return ""
	}
	return strings.TrimSpace(r.stdout)
}

func goIdentity(t *testing.T, h *house, profile string) string {
	t.Helper()
	for _, kv := range append(h.env, "AWS_CONFIG_FILE="+h.awsConfig(), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(h.home, ".aws/credentials")) {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	var options []func(*config.LoadOptions) error
	if profile != "" {
		options = append(options, config.WithSharedConfigProfile(profile))
	}
	cfg, err := config.LoadDefaultConfig(t.Context(), options...)
	if err != nil {
		return ""
	}
	out, err := sts.NewFromConfig(cfg, func(o *sts.Options) { o.BaseEndpoint = aws.String(h.sim.url) }).
		GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil {
		return ""
	}
	return aws.ToString(out.Arn)
}
