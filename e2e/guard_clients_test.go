//go:build clients

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestClientsGuard runs the AWS CLI and Terraform for a production profile in a terminal: yes, no, a yes for a while, a
// guarded command, Ctrl-C, a background job, two panes, and without a terminal.
func TestClientsGuard(t *testing.T) {
	tools := installed("aws")
	if len(tools) == 0 {
		missing(t, "the AWS CLI")
	}
	tool := tools[0]
	h := guarded(t)
	must(t, h.write(h.awsConfig(), fmt.Sprintf("[profile prod]\nregion = eu-west-1\ncredential_process = %q prod\n",
		filepath.Join(h.bin, "credproc"))))
	m := h.tmux(t)
	aws := func(words string) string {
		return tool + " " + words + " --profile prod --output text --endpoint-url " + h.sim.url
	}
	ask := aws("sts get-caller-identity")
	const who = "assumed-role/allow-admin-from-security-account"

	m.types(ask)
	screen := m.waits(confirmation)
	for _, line := range []string{
		"prod needs a confirmation: it is a production profile\n",
		"\n  role      allow-admin-from-security-account in account 444455556666\n",
		"\n  command   aws sts get-caller-identity --profile prod", "\n  directory " + h.dir,
		"\nHand out a session of prod? y = once, a = each one of prod in this terminal for 15m, Enter = no:",
	} {
		if !strings.Contains(screen, line) {
			t.Errorf("the screen lacks %q:\n%s", line, screen)
		}
	}
	m.types("")
	m.waits("was not confirmed, so nothing was handed out")
	if strings.Contains(m.screen(), who) {
		t.Errorf("called AWS after a no:\n%s", m.screen())
	}

	m.clean()
	m.types(ask)
	m.waits(confirmation)
	m.types("y")
	m.waits(who)

	m.clean()
	m.types(ask)
	m.waits(confirmation)
	m.run("send-keys", "C-c")
	m.types("echo over: $((40+1))")
	m.waits("over: 41")

	m.clean()
	m.types("(" + ask + "; echo ended: $((40+2))) &")
	if screen := m.waits("ended: 42"); strings.Contains(screen, confirmation) || !strings.Contains(screen, "broker allow prod") {
		t.Errorf("a background job:\n%s", screen)
	}

	// Two panes: each has a prompt of its own.
	m.clean()
	m.types(ask)
	m.waits(confirmation)
	m.run("split-window", "-h", "bash --norc --noprofile")
	m.types("PS1='second> '")
	m.waits("second> ")
	m.types(ask)
	m.waits(confirmation)
	m.types("a")
	m.waits(who)
	m.types(ask + "; echo again: $((40+3))")
	if screen := m.waits("again: 43"); strings.Count(screen, confirmation) != 1 {
		t.Errorf("asked again in the same terminal:\n%s", screen)
	}
	m.types("exit")
	m.waits("Enter = no:") // the first pane still waits
	m.types("n")
	m.waits("was not confirmed")

	// A guarded command has a prompt of its own, after a yes for a while too.
	m.clean()
	m.types(ask)
	m.waits(confirmation)
	m.types("a")
	m.waits(who)
	m.types(aws("iam delete-user --user-name nobody"))
	m.waits("the command matches the guarded command aws delete-*")
	m.types("n")
	m.waits("was not confirmed")

	if terraform, err := exec.LookPath("terraform"); err == nil {
		m.clean()
		m.types("broker exec prod -- " + terraform + " destroy -auto-approve")
		m.waits("the command matches the guarded command terraform destroy")
		m.types("n")
		m.waits("was not confirmed")
		m.types("broker exec prod -- " + terraform + " version")
		m.waits("Terraform v") // the yes for a while counts
	} else {
		t.Log("SKIPPED, NOT PROVEN: Terraform is not installed")
	}

	// Without a terminal.
	cmd := h.command(tool, "sts", "get-caller-identity", "--profile", "prod", "--endpoint-url", h.sim.url)
	if r := finish(cmd); r.code == 0 || !strings.Contains(r.stderr, "broker allow prod --for 15m --reason WHY") {
		t.Errorf("without a terminal: %v", r)
	}
	h.ok(t, "broker", "allow", "prod", "--for", "15m", "--reason", "nightly", "--everywhere")
	cmd = h.command(tool, "sts", "get-caller-identity", "--profile", "prod", "--endpoint-url", h.sim.url)
	if r := finish(cmd); r.code != 0 || !strings.Contains(r.stdout, who) {
		t.Errorf("allowed: %v", r)
	}
}
