package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/rivo/uniseg"
)

// on runs a program to its end on a terminal of this width, and returns what the terminal shows.
func (h *house) on(t testing.TB, columns uint16, args ...string) (result, string) {
	t.Helper()
	s := &seat{t: t, cmd: h.command("broker", args...), columns: columns}
	s.start()
	r := s.ends()
	return r, strings.ReplaceAll(s.shown(), "\r\n", "\n")
}

// TestTerminalWidths checks that help, tables and errors fit the terminal. A hint, or a word that is wider, such
// as a path, stays in one piece, so that it can be copied. The output contains no escape sequences.
func TestTerminalWidths(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	must(t, appendTo(h.awsConfig(), "[profile 本番環境のプロファイル名]\nrole_arn = arn:aws:iam::444455556666:role/x\nsource_profile = nobody\n"))
	commands := map[string]int{
		"--help": 0, "exec --help": 0, "status": 0, "list": 0, "config list": 0, "keyring list": 0, "explain product_prod_paul": 0,
		"profiles show product_prod_paul": 0, "profiles alias": 0, "nothing-like-it": 2, "exec no-profile-of-that-name-anywhere -- true": 3,
		"status --frob": 2, "profiles show 本番環境のプロファイル名": 3,
	}
	for _, columns := range []uint16{20, 60, 80, 100, 200} {
		for _, kind := range []string{"xterm", "dumb", ""} {
			here := *h
			here.env = append(h.env[:len(h.env):len(h.env)], "TERM="+kind)
			for command, code := range commands {
				r, shown := here.on(t, columns, strings.Fields(command)...)
				name := fmt.Sprintf("%d columns, TERM=%s: broker %s", columns, kind, command)
				if r.code != code || shown == "" {
					t.Errorf("%s: exit code %d\n%s", name, r.code, shown)
				}
				if strings.Contains(shown, "\x1b") {
					t.Errorf("%s: the terminal got an escape sequence: %q", name, shown)
				}
				examples := false
				for line := range strings.Lines(shown) {
					line = strings.TrimSuffix(line, "\n")
					examples = examples || line == "Examples:"
					whole := examples && columns < 60 || strings.HasPrefix(line, "hint: ") || !strings.Contains(strings.TrimSpace(line), " ")
					if wide := uniseg.StringWidth(line); wide > int(columns) && !whole {
						t.Errorf("%s: %d columns: %s", name, wide, line)
					}
				}
			}
			if columns != 80 {
				break // the kind of terminal does not affect the width
			}
		}
	}
	// Without a terminal each row is one line, however long.
	if out := h.ok(t, "broker", "list"); !strings.Contains(out, "product_prod_paul         444455556666  allow-admin-from-security-account  eu-west-1") {
		t.Errorf("in a pipe:\n%s", out)
	}
}

// TestWatch checks that on a terminal each status replaces the one before, and that elsewhere they follow each
// other. Watching ends with Ctrl-C, and when the terminal closes.
func TestWatch(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	for _, kind := range []string{"xterm", "dumb"} {
		here := *h
		here.env = append(h.env[:len(h.env):len(h.env)], "TERM="+kind)
		s := &seat{t: t, cmd: here.command("broker", "status", "--watch"), columns: 80}
		s.start()
		s.waits("daemon ")
		s.waits("LEFT")
		s.waits("daemon ")
		s.waits("LEFT")
		s.keys("\x03")
		if r := s.ends(); r.code != 130 {
			t.Errorf("TERM=%s: %v", kind, r)
		}
		shown := s.shown()
		first, again, found := strings.Cut(shown, "\x1b[J")
		switch up := fmt.Sprintf("\x1b[%dA\r", strings.Count(first, "\n")); {
		case kind == "dumb" && strings.Contains(shown, "\x1b"):
			t.Errorf("a dumb terminal got an escape sequence: %q", shown)
		case kind != "dumb" && (!found || !strings.HasPrefix(again, up) || strings.Count(first, "\n") >= 24):
			t.Errorf("not drawn in place: %q", shown)
		}
	}
	s := h.shell(t, "broker", "status", "--watch")
	s.waits("LEFT")
	s.leave()
	s.ends()
}

// TestProgress checks that a command that takes more than a second shows a line on the terminal, and removes it
// before it shows anything else. In a pipe there is no such line.
func TestProgress(t *testing.T) {
	t.Parallel()
	h := demo(t)
	must(t, h.sim.fault(`{"kind":"delay","hold_seconds":3,"action":"AssumeRole"}`))
	here := *h
	here.env = append(h.env[:len(h.env):len(h.env)], "TERM=xterm")
	r, shown := here.on(t, 80, "exec", "product_prod_paul", "--", "echo", "done")
	if r.code != 0 || !strings.Contains(shown, "\rstill waiting, ") || !strings.HasSuffix(shown, "\r\x1b[Kdone\n") {
		t.Errorf("%v %q", r, shown)
	}
	must(t, h.sim.fault(`{"kind":"delay","hold_seconds":2,"action":"AssumeRole"}`))
	if r := here.run("broker", "exec", "product_dev_paul", "--", "echo", "done"); r.code != 0 || r.stderr != "" {
		t.Errorf("in a pipe: %v", r)
	}
}

// TestClosedInput checks that help and status work without stdin, and without all three standard files.
func TestClosedInput(t *testing.T) {
	t.Parallel()
	h := demo(t)
	for _, command := range []string{"broker --help", "broker status", "broker list", "broker exec product_prod_paul -- true"} {
		if r := h.run("/bin/sh", "-c", "exec "+command+" <&-"); r.code != 0 {
			t.Errorf("%s: %v", command, r)
		}
		if r := h.run("/bin/sh", "-c", "exec "+command+" <&- >&- 2>&-"); r.code != 0 {
			t.Errorf("%s without stdout: %v", command, r)
		}
	}
}

// TestStop checks that daemon --stop ends the daemon and waits for its end, and that the next command starts a new
// one.
func TestStop(t *testing.T) {
	t.Parallel()
	h := demo(t)
	if out := h.ok(t, "broker", "daemon", "--stop"); !strings.HasPrefix(out, "stopped") && out != "no daemon is running\n" {
		t.Errorf("stop: %q", out)
	}
	h.credentials(t, "product_prod_paul")
	pid := h.daemonPID(t)
	if out := h.ok(t, "broker", "daemon", "--stop"); !strings.HasPrefix(out, "stopped; ") {
		t.Errorf("stop: %q", out)
	}
	until(t, "its process is gone", func() bool { return syscall.Kill(pid, 0) != nil })
	if out := h.ok(t, "broker", "daemon", "--stop"); out != "no daemon is running\n" {
		t.Errorf("stop again: %q", out)
	}
	h.credentials(t, "product_prod_paul")
	if r := h.run("broker", "daemon", "--stop", "--replace"); r.code != 2 {
		t.Errorf("with another option: %v", r)
	}
}

// appendTo appends to a file.
func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
