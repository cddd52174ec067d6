package e2e

import (
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The sequences that switch to the alternate screen, and back.
const otherScreen, sameScreen = "\x1b[?1049h", "\x1b[?1049l"

// leftAlone fails the test unless the terminal has its earlier modes and screen.
func (s *seat) leftAlone() {
	s.t.Helper()
	s.asItWas()
	for _, pair := range [][2]string{{otherScreen, sameScreen}, {"\x1b[?2004h", "\x1b[?2004l"}, {"\x1b[?25l", "\x1b[?25h"}, {"\x1b[?7l", "\x1b[?7h"}} {
		for limit := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			shown := s.shown() // output may arrive after the end of the program
			if on, off := strings.LastIndex(shown, pair[0]), strings.LastIndex(shown, pair[1]); 0 <= on && on < off {
				break
			}
			if time.Now().After(limit) {
				s.t.Errorf("%q was not undone", pair[0])
				break
			}
		}
	}
}

// TestPick types a part of a name and Enter, and the command runs with that profile, with stdin, stdout and stderr
// elsewhere. The code is then typed at the prompt and not into the list.
func TestPick(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s := h.sit(t, "broker", "exec", "--", "sh", "-c", "echo $BROKER_PROFILE")
	s.waits("profile>")
	s.waits("allow-admin-from-security-account")
	s.keys("pdprd")
	s.waits("1/3")
	s.types("")
	s.waits(question)
	s.types(h.code(t, serial))
	if r := s.ends(); r.code != 0 || r.stdout != "product_prod_paul\n" || r.stderr != "" {
		t.Errorf("%v\n%s", r, s.shown())
	}
	s.leftAlone()
	h.toldCodes(t, 1)

	// The latest profile comes first, and login uses the chosen one.
	h.credentials(t, "security")
	h.credentials(t, "product_dev_paul")
	s = h.sit(t, "broker", "login", "--pick")
	s.waits("(source)")
	shown := s.shown()
	if dev, source, prod := strings.Index(shown, "product_dev_paul"), strings.Index(shown, "(source)"),
		strings.Index(shown, "product_prod_paul"); !(0 <= dev && dev < source) ||
		prod >= 0 && prod < source {
		t.Errorf("the latest is not first: dev at %d, the source at %d, prod at %d", dev, source, prod)
	}
	s.types("")
	if r := s.ends(); r.code != 0 || !strings.HasPrefix(r.stdout, "security: logged in until ") {
		t.Errorf("%v\n%s", r, s.shown())
	}
	s.leftAlone()

	// A choice other than the best match must be confirmed, since it may have been on top by chance when Enter was
	// typed.
	for answer, want := range map[string]int{"n": 8, "y": 0} {
		s = h.sit(t, "broker", "exec", "--", "sh", "-c", "echo $BROKER_PROFILE")
		s.waits("3/3")
		s.keys("product_")
		s.waits("2/3")
		s.types("\x1b[B")
		s.waits("Take product_prod_paul 444455556666 allow-admin-from-security-account eu-west-1? [y/N] ")
		s.types(answer)
		if r := s.ends(); r.code != want || want == 0 && r.stdout != "product_prod_paul\n" {
			t.Errorf("%s: %v", answer, r)
		}
		s.leftAlone()
		h.credentials(t, "product_dev_paul") // make it the latest again
	}

	// Without any argument the command is a shell.
	h.env = append(h.env, "SHELL=/bin/sh", "PS1=ready> ")
	s = h.shell(t, "broker", "exec")
	s.waits("profile>")
	s.types("")
	s.waits("ready> ")
	s.types("echo in:$BROKER_PROFILE; exit 7")
	s.waits("in:product_dev_paul")
	if r := s.ends(); r.code != 7 {
		t.Errorf("%v\n%s", r, s.shown())
	}
}

// TestPickColor checks that with NO_COLOR the list has no colors.
func TestPickColor(t *testing.T) {
	t.Parallel()
	h := demo(t)
	color := regexp.MustCompile(`\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;5)[0-9;]*m`)
	for _, value := range []string{"", "1"} {
		here := *h
		here.env = append(h.env[:len(h.env):len(h.env)], "TERM=xterm", "NO_COLOR="+value)
		s := here.sit(t, "broker", "exec", "--", "true")
		s.waits("profile>")
		s.waits("security")
		s.keys("\x1b")
		s.fails("8")
		if color.MatchString(s.shown()) != (value == "") {
			t.Errorf("NO_COLOR=%q: %q", value, s.shown())
		}
	}
}

// TestAnswers checks that Ctrl-D at a prompt means no and ends the line, and that Ctrl-C ends the command with
// 130.
func TestAnswers(t *testing.T) {
	t.Parallel()
	h := demo(t)
	for keys, code := range map[string]string{"\x04": "8", "\x03": "130", "n\r": "8"} {
		s := h.sit(t, "broker", "remove", "security")
		s.waits("[y/N] ")
		s.keys(keys)
		s.fails(code)
		if !strings.HasSuffix(s.shown(), "\n") {
			t.Errorf("%q: the line is not ended: %q", keys, s.shown())
		}
	}
}

// TestPickNothing checks that a person who leaves the list chooses nothing, and that no credentials are requested.
func TestPickNothing(t *testing.T) {
	t.Parallel()
	h := demo(t)
	for name, way := range map[string]struct {
		leave      func(*seat)
		code, says string
	}{
		"Esc":     {func(s *seat) { s.keys("\x1b") }, "8", "nothing was chosen"},
		"Ctrl-D":  {func(s *seat) { s.keys("\x04") }, "8", "nothing was chosen"},
		"Ctrl-C":  {func(s *seat) { s.keys("\x03") }, "130", "interrupted"},
		"SIGTERM": {func(s *seat) { _ = s.cmd.Process.Signal(syscall.SIGTERM) }, "130", "interrupted"},
		"SIGHUP":  {func(s *seat) { _ = s.cmd.Process.Signal(syscall.SIGHUP) }, "130", "interrupted"},
		// Enter follows immediately: the earlier top entry must not be chosen.
		"no such profile": {func(s *seat) { s.types("zzzz") }, "8", "nothing was chosen"},
	} {
		t.Run(name, func(t *testing.T) {
			s := h.sit(t, "broker", "exec", "--", "true")
			s.waits("profile>")
			s.waits("security")
			way.leave(s)
			if said := s.fails(way.code); !strings.Contains(said, way.says) {
				t.Error(said)
			}
			s.leftAlone()
		})
	}
	h.counted(t, "AssumeRole", 0)

	// When the window closes, the program ends instead of looping forever.
	gone := h.sit(t, "broker", "exec", "--", "true")
	gone.waits("security")
	gone.leave()
	if r := gone.ends(); r.code == 0 {
		t.Errorf("a profile was chosen without a person: %v", r)
	}

	// The person's own fzf options are ignored, since they may run programs.
	h.env = append(h.env, "FZF_DEFAULT_OPTS=--bind=start:become(touch ran)", "FZF_DEFAULT_COMMAND=touch ran")
	s := h.sit(t, "broker", "exec", "--", "true")
	s.waits("profile>")
	s.keys("\x1b")
	s.fails("8")
	if isFile(h.dir + "/ran") {
		t.Error("an option from the environment ran a program")
	}
}

// TestPickWithoutTerminal checks that without a terminal there is no list.
func TestPickWithoutTerminal(t *testing.T) {
	t.Parallel()
	h := demo(t)
	for _, args := range [][]string{{"exec"}, {"exec", "--", "true"}, {"login", "--pick"}} {
		r := h.run("broker", args...)
		if err := checkFailure(r, "2", "broker", args); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}
