package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// giving returns all commands that give out something secret, or write it somewhere.
func giving() [][]string {
	const prod = "product_prod_paul"
	list := [][]string{
		{"credproc", prod}, {"credproc", "--profile", prod}, {"credproc", "product_dev_paul"}, {"credproc", "security"},
		{"broker", "exec", prod, "--", "env"},
		{"broker", "exec", "--min-ttl", "30m", prod, "--", "env"},
		{"broker", "exec", "--mode", "server", prod, "--", "env"},
		{"broker", "exec", "--mode", "server", "--token-file", prod, "--", "env"},
		{"broker", "exec", "--mode", "file", prod, "--", "sh", "-c", `cat "$AWS_SHARED_CREDENTIALS_FILE"`},
		{"broker", "exec", "--role-arn", devRole, "--source", "security", "--", "env"},
		{"broker", "exec", "--session-name", "probe", prod, "--", "env"},
		{"broker", "shell", prod},
		{"broker", "console", prod, "--print"}, {"broker", "console", "security", "--print"},
		{"broker", "publish", prod},
		{"broker", "login", "security"}, {"broker", "login", prod},
	}
	for _, format := range []string{"env", "fish", "powershell", "dotenv", "json", "ini"} {
		list = append(list, []string{"broker", "export", prod, "--format", format})
	}
	return list
}

// endpointAnswers asks the endpoint of a running program as its SDK does.
func endpointAnswers(t testing.TB, o *holder) (status int, body string) {
	t.Helper()
	env := map[string]string{}
	for _, kv := range o.env {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	req, err := http.NewRequest(http.MethodGet, env[endpointURI], nil)
	must(t, err)
	req.Header.Set("Authorization", env[endpointToken])
	resp, err := (&http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(b)
}

// overlaid starts a program under `broker exec --mode file` and returns its credentials file.
func (h *house) overlaid(t testing.TB, profile string) string {
	t.Helper()
	_, file := h.hold(t, "file", profile, `echo "$AWS_SHARED_CREDENTIALS_FILE"`)
	return file
}

// TestLockedGivesNothing checks every delivery while Broker is locked: new and running, cached or not, after the
// daemon was killed or stopped, and with a damaged lock file.
func TestLockedGivesNothing(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.env = append(h.env, "SHELL="+filepath.Join(h.bin, "shell"))
	must(t, os.WriteFile(filepath.Join(h.bin, "shell"), []byte("#!/bin/sh\nenv\n"), 0o755))
	must(t, h.write(h.awsCredentials(), ownSection))
	h.ok(t, "broker", "profiles", "link", "product_prod_paul")

	// All are served before the lock, so that a refusal is due to the lock.
	for _, way := range giving() {
		must(t, h.freshCodes())
		if r := h.run(way[0], way[1:]...); r.code != 0 {
			t.Fatalf("%v, unlocked: %v", way, r)
		}
	}
	secrets := map[string]string{"key": keySecret, "seed": seed, "passphrase": passphrase}
	for _, profile := range []string{"product_prod_paul", "product_dev_paul", "security"} {
		d := h.credentials(t, profile)
		secrets[profile+" id"], secrets[profile+" secret"], secrets[profile+" token"] = d.AccessKeyID, d.SecretAccessKey, d.SessionToken
	}
	w := lookFor(secrets)
	server, overlay := h.holder(t, "product_dev_paul"), h.overlaid(t, "product_prod_paul")
	if status, body := endpointAnswers(t, server); status != 200 || !strings.Contains(body, "ASIA") {
		t.Fatalf("the endpoint, unlocked: %d %s", status, body)
	}
	for _, file := range []string{overlay, h.awsCredentials()} {
		if text, err := os.ReadFile(file); err != nil || len(w.in(text)) == 0 {
			t.Fatalf("%s, unlocked: %v", file, err)
		}
	}

	nothing := func(t *testing.T) {
		t.Helper()
		calls, err := h.sim.requests()
		must(t, err)
		clean := func(what, text string) {
			t.Helper()
			if found := w.in([]byte(text)); found != nil || strings.Contains(text, "ASIA") {
				t.Errorf("%s holds %v", what, found)
			}
		}
		for _, way := range append(giving(), []string{"broker", "login", "security", "--code", "123456"}) {
			r := h.run(way[0], way[1:]...)
			if err := checkFailure(r, "7", way[0], way[1:]); err != nil {
				t.Errorf("%v: %v", way, err)
			}
			if !strings.HasSuffix(r.stderr, "\nhint: broker unlock\n") {
				t.Errorf("%v: the last line is not a hint: %q", way, r.stderr)
			}
			clean(strings.Join(way, " "), r.stdout+r.stderr)
		}
		status := h.ok(t, "broker", "status") + h.ok(t, "broker", "status", "--json") + h.ok(t, "broker", "explain", "product_prod_paul")
		clean("status", status)
		if !strings.Contains(status, "locked    yes; broker unlock\n") || !strings.Contains(status, `"locked": true`) {
			t.Errorf("status does not show the lock: %s", status)
		}
		if code, body := endpointAnswers(t, server); code != http.StatusForbidden || !strings.Contains(body, `"code":"locked"`) {
			t.Errorf("the endpoint of a running program: %d %s", code, body)
		} else {
			clean("the endpoint", body)
		}
		if _, err := os.Lstat(overlay); !os.IsNotExist(err) {
			t.Errorf("the file of a running command: %v", err)
		}
		if text, err := os.ReadFile(h.awsCredentials()); err != nil || string(text) != ownSection {
			t.Errorf("the published section is still there: %v\n%s", err, text)
		}
		must(t, filepath.WalkDir(filepath.Join(h.home, ".local/state"), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || d.Name() == "audit.log" || d.Name() == "daemon.log" || strings.HasPrefix(d.Name(), "grants-") {
				return err
			}
			text, err := os.ReadFile(path)
			if found := w.in(text); found != nil {
				t.Errorf("%s holds %v", path, found)
			}
			return err
		}))
		if after, err := h.sim.requests(); err != nil || len(after) != len(calls) {
			t.Errorf("AWS got %d requests, %v", len(after)-len(calls), err)
		}
	}
	end := func(t *testing.T, signal syscall.Signal) {
		t.Helper()
		pid := h.daemonPID(t)
		must(t, syscall.Kill(pid, signal))
		ended(t, pid)
		if out := h.run("broker", "status"); out.code != 0 || !strings.Contains(out.stdout, "locked    yes; broker unlock\n") {
			t.Errorf("status without a daemon: %v", out)
		}
	}
	h.ok(t, "broker", "lock")
	t.Run("locked", nothing)
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		end(t, signal)
		t.Run("after "+signal.String(), nothing)
	}
	// The lock file is damaged, and the error says so.
	lockFile := h.state("lock.json")
	end(t, syscall.SIGKILL)
	must(t, os.WriteFile(lockFile, []byte("{"), 0o600))
	r := h.run("broker", "unlock")
	if err := checkFailure(r, "7", "broker", nil); err != nil || !strings.Contains(r.stderr, lockFile) ||
		!strings.HasSuffix(r.stderr, "\nhint: rm "+lockFile+" && broker unlock\n") {
		t.Errorf("a damaged file: %v, %v", err, r)
	}
	t.Run("damaged", nothing)
	must(t, os.Remove(lockFile))
	h.ok(t, "broker", "unlock")
	must(t, h.freshCodes())
	h.credentials(t, "product_prod_paul")
	if status, _ := endpointAnswers(t, server); status != 200 {
		t.Errorf("the endpoint after unlock: %d", status)
	}
	var reasons []string
	audit, err := os.ReadFile(h.state("audit.log"))
	must(t, err)
	for line := range strings.Lines(string(audit)) {
		var e struct{ Event, Reason string }
		must(t, json.Unmarshal([]byte(line), &e))
		if e.Event == "lock" {
			reasons = append(reasons, e.Reason)
		}
	}
	if !slices.Equal(reasons, []string{"asked"}) {
		t.Errorf("the audit log has locks for %v", reasons)
	}
}

// TestLockUnderLoad runs many clients in a loop. A request after `broker lock` has returned gets nothing.
func TestLockUnderLoad(t *testing.T) { lockUnderLoad(t, 1, 20) }

func TestLockUnderLoadLong(t *testing.T) { lockUnderLoad(t, 3, 50) }

func lockUnderLoad(t *testing.T, rounds, clients int) {
	t.Helper()
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	for range rounds {
		var locked, stop atomic.Bool
		var given, refused atomic.Int64
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for !stop.Load() {
					after := locked.Load()
					r := h.run("credproc", "product_prod_paul")
					switch {
					case strings.Contains(r.stdout, "ASIA") && after:
						t.Errorf("a request after the lock got a session")
						return
					case strings.Contains(r.stdout, "ASIA"):
						given.Add(1)
					case r.code == 7 && r.stdout == "" && after:
						refused.Add(1)
					case r.code != 7 || r.stdout != "":
						t.Errorf("neither served nor refused: %v", r)
						return
					}
				}
			})
		}
		wait := func(what string, n *atomic.Int64) {
			for limit := time.Now().Add(patience); n.Load() < int64(2*clients) && !t.Failed(); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(limit) {
					t.Errorf("%d were %s", n.Load(), what)
				}
			}
		}
		wait("given", &given)
		if r := h.run("broker", "lock"); r.code != 0 {
			t.Error(r)
		}
		locked.Store(true)
		wait("refused", &refused)
		stop.Store(true)
		wg.Wait()
		h.ok(t, "broker", "unlock")
		must(t, h.freshCodes())
	}
}

// TestQuestionEndsWithLock checks that a lock ends an open prompt for a code, and leaves the terminal as it was.
func TestQuestionEndsWithLock(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s := h.sit(t, "credproc", "product_prod_paul")
	s.waits(question)
	h.ok(t, "broker", "lock")
	if said := s.fails("7"); !strings.Contains(said, "hint: broker unlock") {
		t.Errorf("said %q", said)
	}
	s.asItWas()
	h.toldCodes(t, 0)
}

// TestLateAnswerAfterLock checks that nobody gets what AWS answers after the lock.
func TestLateAnswerAfterLock(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "security")
	must(t, h.sim.fault(`{"kind":"delay","action":"AssumeRole","delay_seconds":3}`))
	cmd := h.command("credproc", "product_prod_paul")
	done := make(chan result, 1)
	go func() { done <- finish(cmd) }()
	h.reaches(t, "AssumeRole", 1)
	h.ok(t, "broker", "lock")
	if r := <-done; r.code != 7 || r.stdout != "" || strings.Contains(r.stderr, "ASIA") {
		t.Error(r)
	}
	h.ok(t, "broker", "unlock")
	must(t, h.freshCodes())
	h.credentials(t, "product_prod_paul")
	h.counted(t, "AssumeRole", 2)
}

// TestUnlockPassphraseStaysOut checks that the passphrase for unlock, which the daemon never receives, is neither
// in its memory nor in a file.
func TestUnlockPassphraseStaysOut(t *testing.T) {
	t.Parallel()
	const words = "a-passphrase-for-unlock-8812"
	h := demo(t)
	if r := h.runWith(words+"\n", "broker", "lock", "--set-passphrase", "--stdin"); r.code != 0 {
		t.Fatal(r)
	}
	h.ok(t, "broker", "lock")
	if r := h.runWith(words+"\n", "broker", "unlock", "--stdin"); r.code != 0 {
		t.Fatal(r)
	}
	w := lookFor(map[string]string{"passphrase": words})
	must(t, filepath.WalkDir(h.home, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if found := w.in(text); found != nil {
			t.Errorf("%s holds %v", path, found)
		}
		return err
	}))
	// The memory for stretching the passphrase is used by the program that prompts; the daemon stays small.
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.daemonPID(t)))
	must(t, err)
	var peak int
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			_, err := fmt.Sscan(rest, &peak)
			must(t, err)
		}
	}
	if peak == 0 || peak > 60<<10 {
		t.Errorf("the daemon took %d KiB at its peak: the passphrase was stretched there", peak)
	}
	t.Logf("the daemon took %d KiB at its peak", peak)
}

// TestStateThatCannotBeWritten checks a state directory that cannot be written. The daemon starts without its log,
// lock says that the next daemon will not be locked and how to fix that, and status reports both.
func TestStateThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := demo(t)
	must(t, h.stopDaemon())
	run, state := filepath.Join(h.dir, "run"), filepath.Dir(h.state("x"))
	must(t, os.Mkdir(run, 0o700))
	must(t, os.MkdirAll(state, 0o700))
	must(t, os.RemoveAll(h.state("daemon.log")))
	h.env = append(h.env, "XDG_RUNTIME_DIR="+run)
	h.give(t, nobody)
	must(t, os.Chmod(state, 0o500))
	r := h.asOther(t, nobody, "broker", "lock")
	if pid := h.daemonProcess(); pid != 0 {
		defer func() { must(t, kill(pid)) }()
	}
	if r.code != 1 || !strings.HasPrefix(r.stderr, "broker: this daemon is locked, but the next one will not be: write "+
		state+"/lock.json: ") || !strings.HasSuffix(r.stderr, "\nhint: chmod u+rwx "+state+"\n") {
		t.Errorf("lock: %v", r)
	}
	r = h.asOther(t, nobody, "broker", "status")
	if r.code != 0 || !strings.Contains(r.stderr, "cannot save whether Broker is locked") ||
		!strings.Contains(r.stderr, "the daemon has no log: "+state+"/daemon.log cannot be opened") {
		t.Errorf("status: %v", r)
	}
	r = h.asOther(t, nobody, "broker", "daemon", "--stop")
	if r.code != 1 || !strings.HasPrefix(r.stderr, "broker: the daemon is locked and was not stopped: ") ||
		h.daemonProcess() == 0 {
		t.Errorf("stop: %v", r)
	}
}
