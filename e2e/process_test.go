package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func kill(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }

// TestNothingStaysBehind: 20 starts of each program, with no session bus, leave no new process. The keyring
// library would start a bus of its own at each.
func TestNothingStaysBehind(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	var env []string
	for _, kv := range h.env {
		if !strings.HasPrefix(kv, "DBUS_") && !strings.HasPrefix(kv, "XDG_") {
			env = append(env, kv)
		}
	}
	h.env = append(env, "DISPLAY=:99") // dbus-launch does most where it thinks that there is a display
	before := map[int]bool{}
	for _, p := range allProcesses() {
		before[p.pid] = true
	}
	const n = 20
	for _, argv := range [][]string{{"broker", "version"}, {"broker", "status"}, {"credproc", "--version"}, {"credproc", "product_prod_paul"}, {"brokerd", "vault"}} {
		for range n {
			if r := h.run(argv[0], argv[1:]...); r.code != 0 {
				t.Fatalf("%v: %v", argv, r)
			}
		}
	}
	until(t, "nothing is left behind", func() bool {
		return !slices.ContainsFunc(h.processes(), func(p process) bool { return !before[p.pid] })
	})
	for _, p := range allProcesses() {
		if !before[p.pid] && strings.Contains(p.line, "dbus-") && strings.Contains(environOf(p.pid), h.home) {
			t.Errorf("a bus was started: %d %s", p.pid, p.line)
		}
	}
}

func environOf(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return string(text)
}

// openToAll gives a directory and those above it, up to the common one, mode 0777.
func openToAll(t *testing.T, dir string) {
	t.Helper()
	for ; dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o777))
	}
}

// other is this test program as another uid, with a role to play.
func other(t testing.TB, uid uint32, role string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(selfProgram(t))
	cmd.Env = append(env, "E2E_ROLE="+role)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

// TestStranger: another uid gets nothing, although the socket and all directories above are open to all.
func TestStranger(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: to be another uid one has to be root")
	}
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	must(t, os.Chmod(h.socket(), 0o777))
	openToAll(t, filepath.Dir(h.socket()))
	play := func(uid uint32) result { return finish(other(t, uid, "stranger", "E2E_SOCKET="+h.socket())) }
	if r := play(65534); r.code != 0 || r.stdout != strings.Repeat("0 bytes connected\n", 4) {
		t.Errorf("the stranger: %v", r)
	}
	// The same program as ourselves is answered, or the above proves nothing.
	if r := play(0); r.code != 0 || strings.Contains(r.stdout, "\n0 bytes") || !strings.Contains(r.stdout, " bytes connected\n") {
		t.Errorf("ourselves: %v", r)
	}
	// The daemon is none the worse.
	h.credentials(t, "product_prod_paul")
}

// TestForeignServer: a client sends nothing to a socket that another uid listens on.
func TestForeignServer(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: to be another uid one has to be root")
	}
	h := newHouse(t)
	must(t, h.settings(""))
	dir := filepath.Dir(h.socket())
	must(t, os.MkdirAll(dir, 0o700))
	openToAll(t, dir)
	got := filepath.Join(h.dir, "got")
	must(t, os.WriteFile(got, nil, 0o666))
	must(t, os.Chmod(got, 0o666))
	server := other(t, 65534, "server", "E2E_SOCKET="+h.socket(), "E2E_OUT="+got)
	must(t, server.Start())
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		_ = os.Remove(h.socket())
	}()
	for limit := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if text, _ := os.ReadFile(got); len(text) > 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the foreign server did not start")
		}
	}
	for round := range rounds {
		open := []os.FileMode{0o777, 0o700}[round%2]
		must(t, os.Chmod(dir, open))
		r := h.run("credproc", "product_prod_paul")
		if err := checkFailure(r, "5", "credproc", nil); err != nil {
			t.Errorf("with the directory %o: %v", open, err)
		}
		if !strings.Contains(r.stderr, "another user") && !strings.Contains(r.stderr, "not private") {
			t.Errorf("with the directory %o: %v", open, r)
		}
	}
	time.Sleep(100 * time.Millisecond)
	text, err := os.ReadFile(got)
	must(t, err)
	for l := range strings.Lines(string(text)) {
		if l != "listening\n" && l != "received 0\n" {
			t.Errorf("the foreign server %s", l)
		}
	}
}

// TestStoppedDaemonLong: while the daemon is stopped, a client gives up after its deadline, which is short of the
// minute that the SDKs give a helper, and says why.
func TestStoppedDaemonLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	pid := h.daemonPID(t)
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	if out := h.ok(t, "broker", "explain", "product_prod_paul"); !strings.Contains(out, "the daemon does not answer") {
		t.Errorf("explain: %s", out)
	}
	r := h.run("credproc", "product_prod_paul")
	if err := checkFailure(r, "5", "credproc", nil); err != nil || !strings.Contains(r.stderr, "did not answer within 50s; is it stopped?") {
		t.Errorf("%v: %v", err, r)
	}
	must(t, syscall.Kill(pid, syscall.SIGCONT))
	h.credentials(t, "product_prod_paul")
}
