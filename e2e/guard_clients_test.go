//go:build clients

package e2e

import (
	"fmt"
	"os"
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
		"\nHand out a session of prod? y = once, a = each one for this reason in this terminal for 15m, Enter = no:",
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

// TestClientsGuardServerless runs Serverless 3 and osls 4 for a production profile in a terminal, with each delivery:
// no, yes, a yes for a while, and a guarded command. Serverless 3 does not read credential_process, so that is never
// asked there; what broker publish wrote is read without a question.
func TestClientsGuardServerless(t *testing.T) {
	h := guarded(t)
	tools := filepath.Join(h.dir, "tools")
	must(t, os.Mkdir(tools, 0o755))
	for name, file := range map[string]string{"sls": "serverless/bin/serverless.js", "osls": "osls/bin/serverless.js"} {
		program := fromNPM(file)(t, h)
		if program == "" {
			missing(t, name)
		}
		must(t, os.Symlink(program, filepath.Join(tools, name)))
	}
	e := startEmulator(t, h)
	h.toolsAsk(t, e)
	must(t, h.write(h.awsConfig(), fmt.Sprintf("[profile prod]\nregion = eu-west-1\ncredential_process = %q prod\n",
		filepath.Join(h.bin, "credproc"))))
	h.ok(t, "broker", "login", "security")
	m := h.tmux(t)
	dir := filepath.Join(h.dir, "sls")
	m.types("cd " + dir + "; PATH=" + tools + ":$PATH")

	const where = " --stage prod --region eu-west-1"
	scene := 100
	// run types a line and answers the question, which must be about command; if that is empty, nothing may be asked. It
	// returns the exit code, the screen, and what arrived at AWS.
	run := func(line, command, why, answer string) (code int, screen string, calls []arrival) {
		t.Helper()
		m.clean()
		e.forget(strings.Contains(line, " deploy "))
		scene++
		m.types(fmt.Sprintf("%s; echo end: $? of $((%d+1))", line, scene-1))
		questions := 0
		if command != "" {
			questions = 1
			answers := "y = once, a = each one for this reason in this terminal for 15m, Enter = no:"
			if strings.Contains(why, "guarded command") {
				answers = "y = once, Enter = no:"
			}
			note := ""
			if strings.HasPrefix(command, "broker publish ") {
				note = "\n  note      while it is published, guarded commands are not seen"
			}
			want := "\nprod needs a confirmation: " + why +
				"\n  role      allow-admin-from-security-account in account 444455556666" +
				"\n  command   " + command + "\n  directory " + dir + note + "\n" + confirmation + " " + answers
			if screen := m.waits("Enter = no:"); !strings.Contains(screen, want) {
				t.Errorf("%s: the screen lacks %q:\n%s", line, want, screen)
			}
			if calls := e.arrived(); len(calls) > 0 {
				t.Errorf("%s: called AWS before the answer: %v", line, calls)
			}
			m.types(answer)
		}
		end := fmt.Sprintf(" of %d\n", scene)
		screen = m.waits(end)
		if n := strings.Count(screen, confirmation); n != questions {
			t.Errorf("%s: %d questions, want %d:\n%s", line, n, questions, screen)
		}
		before, _, _ := strings.Cut(screen, end)
		_, err := fmt.Sscan(before[strings.LastIndex(before, "end: ")+len("end: "):], &code)
		must(t, err)
		return code, screen, e.arrived()
	}
	refused := func(code int, screen string, calls []arrival) {
		t.Helper()
		if code == 0 || !strings.Contains(screen, "was not confirmed, so nothing was handed out") || len(calls) > 0 {
			t.Errorf("after a no: exit code %d, calls %v\n%s", code, calls, screen)
		}
	}
	works := func(code int, screen string, calls []arrival) {
		t.Helper()
		if code != 0 || len(calls) == 0 {
			t.Errorf("after a yes: exit code %d, calls %v\n%s", code, calls, screen)
		}
		for _, a := range calls {
			if !strings.HasPrefix(a.keyID, "ASIA") || a.token == "" {
				t.Errorf("not signed by a session: %v", a)
			}
		}
	}
	const production, profile = "it is a production profile", " --aws-profile prod"

	for _, c := range []struct{ before, tool, verb, profile string }{
		{"", "osls", "deploy", profile},
		{"broker exec prod -- ", "sls", "info", ""},
		{"broker exec --mode server prod -- ", "sls", "info", ""},
		{"broker exec --mode file prod -- ", "sls", "deploy", profile},
	} {
		command := c.tool + " " + c.verb + where + c.profile
		refused(run(c.before+command, command, production, ""))
		works(run(c.before+command, command, production, "y"))
		remove := c.tool + " remove" + where + c.profile
		refused(run(c.before+remove, remove, "the command matches the guarded command "+c.tool+" remove", "n"))
	}

	info := "sls info" + where + profile
	if code, screen, calls := run(info, "", "", ""); code == 0 || len(calls) > 0 ||
		!strings.Contains(screen, "doesn't seem to be configured") {
		t.Errorf("Serverless 3 with credential_process: exit code %d, calls %v\n%s", code, calls, screen)
	}
	refused(run("broker publish prod", "broker publish prod", production, "n"))
	if code, screen, _ := run("broker publish prod", "broker publish prod", production, "y"); code != 0 {
		t.Errorf("publish: exit code %d\n%s", code, screen)
	}
	works(run(info, "", "", ""))
	h.ok(t, "broker", "unpublish", "prod")

	// The file of the package, as scripts run it.
	remove := " remove" + where
	refused(run("broker exec prod -- node "+fromNPM("serverless/bin/serverless.js")(t, h)+remove, "serverless.js"+remove,
		"the command matches the guarded command serverless.js remove", "n"))

	info = "o" + info
	works(run(info, info, production, "a"))
	works(run(info, "", "", ""))
}
