package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestConfigRewritten checks that while an editor keeps rewriting the config, by rename and in place, each answer
// matches one whole version of it.
func TestConfigRewritten(t *testing.T) {
	t.Parallel()
	h := demo(t)
	other := strings.ReplaceAll(demoConfig, prodRole, devRole)
	h.credentials(t, "product_prod_paul")
	const rounds = 10_000
	var asked atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for !isStopped(stop) {
			r := h.run("credproc", "product_prod_paul")
			if _, err := parseDocument(r.stdout); err != nil {
				t.Errorf("%v: %v", err, r)
				return
			}
			asked.Add(1)
		}
	}()
	for i := range rounds {
		text := demoConfig
		if i%2 == 1 {
			text = other
		}
		if i%4 < 2 {
			must(t, h.write(h.awsConfig(), text))
		} else {
			// The versions have the same length, since a file that is empty for a moment looks the same as an
			// empty file.
			f, err := os.OpenFile(h.awsConfig(), os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteString(text)
			must(t, errors.Join(err, f.Close()))
		}
	}
	close(stop)
	<-done
	if asked.Load() == 0 {
		t.Error("no request ran in the meantime")
	}
	// The last content is in effect once the daemon no longer uses what it found during the writes.
	must(t, h.write(h.awsConfig(), strings.ReplaceAll(demoConfig, "allow-admin-from", "nobody-trusts")))
	until(t, "the last version is in effect", func() bool { return h.run("credproc", "product_prod_paul").code == 6 })
}

// TestConfigCommand checks that a command can read and write each setting, with the same checks as for the file.
func TestConfigCommand(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	must(t, h.write(h.registry(), "[settings]\nlock_after = 8h # a comment\n"))
	if out := h.ok(t, "broker", "config", "get", "lock_after"); out != "8h\n" {
		t.Errorf("get: %q", out)
	}
	if out := h.ok(t, "broker", "config", "get", "session_duration"); out != "12h\n" {
		t.Errorf("a default: %q", out)
	}
	if r := h.run("broker", "config", "get", "browser"); r.code != 1 || r.stdout+r.stderr != "" {
		t.Errorf("neither: %v", r)
	}
	h.ok(t, "broker", "config", "set", "Lock_After", "90m")
	h.ok(t, "broker", "config", "set", "mfa_prompt", "gui")
	if text, err := os.ReadFile(h.registry()); err != nil ||
		string(text) != "[settings]\nlock_after = 90m # a comment\nmfa_prompt = gui\n" {
		t.Errorf("set: %v\n%s", err, text)
	}
	out := h.ok(t, "broker", "config", "list")
	if !strings.Contains(out, h.registry()+":2") || !strings.Contains(out, "session_duration") {
		t.Errorf("list:\n%s", out)
	}
	for _, bad := range []struct{ args, says, hint string }{
		{"set session_duration 40h", "is not between 15m and 36h", "broker config list"},
		{"set lock_after 8", "lock_after has no unit; write 8h", "broker config set lock_after 8h"},
		{"set lock_after 28800", "lock_after has no unit; write 28800s", "broker config set lock_after 28800s"},
		{"set lock_afer 8h", `did you mean "lock_after"?`, "broker config list"},
		{"get lock_afer", `did you mean "lock_after"?`, "broker config list"},
		{"set sts_endpoint http://example.com", "uses plain http", "broker config list"},
		{"set https_proxy ftp://example.com", "is not a URL with http, https, socks5 or socks5h", "broker config list"},
		{"set keyring_backend chest", "can be one of ", "broker keyring list"},
		{"set catalog #x", "would be read as a comment", "broker config list"},
		{"set audit", "a key and its value", "broker config set KEY VALUE"},
	} {
		r := h.run("broker", append([]string{"config"}, strings.Fields(bad.args)...)...)
		if err := checkFailure(r, "2", "broker", nil); err != nil || !strings.Contains(r.stderr, bad.says) {
			t.Errorf("%s: %v, %v", bad.args, r, err)
		}
		if !strings.HasSuffix(r.stderr, "\nhint: "+bad.hint+"\n") {
			t.Errorf("%s: %v, want the hint %s", bad.args, r, bad.hint)
		}
	}
	if !strings.Contains(out, "15m to 36h\n") {
		t.Errorf("list does not show the possible values:\n%s", out)
	}
}

// TestConfigUnset checks that unset removes only the given setting, even one with a wrong value or one that Broker
// does not know.
func TestConfigUnset(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	must(t, h.write(h.registry(), "[settings]\n# mine\nlock_after = 8h # a comment\nmfa_prompt = gui\nlock_after = 9h\n"+
		"session_duration = forever\nlock_afer = 8h\n\n[alias]\nlock_after = dev\n"))
	for _, key := range []string{"Lock_After", "session_duration", "lock_afer"} {
		h.ok(t, "broker", "config", "unset", key)
	}
	const want = "[settings]\n# mine\nmfa_prompt = gui\n\n[alias]\nlock_after = dev\n"
	if text, err := os.ReadFile(h.registry()); err != nil || string(text) != want {
		t.Errorf("%v\n%s", err, text)
	}
	if out := h.ok(t, "broker", "config", "get", "lock_after"); out != "0\n" {
		t.Errorf("the default is not in effect: %q", out)
	}
	for key, code := range map[string]string{"lock_after": "1", "lock_afer": "2", "": "2"} {
		r := h.run("broker", "config", "unset", key)
		if err := checkFailure(r, code, "broker", nil); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	if text, err := os.ReadFile(h.registry()); err != nil || string(text) != want {
		t.Errorf("a failed command changed the registry: %v\n%s", err, text)
	}
	if out := h.ok(t, "broker", "config", "unset", "--generate-bash-completion"); !strings.Contains(out, "lock_after\n") {
		t.Errorf("completion: %q", out)
	}
}

// TestConfigSetBundle checks that config set refuses a CA bundle that would make calls fail, or that others may
// change.
func TestConfigSetBundle(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	must(t, h.write(h.registry(), "[settings]\n"))
	good, err := os.ReadFile(startProxy(t, h.dir).ca)
	must(t, err)
	file := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(h.home, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		must(t, os.Chmod(path, mode))
		return path
	}
	for value, says := range map[string]string{
		filepath.Join(h.home, "missing.pem"): "no such file",
		h.home:                               "not a regular file",
		"ca.pem":                             "is neither an absolute path",
		file("text.pem", "no certificate", 0o600): "holds no certificate in PEM form",
		file("open.pem", string(good), 0o666):     "can be written by others (mode 0666)",
	} {
		r := h.run("broker", "config", "set", "ca_bundle", value)
		if err := checkFailure(r, "2", "broker", nil); err != nil || !strings.Contains(r.stderr, says) {
			t.Errorf("%s: %v, %v", value, r, err)
		}
	}
	if text, err := os.ReadFile(h.registry()); err != nil || string(text) != "[settings]\n" {
		t.Errorf("%v\n%s", err, text)
	}
	file("ca.pem", string(good), 0o644)
	h.ok(t, "broker", "config", "set", "ca_bundle", "~/ca.pem")
}
