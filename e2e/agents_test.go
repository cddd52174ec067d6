package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// withAgents is a house with a profile for each value of agents. Its sessions may assume the role of release.
func withAgents(t testing.TB) *house {
	t.Helper()
	h := demo(t)
	old, err := os.ReadFile(h.registry())
	must(t, err)
	text := string(old)
	for _, value := range []string{"read-only", "ask", "deny"} {
		text += "\n[profile " + value + "]\nrole_arn = arn:aws:iam::222233334444:role/allow-admin-from-security-account\n" +
			"source_profile = security\nagents = " + value + "\n"
	}
	must(t, h.write(h.registry(), text))
	return h
}

// changes reports whether STS lets a session assume another role, which ReadOnlyAccess does not allow.
func (h *house) changes(t testing.TB, d document) error {
	t.Helper()
	client, err := h.sim.client()
	must(t, err)
	defer client.CloseIdleConnections()
	c := sts.New(sts.Options{Region: "eu-west-1", BaseEndpoint: aws.String(h.sim.url), HTTPClient: client,
		Retryer:     aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(d.AccessKeyID, d.SecretAccessKey, d.SessionToken)})
	_, err = c.AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::444455556666:role/release"),
		RoleSessionName: aws.String("test")})
	return err
}

// TestAgentSessionsOnlyRead: STS refuses a change by the session of an agent, whether it is known by its environment or
// by its name, and also if a person has the full session already.
func TestAgentSessionsOnlyRead(t *testing.T) {
	t.Parallel()
	h := withAgents(t)
	answer := func(r result) (d document) {
		t.Helper()
		if r.code != 0 {
			t.Fatal(r)
		}
		must(t, json.Unmarshal([]byte(r.stdout), &d))
		return d
	}
	// named runs credproc below a shell that has the name of an agent.
	named := func() result {
		cmd := h.command("credproc", "read-only")
		cmd.Args = []string{"/usr/bin/claude", "-c", `"$0" "$1"; exit $?`, cmd.Path, "read-only"}
		sh, err := exec.LookPath("sh")
		must(t, err)
		cmd.Path = sh
		return finish(cmd)
	}
	// script stands for an agent that `broker exec` starts. It prints its session.
	script := filepath.Join(h.dir, "codex")
	must(t, h.write(script, "#!/bin/sh\nprintf '{\"Version\":1,\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"%s\","+
		"\"SessionToken\":\"%s\"}' \"$AWS_ACCESS_KEY_ID\" \"$AWS_SECRET_ACCESS_KEY\" \"$AWS_SESSION_TOKEN\"\n"))
	must(t, os.Chmod(script, 0o700))
	for range 2 { // the second time from the cache
		if err := h.changes(t, h.credentials(t, "read-only")); err != nil {
			t.Errorf("a person: %v", err)
		}
		for how, r := range map[string]result{
			"environment":   h.in([]string{"CLAUDECODE=1"}, "credproc", "read-only"),
			"name":          named(),
			"export":        h.in([]string{"GEMINI_CLI=1"}, "broker", "export", "read-only", "--format", "json"),
			"about to be":   h.run("broker", "exec", "read-only", "--", script),
			"of both signs": h.in([]string{"CODEX_THREAD_ID=x"}, "credproc", "read-only"),
		} {
			if err := h.changes(t, answer(r)); err == nil || !strings.Contains(err.Error(), "no session policy allows the sts:AssumeRole action") {
				t.Errorf("%s: %v", how, err)
			}
		}
	}
}
