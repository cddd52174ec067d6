package e2e

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// openToAll lets other uids write to a directory and to its parents, up to the directory of all tests.
func openToAll(t *testing.T, dir string) { chmodUp(t, dir, 0o777) }

// reachable lets other uids enter a directory, but not write to it.
func reachable(t *testing.T, dir string) { chmodUp(t, dir, 0o755) }

func chmodUp(t *testing.T, dir string, mode os.FileMode) {
	t.Helper()
	for ; dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, mode))
	}
}

// other prepares this test program to play a role as another uid.
func other(t testing.TB, uid uint32, role string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(selfProgram(t))
	cmd.Env = append(env, "E2E_ROLE="+role)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

// TestStranger checks that another uid gets nothing, although the socket and all directories above it are open to
// all.
func TestStranger(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	must(t, os.Chmod(h.socket(), 0o777))
	openToAll(t, filepath.Dir(h.socket()))
	play := func(uid uint32) result { return finish(other(t, uid, "stranger", "E2E_SOCKET="+h.socket())) }
	if r := play(65534); r.code != 0 || r.stdout != strings.Repeat("0 bytes connected\n", 4) {
		t.Errorf("the stranger: %v", r)
	}
	// The same program with our uid is answered; otherwise the check above would prove nothing.
	if r := play(0); r.code != 0 || strings.Contains(r.stdout, "\n0 bytes") || !strings.Contains(r.stdout, " bytes connected\n") {
		t.Errorf("ourselves: %v", r)
	}
	// The daemon is unaffected.
	h.credentials(t, "product_prod_paul")
}

// TestForeignServer checks that a client sends nothing to a socket on which another uid listens.
func TestForeignServer(t *testing.T) {
	t.Parallel()
	needRoot(t)
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

// asOther runs a program of the house as another uid, and first gives it the house, since root may do everything
// that modes forbid.
func (h *house) asOther(t *testing.T, uid int, name string, args ...string) result {
	t.Helper()
	cmd := h.command(name, args...)
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	cmd.Dir = h.home
	return finish(cmd)
}

const nobody = 65534

// give changes the owner of everything in a house.
func (h *house) give(t *testing.T, uid int) {
	t.Helper()
	must(t, os.Chmod(filepath.Dir(h.dir), 0o755))
	must(t, os.Chmod(h.dir, 0o755))
	must(t, filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != h.bin && filepath.Dir(path) != h.bin { // those are links to files that other tests run, too
			err = os.Lchown(path, uid, uid)
		}
		return err
	}))
}

// asStranger runs a script as another uid, as a program of that uid would change files to which it may write.
func asStranger(t *testing.T, script string) {
	t.Helper()
	cmd := other(t, 65534, "")
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-ec", script}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("as another uid: %v\n%s", err, out)
	}
}

// needRoot skips a test that becomes another user.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("NOT PROVEN: only root can become another uid")
		}
		t.Skip("SKIPPED, NOT PROVEN: only root can become another uid")
	}
}

// TestListenerOfAnotherUser checks that Broker uses plain http only if the listener is a program of our own uid,
// or of the uid that was recorded with the confirmation. For example, LocalStack under Docker listens as root.
func TestListenerOfAnotherUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := ownRegistry(t, true)
	url, stolen := h.thief(t, 65534)
	_, port, _ := strings.Cut(url, "127.0.0.1")
	url = "http://localhost" + port
	must(t, h.write(h.awsConfig(), localProfile(url)))
	out := h.ok(t, "broker", "profiles", "trust", "local", "--yes")
	if !strings.Contains(out, url+", where uid 65534 listens") {
		t.Errorf("trust does not say who listens:\n%s", out)
	}
	r := h.run("credproc", "local")
	if r.code != 0 || !strings.Contains(r.stdout, "ASIATHIEF") || !strings.Contains(stolen(), "Action=AssumeRole") {
		t.Fatalf("with the confirmation: %v", r)
	}
	h.ok(t, "broker", "logout", "security")
	before := stolen()
	// The same confirmation without a recorded uid, as it is if nobody listened at that time.
	text, err := os.ReadFile(h.registry())
	must(t, err)
	must(t, h.write(h.registry(), strings.Replace(string(text), "listener = 65534\n", "", 1)))
	must(t, h.freshCodes())
	r = h.run("credproc", "local")
	if err := checkFailure(r, "8", "credproc", nil); err != nil {
		t.Error(err)
	}
	if !strings.Contains(r.stderr, "uid 65534 listens at 127.0.0.1"+port) ||
		!strings.Contains(r.stderr, "hint: broker profiles trust local") {
		t.Errorf("a listener of another uid: %v", r)
	}
	if stolen() != before {
		t.Errorf("the other uid was sent %.300s", stolen())
	}
	h.ok(t, "broker", "profiles", "trust", "local", "--yes")
	must(t, h.freshCodes())
	h.ok(t, "credproc", "local")
}
