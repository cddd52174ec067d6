package e2e

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// execWays are all modes of exec: the arguments before the command.
var execWays = map[string][]string{
	"env":     {"exec", "product_prod_paul", "--"},
	"server":  {"exec", "--mode", "server", "product_prod_paul", "--"},
	"file":    {"exec", "--mode", "file", "product_prod_paul", "--"},
	"several": {"exec", "product_prod_paul", "product_dev_paul", "--"},
}

// handedOut returns the number of private files and endpoints of commands.
func (h *house) handedOut(t testing.TB) int {
	t.Helper()
	files, err := filepath.Glob(h.state("run/overlays/*"))
	must(t, err)
	text, err := os.ReadFile(h.grants())
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return len(files) + strings.Count(string(text), `"token_sha256"`)
}

// grants returns the path of the daemon's record of grants.
func (h *house) grants() string {
	sum := sha256.Sum256([]byte(h.socket()))
	return h.state("grants-" + hex.EncodeToString(sum[:4]) + ".json")
}

// comesDown waits until there are no grants.
func (h *house) comesDown(t testing.TB) {
	t.Helper()
	until(t, "no files and endpoints are left", func() bool { return h.handedOut(t) == 0 })
}

// TestExecWithoutDaemon: the command that replaces `broker exec` does not get the daemon that was started for it as a
// child, which it would have to wait for. Nor does a shell that ran credproc.
func TestExecWithoutDaemon(t *testing.T) {
	t.Parallel()
	h := demo(t)
	const children = `f=/proc/$$/task/$$/children; test -r $f || exit; read -r c < $f; echo "[$c]"`
	for name, command := range map[string][]string{
		"exec":         {"broker", "exec", "product_prod_paul", "--", "/bin/sh", "-c", children},
		"exec several": {"broker", "exec", "product_prod_paul", "product_dev_paul", "--", "/bin/sh", "-c", children},
		"credproc":     {"/bin/sh", "-c", h.bin + "/credproc product_prod_paul >/dev/null && " + children},
	} {
		must(t, h.stopDaemon())
		if out := h.ok(t, command[0], command[1:]...); out != "[]\n" {
			t.Errorf("%s: has the children %s", name, out)
		}
	}
}

// TestDaemonOutlivesItsStarter: the daemon goes on if the program that started it has ended before the daemon listens,
// such as a credproc that its tool killed.
func TestDaemonOutlivesItsStarter(t *testing.T) {
	t.Parallel()
	h := demo(t)
	must(t, h.stopDaemon())
	stdout, gone, err := os.Pipe()
	must(t, err)
	must(t, stdout.Close()) // nobody reads
	stderr, said, err := os.Pipe()
	must(t, err)
	defer stderr.Close()
	daemon := h.command("brokerd", "--ready-on-stdout")
	daemon.Stdout, daemon.Stderr = gone, said
	must(t, daemon.Start())
	must(t, errors.Join(gone.Close(), said.Close()))
	text, err := io.ReadAll(stderr) // until it has closed its pipes
	if must(t, err); len(text) > 0 {
		t.Errorf("%s", text)
	}
	if pid := h.daemonPID(t); pid != daemon.Process.Pid {
		t.Errorf("the daemon is %d, not %d", pid, daemon.Process.Pid)
	}
	must(t, h.stopDaemon())
	_ = daemon.Wait()
}

// TestExecChildren checks each mode of exec, however the command ends, or if it does not.
func TestExecChildren(t *testing.T) {
	t.Parallel()
	h := demo(t)
	program := filepath.Join(h.dir, "program")
	must(t, os.WriteFile(program, []byte("this is no program\n"), 0o755))
	plain := filepath.Join(h.dir, "plain")
	must(t, os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644))
	for name, way := range execWays {
		t.Run(name, func(t *testing.T) {
			// These errors are found before any request.
			h.ok(t, "broker", "logout")
			must(t, h.sim.post("reset", ""))
			must(t, h.freshCodes())
			for _, row := range []struct {
				code    int
				says    string
				command string
			}{
				{127, `broker: "no-such-command": command not found` + "\n", "no-such-command"},
				{127, `command not found`, "/no/such/command"},
				{126, `permission denied`, plain},
				{126, `is a directory`, h.dir},
			} {
				r := h.run("broker", append(way, row.command)...)
				if r.code != row.code || !strings.Contains(r.stderr, row.says) || r.stdout != "" {
					t.Errorf("%s: %v, want %d", row.command, r, row.code)
				}
			}
			h.counted(t, "GetSessionToken", 0)
			if n := h.handedOut(t); n > 0 {
				t.Errorf("%d files and endpoints of commands that never ran", n)
			}
			// Errors that only the kernel can report, and a signal.
			for _, row := range []struct {
				code    int
				command []string
			}{
				{126, []string{program}},
				{42, []string{"sh", "-c", "exit 42"}},
				{137, []string{"sh", "-c", "kill -KILL $$"}},
				{143, []string{"sh", "-c", "kill -TERM $$"}},
				{139, []string{"sh", "-c", "kill -SEGV $$"}},
			} {
				if r := h.run("broker", append(way, row.command...)...); r.code != row.code {
					t.Errorf("%v: %v, want %d", row.command, r, row.code)
				}
			}
			h.comesDown(t)
			ignoresTerm(t, h, name, way)
			h.comesDown(t)
			livesOn(t, h, name, way)
		})
	}
}

// ignoresTerm checks that the signal reaches the command, which ignores it and keeps its credentials.
func ignoresTerm(t *testing.T, h *house, name string, way []string) {
	t.Helper()
	cmd := h.command("broker", append(way, "sh", "-c", `trap "" TERM; echo ready; read line; echo "got $line"; exit 7`)...)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	watchdog := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	said := bufio.NewReader(stdout)
	if line, err := said.ReadString('\n'); line != "ready\n" {
		t.Errorf("%q, %v", line, err)
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if n := h.handedOut(t); (n == 0) != (name == "env") {
		t.Errorf("%d files and endpoints while it ignores the signal", n)
	}
	_, err = stdin.Write([]byte("on\n"))
	must(t, err)
	if line, err := said.ReadString('\n'); line != "got on\n" {
		t.Errorf("%q, %v", line, err)
	}
	_ = cmd.Wait()
	if code := exitCode(cmd.ProcessState); code != 7 {
		t.Errorf("exit code %d", code)
	}
}

// livesOn checks that a process that outlives the command keeps its environment, but loses files and endpoint when
// the command ends.
func livesOn(t *testing.T, h *house, name string, way []string) {
	t.Helper()
	left := filepath.Join(t.TempDir(), "left")
	// A new session and an orphan: the double fork of a daemon.
	script := `(setsid sh -c 'env | grep ^AWS_ >"$0.env"; echo $$ >"$0.new"; mv "$0.new" "$0"; exec sleep 1000' "$0" </dev/null >/dev/null 2>&1 &) ; while ! test -s "$0"; do sleep 0.05; done`
	if r := h.run("broker", append(way, "sh", "-c", script, left)...); r.code != 0 {
		t.Fatal(r)
	}
	text, err := os.ReadFile(left)
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	h.comesDown(t)
	if !alive(pid) {
		t.Error("the orphan does not survive")
	}
	text, err = os.ReadFile(left + ".env")
	must(t, err)
	env := strings.Fields(string(text))
	value := func(name string) string {
		for _, kv := range env {
			if v, ok := strings.CutPrefix(kv, name+"="); ok {
				return v
			}
		}
		return ""
	}
	switch name {
	case "env":
		if !strings.HasPrefix(value("AWS_ACCESS_KEY_ID"), "ASIA") {
			t.Errorf("%q", env)
		}
	case "server":
		if value(endpointURI) == "" {
			t.Errorf("%q", env)
		}
		if r := finish(other(t, uint32(os.Getuid()), "asker", env...)); answered(strings.TrimSpace(r.stdout)) {
			t.Errorf("the endpoint answers after the command's end: %v", r)
		}
	default:
		file := value("AWS_SHARED_CREDENTIALS_FILE")
		if _, err := os.Stat(file); !strings.HasPrefix(file, h.state("run/overlays/")) || err == nil {
			t.Errorf("%s after the command's end: %v", file, err)
		}
	}
}

// TestExecNested checks that exec refuses to run inside another exec of any mode, and says how to nest on purpose.
// The inner exec's credentials are then the only ones.
func TestExecNested(t *testing.T) {
	t.Parallel()
	h := demo(t)
	// What a command has in each mode, and in no other.
	marks := map[string]string{
		"env": "AWS_ACCESS_KEY_ID=ASIA", "server": endpointURI + "=", "file": "AWS_SHARED_CREDENTIALS_FILE=" + h.state("run/overlays/"), "several": "AWS_SHARED_CREDENTIALS_FILE=" + h.state("run/overlays/"),
	}
	said := regexp.MustCompile(`^broker: this shell already runs with the credentials of (\S+?)( until (?:\d{4}-\d\d-\d\d )?\d\d:\d\d \(\d+m\))?; leave it, or (?:unset BROKER_PROFILE to nest on purpose|type eval "\$\(broker export --unset\)")\nhint: (env -u BROKER_PROFILE broker exec [a-z_ -]+ -- env)\n$`)
	for outer, before := range execWays {
		for inner, way := range execWays {
			r := h.run("broker", append(append(slices.Clone(before), "broker"), append(way, "env")...)...)
			_, r.stderr, _ = strings.Cut("\n"+r.stderr, "\nbroker: ") // skip the warnings of the outer exec
			m := said.FindStringSubmatch("broker: " + r.stderr)
			if r.code != 1 || r.stdout != "" || m == nil || (m[2] == "") != (outer != "env") {
				t.Errorf("%s in %s: %v", inner, outer, r)
				continue
			}
			// Type the hint unchanged.
			r = h.run("broker", append(slices.Clone(before), "sh", "-c", m[3])...)
			if r.code != 0 || strings.Count(r.stdout, "BROKER_PROFILE=product_prod_paul") != 1 {
				t.Errorf("%s: %v", m[3], r)
			}
			for name, mark := range marks {
				// The outer exec's files stay in effect if the inner one makes none: the helper finds the
				// originals through them.
				kept := (outer == "file" || outer == "several") && marks[outer] == mark
				if strings.Contains(r.stdout, "\n"+mark) != (mark == marks[inner]) && !kept {
					t.Errorf("%s in %s: %s is still in\n%s", inner, outer, name, r.stdout)
				}
			}
		}
	}
}

// TestExecCredentialsFile checks each mode of exec with something wrong in the user's own credentials file. exec
// reads that file and never changes it.
func TestExecCredentialsFile(t *testing.T) {
	t.Parallel()
	const half = "[mine]\naws_access_key_id = ASIAMINE\n[product_pr"
	rows := []struct {
		name string
		prep func(t *testing.T, path string)
		code int
		says string
	}{
		{"read-only", func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte(ownSection), 0o400)) }, 0, ""},
		{"the user's own section of that name", func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte(strings.Replace(ownSection, "[mine]", "[product_prod_paul]", 1)), 0o600))
		}, 0, ""},
		{"a link to nowhere", func(t *testing.T, path string) { must(t, os.Symlink("nowhere", path)) }, 0, ""},
		{"a directory", func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }, 1, "credentials is not a file but a directory"},
		{"half written", func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte(half), 0o600)) }, 0, "credentials:3: "},
		{"no text", func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("\x00\x01[mine]\n"), 0o600)) }, 1, "credentials:1: "},
	}
	h := demo(t)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			must(t, os.RemoveAll(h.awsCredentials()))
			row.prep(t, h.awsCredentials())
			before, _ := os.ReadFile(h.awsCredentials())
			for name, way := range execWays {
				args := append(way, "sh", "-c", `cat "${AWS_SHARED_CREDENTIALS_FILE:-/dev/null}"; env`)
				r := h.run("broker", args...)
				if row.code != 0 {
					if err := checkFailure(r, fmt.Sprint(row.code), "broker", args); err != nil || !strings.Contains(r.stderr, row.says) {
						t.Errorf("%s: %v; %v", name, err, r)
					}
					continue
				}
				if r.code != 0 || !strings.Contains(r.stderr, row.says) || !strings.Contains(r.stdout, "BROKER_PROFILE=product_prod_paul") {
					t.Errorf("%s: %v", name, r)
				}
				if (name == "file" || name == "several") && strings.Count(r.stdout, "[product_prod_paul]\naws_access_key_id = ASIA") != 1 || strings.Contains(r.stdout, "[product_prod_paul]\naws_access_key_id = ASIAMINE") {
					t.Errorf("%s: %v", name, r)
				}
			}
			h.comesDown(t)
			if after, _ := os.ReadFile(h.awsCredentials()); string(after) != string(before) {
				t.Errorf("the file is now %q", after)
			}
		})
	}
	// If the file is half written while a command runs, the command keeps its old content until the new one is
	// complete.
	must(t, os.RemoveAll(h.awsCredentials()))
	must(t, os.WriteFile(h.awsCredentials(), []byte(ownSection), 0o600))
	for _, name := range []string{"file", "several"} {
		cmd := h.command("broker", append(execWays[name], "sh", "-c", `echo "$AWS_SHARED_CREDENTIALS_FILE"; read line`)...)
		stdin, err := cmd.StdinPipe()
		must(t, err)
		stdout, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		line, err := bufio.NewReader(stdout).ReadString('\n')
		must(t, err)
		copied := strings.TrimSpace(line)
		for _, text := range []string{half, "[later" + name + "]\naws_access_key_id = ASIALATER\n"} {
			must(t, h.write(h.awsCredentials(), text))
			for limit := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
				now, err := os.ReadFile(copied)
				if err != nil || !strings.Contains(string(now), "[product_prod_paul]\naws_access_key_id = ASIA") {
					t.Fatalf("%s: without its session: %v\n%s", name, err, now)
				}
				if text == half || strings.Contains(string(now), "[later"+name+"]") {
					break
				}
				if time.Now().After(limit) {
					t.Fatalf("%s: the new content is missing:\n%s", name, now)
				}
			}
		}
		must(t, stdin.Close())
		_ = cmd.Wait()
	}
	h.comesDown(t)
}

// TestSeveralOfAnOlderDaemon checks exec with several profiles and a daemon that supports only one: exec fails
// instead of using the first profile only.
func TestSeveralOfAnOlderDaemon(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	must(t, h.settings(""))
	must(t, h.write(h.awsConfig(), demoConfig))
	must(t, os.MkdirAll(filepath.Dir(h.socket()), 0o700))
	l, err := net.Listen("unix", h.socket())
	must(t, err)
	defer func() { _ = l.Close() }()
	must(t, os.Chmod(h.socket(), 0o600))
	go answerAll(l, func(conn net.Conn) {
		if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil && strings.Contains(line, `"also":["product_prod_paul"]`) {
			_, _ = conn.Write([]byte(`{"v":1,"version":"0.0.1","overlay":{"profile":"product_dev_paul","expires":"2099-01-02T15:04:05Z","aws_shared_credentials_file":"/nowhere/credentials"}}` + "\n"))
		}
		_ = conn.Close()
	})
	args := []string{"exec", "product_dev_paul", "product_prod_paul", "--", "env"}
	r := h.run("broker", args...)
	if err := checkFailure(r, "5", "broker", args); err != nil {
		t.Error(err)
	}
	if !strings.Contains(r.stderr, "the daemon is older than this program, and made files for one profile only\nhint: broker service restart\n") {
		t.Error(r)
	}
}

// TestSeveralAskOnce checks that one code serves all profiles of a device, and that the prompt is on the terminal
// of the command.
func TestSeveralAskOnce(t *testing.T) {
	t.Parallel()
	h := seedless(t, "")
	s := h.shell(t, "broker", "exec", "product_dev_paul", "product_prod_paul", "--", "sh", "-c", `grep -c ASIA "$AWS_SHARED_CREDENTIALS_FILE"`)
	s.waits("MFA code for security (" + serial + "), sent to " + h.sim.url + ", asked by broker: ")
	s.types(h.code(t, serial))
	s.waits("2")
	if r := s.ends(); r.code != 0 {
		t.Errorf("exit code %d:\n%s", r.code, s.shown())
	}
	s.asked(1)
	s.asItWas()
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 2)
}

// TestFilesForManyCommands checks that each command has its own files, and that none are left.
func TestFilesForManyCommands(t *testing.T) {
	t.Parallel()
	h := demo(t)
	var failed atomic.Int32
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			r := h.run("broker", "exec", "--mode", "file", "product_prod_paul", "--", "sh", "-c", `cat "$AWS_SHARED_CREDENTIALS_FILE"`)
			if r.code != 0 || !strings.Contains(r.stdout, "[product_prod_paul]\naws_access_key_id = ASIA") {
				failed.Add(1)
				t.Error(r)
			}
		})
	}
	all.Wait()
	for limit := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		names, err := os.ReadDir(h.state("run/overlays"))
		must(t, err)
		if len(names) == 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("%d directories are left", len(names))
		}
	}
	h.counted(t, "AssumeRole", 1)
}
