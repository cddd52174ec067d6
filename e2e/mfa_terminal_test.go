package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAskedThroughPipes: credproc's stdin, stdout and stderr are all elsewhere, as when an AWS tool starts it, and the
// prompt is on the terminal all the same: whose code, for which device, who asks for it. The terminal is left as it was.
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
		// Nobody is asked again.
		h.credentials(t, "product_dev_paul")
		h.toldCodes(t, 1)
	}
}

// TestTwoTerminals: one question for two, on the terminal that came first; the other is told where. The answer is for
// both.
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

// TestBackgroundJob: a job in the background neither asks nor writes on the terminal, even where the terminal
// would let it.
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
	// With the terminal as its stderr it may say why; it may not ask.
	s.types(`credproc product_prod_paul & wait $!; echo code:$?`)
	s.waits("code:4")
	s.asked(0)
	// Brought to the foreground before it asks, the same shell's job is asked.
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

// TestNobodyToAsk: without a terminal, as under cron, the answer comes at once and says what to type.
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
	// What the hint says works.
	h.ok(t, "broker", "login", "security", "--code", h.code(t, serial))
	h.credentials(t, "product_prod_paul")
}

// TestPagerInThePipeline: a program in the same pipeline that has taken line mode and echo away does
// not keep the question from working, and finds the terminal as it had made it.
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
		t.Errorf("the pager's terminal was %s", modes)
	}
	if _, err := parseDocument(out); err != nil {
		t.Errorf("%v: %q", err, out)
	}
	if !strings.Contains(s.shown(), code) {
		t.Errorf("what was typed was not shown:\n%s", s.shown())
	}
	s.asItWas()
}

// TestQuestionIsEdited: a typing error can be mended, what was typed before the question is no answer to it, and what
// is typed behind the answer is for the next program.
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

// TestKilledInMidQuestion: who is told to end gives the terminal back as it was.
func TestKilledInMidQuestion(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s := h.sit(t, "credproc", "product_prod_paul")
	s.waits(question)
	if s.modes() == s.before {
		t.Error("void: the question did not change the terminal's mode")
	}
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	<-s.ended
	if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %v, want by the signal", s.cmd.ProcessState)
	}
	s.asItWas()
}

// TestTerminalGone: a terminal that is closed in the middle of a question costs nobody anything: the daemon answers,
// and who waits at the next terminal is asked there.
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
