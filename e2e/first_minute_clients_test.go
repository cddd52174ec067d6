//go:build clients

package e2e

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is shown into the docs")

// TestClientsFirstMinute plays docs/first-minute.md on a real terminal, in a fresh home: from a key in plain text to the
// first answer. What the page shows is what is shown.
func TestClientsFirstMinute(t *testing.T) {
	tools := installed("aws")
	if len(tools) == 0 {
		missing(t, "the AWS CLI (aws)")
	}
	h := newHouse(t)
	must(t, h.startSim())
	must(t, h.settings(""))
	must(t, h.write(h.awsConfig(), demoConfig))
	credentials := filepath.Join(filepath.Dir(h.awsConfig()), "credentials")
	must(t, h.write(credentials, "[security]\n"+plainPaul))
	// The page says nothing of the simulator.
	must(t, os.WriteFile(filepath.Join(h.bin, "aws"), []byte("#!/bin/sh\nexec "+tools[0]+" --endpoint-url "+h.sim.url+" \"$@\"\n"), 0o755))
	h.env = append(h.env, "PS1=$ ", "HOME="+h.home, "AWS_PAGER=", "PYENV_ROOT="+os.Getenv("PYENV_ROOT"),
		"BASH_SILENCE_DEPRECATION_WARNING=1",
		"BROKER_KEYRING_PASSPHRASE_FILE=")
	s := h.shell(t, "bash", "--norc", "--noprofile", "-i")
	s.waits("$ ")
	code := ""
	for _, step := range []struct{ types, waits string }{
		{"broker setup", "each step] "},
		{"y", "New passphrase: "},
		{"correct horse battery staple", "The same again: "},
		{"correct horse battery staple", "asked by broker: "},
		{"CODE", "assumed-role"},
		{"", "$ "},
		{"aws sts get-caller-identity --profile product_dev_paul --query Arn", "assumed-role"},
		{"", "$ "},
		{"exit", ""},
	} {
		if step.types == "CODE" {
			code = h.code(t, serial)
			step.types = code
		}
		if step.types != "" {
			s.types(step.types)
		}
		if step.waits != "" {
			s.waits(step.waits)
		}
	}
	s.ends()
	shown := strings.ReplaceAll(s.shown(), "\r", "")
	for _, r := range []struct{ pattern, with string }{
		{`\x1b\[\?2004[hl]`, ""}, {regexp.QuoteMeta(h.home), "~"}, {code, "123456"}, {`paul@[\w.-]+|root@[\w.-]+`, "paul@laptop"},
		{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`, "2026-11-22 21:00:00"}, {`AROA\w+`, "AROAIOSFODNN7EXAMPLE"},
		{`, sent to http://127\.0\.0\.1:\d+`, ""}, // the simulator
		{`(?m)[ \t]+$`, ""},
	} {
		shown = regexp.MustCompile(r.pattern).ReplaceAllString(shown, r.with)
	}
	shown = shown[:strings.LastIndex(shown, "\n$")+1]
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
		t.Errorf("the page shows\n%s\nbut what is shown is\n%s\n(run with -update)", was, shown)
	}
	h.toldCodes(t, 1)
}
