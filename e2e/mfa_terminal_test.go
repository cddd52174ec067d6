package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAskedThroughPipes checks that the prompt is on the terminal even if stdin, stdout and stderr of credproc are
// all elsewhere, as when an AWS tool starts it. The prompt says for which source and device the code is, and which
// program asks. The terminal is left as it was.
func TestAskedThroughPipes(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"", "set -m; "} { // a script, and a shell with job control
		h := seedless(t, "")
		s := h.shell(t, "sh", "-c", how+`credproc product_prod_paul </dev/null 2>err | cat >out; echo ended`)
		s.waits("MFA code for security (" + serial + "), sent to " + h.sim.url + ", asked by sh: ")
		s.types(h.code(t, serial))
		s.waits("ended")
		if r := s.ends(); r.code != 0 {
			t.Errorf("%q: the shell: exit code %d", how, r.code)
		}
		out, err := os.ReadFile(filepath.Join(h.dir, "out"))
		must(t, err)
		if _, err := parseDocument(string(out)); err != nil {
			t.Errorf("%q: %v", how, err)
		}
		if said, err := os.ReadFile(filepath.Join(h.dir, "err")); err != nil || len(said) > 0 {
			t.Errorf("%q: stderr holds %q, %v", how, said, err)
		}
		s.asked(1)
		s.asItWas()
		h.toldCodes(t, 1)
		// There is no second prompt.
		h.credentials(t, "product_dev_paul")
		h.toldCodes(t, 1)
	}
}

// TestTwoTerminals checks that two terminals get one prompt, on the one that came first. The other shows where the
// prompt is. The answer serves both.
func TestTwoTerminals(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	first := h.sit(t, "credproc", "product_prod_paul")
	first.waits(question)
	second := h.sit(t, "credproc", "product_dev_paul")
	second.waits("waiting for the code of security, sent to " + h.sim.url + ", asked on " + strings.TrimPrefix(first.tty.Name(), "/dev/") + " by e2e.test, press Enter to answer here")
	first.types(h.code(t, serial))
	first.succeeds()
	second.succeeds()
	first.asked(1)
	second.asked(0)
	first.asItWas()
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 2)
}

// TestProgressBesidePrompt checks that of two commands on one terminal, the one that waits does not write over the
// prompt of the other.
func TestProgressBesidePrompt(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	h.env = append(h.env, "TERM=xterm")
	s := h.shell(t, "sh", "-c", "broker exec product_prod_paul -- echo one | broker exec product_prod_paul -- sed s/^/two-/")
	s.waits(question)
	at := s.seen
	if !s.running(3 * time.Second) { // progress shows a line after one second
		t.Errorf("it ended: %s", s.shown())
	}
	if shown := s.shown()[at:]; strings.Contains(shown, "still waiting") || strings.Contains(shown, "\x1b[K") {
		t.Errorf("the prompt was overwritten: %q", s.shown())
	}
	s.types(h.code(t, serial))
	s.waits("two-one")
	s.ends()
	s.asItWas()
}

// TestBackgroundJob checks that a background job neither prompts nor writes on the terminal, even if the terminal
// would allow it.
func TestBackgroundJob(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	h.env = append(h.env, "PS1=ready> ")
	s := h.shell(t, "bash", "--norc", "--noprofile", "-i")
	s.waits("ready> ")
	for _, mode := range []string{"tostop", "-tostop"} {
		s.types("set -m; stty " + mode + `; credproc product_prod_paul </dev/null >out 2>err & wait $!; echo code:$? $(<out)$(<err)`)
		s.waits("code:4 credproc: ")
		s.waits(strings.TrimSpace(loginHint))
	}
	// With the terminal as its stderr it may say why, but not prompt.
	s.types(`credproc product_prod_paul & wait $!; echo code:$?`)
	s.waits("code:4")
	s.asked(0)
	// If the same shell's job is in the foreground when it asks, it prompts.
	s.types(`credproc product_prod_paul >out`)
	s.waits(question)
	s.types(h.code(t, serial))
	s.types(`wc -l <out; exit`)
	s.ends()
	out, err := os.ReadFile(filepath.Join(h.dir, "out"))
	must(t, err)
	if _, err := parseDocument(string(out)); err != nil {
		t.Error(err)
	}
	h.toldCodes(t, 1)
}

// TestNobodyToAsk checks that without a terminal, as under cron, the request fails at once and says what to type.
func TestNobodyToAsk(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	h.run("broker", "status")
	for _, argv := range [][]string{{"credproc", "product_prod_paul"}, {"broker", "exec", "product_prod_paul", "--", "true"}, {"broker", "login", "security"}} {
		r := h.run(argv[0], argv[1:]...)
		if err := checkFailure(r, "4", argv[0], argv[1:]); err != nil {
			t.Errorf("%v: %v", argv, err)
		}
		if !strings.HasSuffix(r.stderr, loginHint) {
			t.Errorf("%v: the hint is missing: %q", argv, r.stderr)
		}
	}
	h.toldCodes(t, 0)
	h.counted(t, "GetSessionToken", 0)
	// The hint's command works.
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	h.credentials(t, "product_prod_paul")
}

// TestPagerInThePipeline checks that the prompt works although a program in the same pipeline has switched off
// line mode and echo, and that this program finds the terminal in its mode again.
func TestPagerInThePipeline(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	self, err := os.Executable()
	must(t, err)
	note := filepath.Join(h.dir, "note")
	h.env = append(h.env, "PAGER="+self, "E2E_OUT="+note)
	s := h.shell(t, "sh", "-c", `{ until [ -e note.ready ]; do sleep 0.02; done; credproc product_prod_paul; } | E2E_ROLE=pager "$PAGER"`)
	s.waits(question)
	code := h.code(t, serial)
	s.types(code)
	if r := s.ends(); r.code != 0 {
		t.Errorf("the pipeline: exit code %d", r.code)
	}
	text, err := os.ReadFile(note)
	must(t, err)
	modes, out, _ := strings.Cut(string(text), "\n")
	if modes != "raw" {
		t.Errorf("the pager found its terminal %s", modes)
	}
	if _, err := parseDocument(out); err != nil {
		t.Errorf("%v: %q", err, out)
	}
	if !strings.Contains(s.shown(), code) {
		t.Errorf("what was typed was not shown:\n%s", s.shown())
	}
	s.asItWas()
}

// TestQuestionIsEdited checks that a typing error in a prompt can be corrected, that text typed before the prompt
// is not its answer, and that text typed after the answer goes to the next program.
func TestQuestionIsEdited(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s := h.shell(t, "sh", "-c", `until [ -e typed ]; do sleep 0.02; done; credproc product_prod_paul >out; read -r next; echo "next: $next"`)
	s.types("too early")
	must(t, os.WriteFile(filepath.Join(h.dir, "typed"), nil, 0o600))
	s.waits(question)
	code := h.code(t, serial)
	s.keys("wrong\x15" + code[:5] + "x\x7f" + code[5:] + "\rfor the next\r")
	s.waits("next: for the next")
	s.ends()
	s.asked(1)
	s.asItWas()
	h.toldCodes(t, 1)
}

// TestKilledInMidQuestion checks that a program that gets a signal during a prompt restores the terminal.
func TestKilledInMidQuestion(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s := h.sit(t, "credproc", "product_prod_paul")
	s.waits(question)
	if s.modes() == s.before {
		t.Error("void: the prompt did not change the terminal's mode")
	}
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	<-s.ended
	if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %v, want by the signal", s.cmd.ProcessState)
	}
	s.asItWas()
}

// TestTerminalGone checks that closing a terminal during a prompt harms nobody: the daemon still answers, and the
// prompt moves to the next waiting terminal.
func TestTerminalGone(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	first := h.sit(t, "credproc", "product_prod_paul")
	first.waits(question)
	second := h.sit(t, "credproc", "product_dev_paul")
	if !second.running(300 * time.Millisecond) {
		t.Errorf("the second did not wait: %v", second.ends())
	}
	first.leave()
	h.ok(t, "broker", "status")
	second.waits(question)
	second.types(h.code(t, serial))
	second.succeeds()
	h.toldCodes(t, 1)
}
