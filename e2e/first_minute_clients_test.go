//go:build clients

package e2e

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the terminal's output into the docs")

// TestClientsFirstMinute plays docs/first-minute.md on a real terminal in a fresh home, from a key in plain text
// to the first answer. The terminal must show what the page shows.
func TestClientsFirstMinute(t *testing.T) {
	shown := playOnTerminal(t, []scene{
		{after: prompt, types: "broker setup"},
		{after: "each step] ", types: "y"},
		{after: "New passphrase: ", types: "correct horse battery staple", unseen: true},
		{after: "The same again: ", types: "correct horse battery staple", unseen: true},
		{after: "asked by broker: ", types: "CODE"},
		{after: prompt, types: "aws sts get-caller-identity --profile product_dev_paul --query Arn"},
	})
	shown = strings.ReplaceAll(shown, "\x1e", "")
	page := "../docs/first-minute.md"
	text, err := os.ReadFile(page)
	must(t, err)
	before, rest, ok := strings.Cut(string(text), "```text\n")
	was, after, ok2 := strings.Cut(rest, "```\n")
	if !ok || !ok2 {
		t.Fatal("the page has no block of text")
	}
	if *update {
		must(t, os.WriteFile(page, []byte(before+"```text\n"+shown+"```\n"+after), 0o644))
	} else if shown != was {
		t.Errorf("the page shows\n%s\nbut the terminal shows\n%s\n(run with -update)", was, shown)
	}
}

// playOnTerminal types the scenes in a shell on a terminal, in a fresh home with a key in plain text, two role
// profiles and the AWS CLI. It returns what the terminal showed up to the last prompt, with times, ids and paths
// normalized and no trace of the simulator.
func playOnTerminal(t *testing.T, scenes []scene) string {
	t.Helper()
	tools := installed("aws")
	if len(tools) == 0 {
		missing(t, "the AWS CLI (aws)")
	}
	h := newHouse(t)
	must(t, h.startSim())
	proxy := startRecordingProxy(t, h.dir, h.sim.url, []string{"iam.amazonaws.com", "signin.aws.amazon.com",
		"sts.amazonaws.com", "sts.us-east-1.amazonaws.com", "sts.eu-west-1.amazonaws.com", "sts.eu-central-1.amazonaws.com"},
		func(aws http.Handler) http.Handler { return aws })
	self, err := os.Executable()
	must(t, err)
	for name, script := range map[string]string{
		"aws":     "exec " + tools[0] + " --endpoint-url " + h.sim.url + ` "$@"`,
		"browser": "E2E_ROLE=browser E2E_OUT=" + filepath.Join(h.dir, "visited") + " exec " + self + ` "$@"`,
	} {
		must(t, os.WriteFile(filepath.Join(h.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	must(t, h.write(h.registry(), "[settings]\nkeyring_backend = file\nhttps_proxy = "+proxy.url+"\nca_bundle = "+proxy.ca+
		"\nbrowser = "+filepath.Join(h.bin, "browser")+"\n"))
	must(t, h.write(h.awsConfig(), demoConfig))
	must(t, h.write(filepath.Join(filepath.Dir(h.awsConfig()), "credentials"), "[security]\n"+plainPaul))
	h.env = append(h.env, "PS1="+prompt, "HOME="+h.home, "AWS_PAGER=", "PYENV_ROOT="+os.Getenv("PYENV_ROOT"),
		"BASH_SILENCE_DEPRECATION_WARNING=1", "BROKER_KEYRING_PASSPHRASE_FILE=")
	s := h.shell(t, "bash", "--norc", "--noprofile", "--noediting", "-i")
	code := ""
	for _, scene := range append(scenes, scene{after: prompt, types: "exit"}) {
		s.waits(scene.after)
		if scene.types == "CODE" {
			code = h.code(t, serial)
			scene.types = code
		}
		s.types(scene.types)
	}
	s.ends()
	h.toldCodes(t, 1)
	shown := strings.ReplaceAll(s.shown(), "\r", "")
	for _, r := range []struct{ pattern, with string }{
		{regexp.QuoteMeta(h.home), "~"}, {regexp.QuoteMeta(h.bin), "~/.local/bin"}, {code, "123456"},
		{`paul@[\w.-]+|root@[\w.-]+`, "paul@laptop"}, {`AROA\w+`, "AROAIOSFODNN7EXAMPLE"},
		{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`, "2026-11-22 21:00:00"}, {`since [\d-]+ [\d:]+`, "since 2026-11-22 09:00:00"},
		{`until (\d{4}-\d\d-\d\d )?\d\d:\d\d \([^)]*\)`, "until 10:00 (59m)"},
		{`pid \d+, version [^,]*`, "pid 4711, version 0.1.0"}, {`  1[12]h(\d+m)?(\d+s)?`, "  11h59m57s"},
		{`  (1h|\d+m)(\d+s)?`, "  59m58s"},
		{regexp.QuoteMeta(proxy.url), "none"}, {regexp.QuoteMeta(proxy.ca), "the system's"},
		{`(?m)[ \t]+$`, ""},
	} {
		shown = regexp.MustCompile(r.pattern).ReplaceAllString(shown, r.with)
	}
	keys := 0
	shown = regexp.MustCompile(`…[A-Z2-7]{4}  `).ReplaceAllStringFunc(shown, func(string) string {
		keys++
		return fmt.Sprintf("…7YQ%c  ", 'A'+keys)
	})
	return shown[:strings.LastIndex(shown, "\n"+strings.TrimSpace(prompt))+1]
}
