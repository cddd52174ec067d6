package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAuditLogGone checks that with audit = required no session leaves without a line in the log file of that
// name, whatever happened to the log before, and that the log says if earlier lines may be missing.
func TestAuditLogGone(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := robotHouse(t, "1h")
	registry("[settings]", "[settings]\naudit = required")(t, h)
	h.credentials(t, "build")
	trail := h.state("audit.log")
	for name, damage := range map[string]func() error{
		"removed":   func() error { return os.Remove(trail) },
		"renamed":   func() error { return os.Rename(trail, trail+".old") },
		"truncated": func() error { return os.Truncate(trail, 0) },
		"replaced":  func() error { return errors.Join(os.Remove(trail), os.WriteFile(trail, nil, 0o600)) },
		"directory": func() error {
			return errors.Join(os.Rename(h.state(""), h.state("")+".old"), os.Mkdir(h.state(""), 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, damage())
			if name == "directory" { // a daemon finds its directory again
				must(t, os.Rename(h.state("")+".old/run", h.state("run")))
			}
			id := h.credentials(t, "build").AccessKeyID
			text, err := os.ReadFile(trail)
			if err != nil || !strings.Contains(string(text), id) {
				t.Errorf("the session was not recorded: %q, %v", text, err)
			}
			if !strings.Contains(string(text), `"event":"gap"`) {
				t.Errorf("the log does not say that lines are missing: %q", text)
			}
		})
	}
	for _, e := range evils {
		if e.name == "huge" || e.name == "truncated" {
			continue
		}
		t.Run(e.name, func(t *testing.T) {
			precious := filepath.Join(h.home, "precious")
			must(t, errors.Join(os.Remove(trail), os.WriteFile(precious, nil, 0o600), e.plant(trail, precious)))
			r := finishWithin(evilWait, h.command("credproc", "build"))
			if err := checkFailure(r, "1", "credproc", nil); err != nil ||
				!strings.Contains(r.stderr, "audit = required") || !strings.Contains(r.stderr, "audit.log") {
				t.Errorf("%v: %v", err, r)
			}
			if r := h.run("broker", "status"); !strings.Contains(r.stderr, "audit.log") {
				t.Errorf("status does not report it: %v", r)
			}
			must(t, errors.Join(os.RemoveAll(trail), os.Remove(precious)))
			h.credentials(t, "build")
			if text, err := os.ReadFile(trail); err != nil || !strings.Contains(string(text), `"event":"gap"`) {
				t.Errorf("the log does not report the gap: %q, %v", text, err)
			}
		})
	}
}

// TestAuditLogStuck checks that a log that cannot be written does not stop the daemon, that status reports it, and
// that the log reports the gap once it can be written again. With `audit = required` nothing leaves.
func TestAuditLogStuck(t *testing.T) {
	t.Parallel()
	h := demo(t)
	must(t, h.stopDaemon())
	trail := h.state("audit.log")
	must(t, os.Remove(trail)) // the commands that set up the house wrote it
	must(t, os.Mkdir(trail, 0o700))
	h.credentials(t, "product_prod_paul")
	if r := h.run("broker", "status"); r.code != 0 || !strings.Contains(r.stderr, "warning: the audit log cannot be written: ") {
		t.Error(r)
	}
	registry("[settings]", "[settings]\naudit = required")(t, h)
	for _, args := range [][]string{{"credproc", "product_prod_paul"}, {"broker", "exec", "product_prod_paul", "--", "env"}, {"broker", "exec", "--mode", "file", "product_prod_paul", "--", "env"},
		{"broker", "export", "product_prod_paul"}, {"broker", "console", "--print", "product_prod_paul"}} {
		r := h.run(args[0], args[1:]...)
		if err := checkFailure(r, "1", args[0], args[1:]); err != nil || !strings.Contains(r.stderr, "audit = required") ||
			strings.Count(r.stderr, "cannot be written") != 1 {
			t.Errorf("%v: %v: %v", args, err, r)
		}
	}
	must(t, os.Remove(trail))
	h.credentials(t, "product_prod_paul")
	text, err := os.ReadFile(trail)
	must(t, err)
	if !strings.HasPrefix(string(text[strings.Index(string(text), `"event"`):]), `"event":"gap"`) || !strings.Contains(string(text), `"missed":`) {
		t.Errorf("the log does not report the gap first: %s", text)
	}
	if r := h.run("broker", "status"); r.code != 0 || strings.Contains(r.stderr, "audit") {
		t.Error(r)
	}
}

// TestLogFollow checks that broker log --follow shows each new line until Ctrl-C, and then ends with exit code 130.
func TestLogFollow(t *testing.T) {
	t.Parallel()
	h := robotHouse(t, "1h")
	h.credentials(t, "build")
	s := h.shell(t, "broker", "log", "--follow")
	s.waits("REASON")
	s.waits("  given ")
	h.credentials(t, "build")
	s.waits("  given ")
	h.ok(t, "broker", "lock")
	s.waits("  lock ")
	s.keys("\x03")
	if r := s.ends(); r.code != 130 {
		t.Errorf("exit code %d", r.code)
	}
	s.asItWas()
}
