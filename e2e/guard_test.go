package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const confirmation = "Hand out a session of prod?"

// guarded is a house whose profile prod is a production profile.
func guarded(t testing.TB) *house {
	t.Helper()
	h := demo(t)
	old, err := os.ReadFile(h.registry())
	must(t, err)
	must(t, h.write(h.registry(), string(old)+"\n[profile prod]\nrole_arn = "+prodRole+
		"\nsource_profile = security\nproduction = true\n"))
	return h
}

// TestConfirmThroughPipes: a helper whose stdin, stdout and stderr are pipes asks at its terminal, and the answer stays
// out of the pipes.
func TestConfirmThroughPipes(t *testing.T) {
	t.Parallel()
	h := guarded(t)
	s := h.sit(t, "credproc", "prod")
	s.waits(confirmation)
	s.types("y")
	s.succeeds()
	s.asItWas()
}

// TestConfirmInterrupted: Ctrl-C and Ctrl-D at the prompt hand out nothing, and the terminal is left as it was.
func TestConfirmInterrupted(t *testing.T) {
	t.Parallel()
	h := guarded(t)
	s := h.shell(t, "broker", "exec", "prod", "--", "true")
	s.waits(confirmation)
	s.keys("\x03")
	if r := s.ends(); r.code != 130 {
		t.Errorf("Ctrl-C: %v\n%s", r, s.shown())
	}
	s.asItWas()
	s = h.sit(t, "credproc", "prod")
	s.waits(confirmation)
	s.keys("\x04")
	s.fails("8")
	s.asItWas()
	if log := h.ok(t, "broker", "log"); strings.Count(log, "the prompt to confirm prod was interrupted") != 1 ||
		strings.Count(log, "the session of prod was not confirmed") != 1 {
		t.Errorf("the log does not tell them apart:\n%s", log)
	}
	h.counted(t, "AssumeRole", 1)
}

// TestConfirmDropsKeysTypedAhead: what was typed before the prompt appeared is not an answer to it.
func TestConfirmDropsKeysTypedAhead(t *testing.T) {
	t.Parallel()
	h := guarded(t)
	s := h.sit(t, "sh", "-c", "echo ready >/dev/tty; sleep 2; exec credproc prod")
	s.waits("ready")
	s.keys("y\n")
	s.waits(confirmation)
	s.types("n")
	if r := s.ends(); r.code != 8 {
		t.Errorf("%v\n%s", r, s.shown())
	}
}

// TestConfirmTerminalGone: a terminal that vanishes while it is asked is not a yes, and the daemon goes on.
func TestConfirmTerminalGone(t *testing.T) {
	t.Parallel()
	h := guarded(t)
	s := h.sit(t, "sh", "-c", "trap '' HUP; exec credproc prod")
	s.waits(confirmation)
	s.leave()
	r := s.ends()
	if r.code != 8 || r.stdout != "" {
		t.Errorf("%v", r)
	}
	s = h.sit(t, "credproc", "prod")
	s.waits(confirmation)
	s.types("y")
	s.succeeds()
}

// TestConfirmKilled: a client that is killed while its prompt is open leaves none behind.
func TestConfirmKilled(t *testing.T) {
	t.Parallel()
	h := guarded(t)
	s := h.sit(t, "sh", "-c", "credproc prod & wait; credproc prod")
	s.waits(confirmation)
	must(t, syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL))
	<-s.ended
	s = h.sit(t, "credproc", "prod")
	s.waits(confirmation)
	s.types("y")
	s.succeeds()
}

// TestConfirmTwoAtOnce: two programs of one terminal are asked about one after the other. A yes for a while and a no
// are for both.
func TestConfirmTwoAtOnce(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{"a": "0", "n": "8"} {
		h := guarded(t)
		h.ok(t, "broker", "login", "security")
		s, dir := h.herd(t, 2, filepath.Join(h.bin, "credproc"), "prod")
		s.waits(confirmation)
		s.types(answer)
		if answer == "n" { // a request that came after the answer asks again
			if s.shows(confirmation) {
				s.types(answer)
			}
		}
		for i, r := range herdResults(t, s, dir, 2) {
			if code := map[bool]string{true: "0", false: "8"}[r.code == 0]; code != want || (r.stdout != "") != (want == "0") {
				t.Errorf("%s: process %d: %v", answer, i, r)
			}
		}
	}
}

// TestConfirmInTheBackground: a background job does not write on the terminal, and gets nothing.
func TestConfirmInTheBackground(t *testing.T) {
	t.Parallel()
	h := guarded(t)
	s := h.sit(t, "bash", "-c", "set -m; credproc prod & wait $!; echo code $?")
	r := s.ends()
	if r.stdout != "code 8\n" || !strings.Contains(r.stderr, "broker allow prod --for 15m") || strings.Contains(s.shown(), confirmation) {
		t.Errorf("%v\n%s", r, s.shown())
	}
}

// TestAnswerStaysInItsTerminal: a yes for a while in one terminal says nothing about another, also for a process that
// left the first.
func TestAnswerStaysInItsTerminal(t *testing.T) {
	t.Parallel()
	h := guarded(t)
	s := h.sit(t, "sh", "-c", "credproc prod >/dev/null && credproc prod && setsid -w credproc prod; echo code $?")
	s.waits(confirmation)
	s.types("a")
	r := s.ends()
	if strings.Count(r.stdout, "ASIA") != 1 || !strings.HasSuffix(r.stdout, "code 8\n") {
		t.Errorf("%v", r)
	}
	if r := h.run("credproc", "prod"); r.code != 8 {
		t.Errorf("elsewhere: %v", r)
	}
}

// TestLockEndsTheConfirmation: a lock takes the prompt off the screen.
func TestLockEndsTheConfirmation(t *testing.T) {
	t.Parallel()
	h := guarded(t)
	s := h.sit(t, "credproc", "prod")
	s.waits(confirmation)
	h.ok(t, "broker", "lock")
	s.fails("7")
	s.asItWas()
}

// TestTwoPromptsAtOneTerminal: a prompt that opens beside another one, here of another daemon, does not take the mode
// of that prompt for the mode to restore.
func TestTwoPromptsAtOneTerminal(t *testing.T) {
	t.Parallel()
	h, other := guarded(t), guarded(t)
	other.ok(t, "broker", "login", "security")
	s := h.shell(t, "sh", "-c", `credproc prod >out 2>err & echo $! >first
		until test -e go; do sleep 0.02; done
		env `+strings.Join(other.env, " ")+` credproc prod >out2 2>err2; echo "second $?"
		wait $!; echo "first $?"`)
	s.waits(confirmation)
	text, err := os.ReadFile(filepath.Join(h.dir, "first"))
	must(t, err)
	first, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	resume := suspend(t, first) // it leaves the keys to the second prompt
	must(t, os.WriteFile(filepath.Join(h.dir, "go"), nil, 0o600))
	s.waits(confirmation)
	s.types("y")
	s.waits("second 0")
	s.asItWas()
	resume()
	s.types("n")
	s.waits("first 8")
	s.ends()
	s.asItWas()
}

// TestTerminalAfterAYes: a client restores the terminal before it sends a yes: the prompt of the next request may open
// before this one is answered.
func TestTerminalAfterAYes(t *testing.T) {
	t.Parallel()
	h := guarded(t)
	s := h.shell(t, "credproc", "prod")
	s.waits(confirmation)
	resume := suspend(t, h.daemonPID(t))
	s.types("y")
	until(t, "the terminal has its modes back", func() bool { return s.modes() == s.before })
	resume()
	if r := s.ends(); r.code != 0 { // it restored the terminal only when it gave up
		t.Errorf("%v\n%s", r, s.shown())
	}
	s.asItWas()
}
