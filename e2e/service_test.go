package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serviceManager does for one socket what systemd does: it listens, starts the daemon when a client connects, and
// starts it again for a client that connects after the daemon ended.
type serviceManager struct {
	h      *house
	socket *os.File
	stop   chan struct{}
	done   sync.WaitGroup
	pid    atomic.Int64 // pid of the daemon; 0 if there is none
	starts atomic.Int64
	codes  chan int // exit codes of the daemons
}

// manage creates the socket, in place of an existing one, as systemd does.
func (h *house) manage(t *testing.T) *serviceManager {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(h.socket()), 0o700))
	var l *net.UnixListener
	until(t, "the socket is bound", func() bool { // a running daemon may bind its own socket in between
		if err := os.Remove(h.socket()); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		var err error
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: h.socket(), Net: "unix"})
		return err == nil
	})
	l.SetUnlinkOnClose(false)
	must(t, os.Chmod(h.socket(), 0o600))
	f, err := l.File()
	must(t, err)
	must(t, l.Close())
	m := &serviceManager{h: h, socket: f, stop: make(chan struct{}), codes: make(chan int, 1000)}
	m.done.Go(m.run)
	t.Cleanup(m.end)
	return m
}

func (m *serviceManager) run() {
	for {
		select {
		case <-m.stop:
			return
		default:
		}
		fds := []unix.PollFd{{Fd: int32(m.socket.Fd()), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, 20); n != 1 {
			continue
		}
		cmd := m.h.command("/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=broker.socket exec "$0" daemon`, filepath.Join(m.h.bin, "broker"))
		cmd.ExtraFiles = []*os.File{m.socket}
		if cmd.Start() != nil {
			return
		}
		m.starts.Add(1)
		m.pid.Store(int64(cmd.Process.Pid))
		_ = cmd.Wait()
		m.pid.Store(0)
		m.codes <- exitCode(cmd.ProcessState)
	}
}

// end stops the unit: first the socket, then the service.
func (m *serviceManager) end() {
	select {
	case <-m.stop:
		return
	default:
	}
	close(m.stop)
	if pid := m.pid.Load(); pid != 0 {
		_ = syscall.Kill(int(pid), syscall.SIGTERM)
	}
	m.done.Wait()
	_ = m.socket.Close()
}

// startedBy returns what `service status` says about the running daemon.
func (h *house) startedBy(t testing.TB) (by string, pid int) {
	t.Helper()
	var s struct {
		PID       int    `json:"pid"`
		StartedBy string `json:"started_by"`
	}
	must(t, json.Unmarshal([]byte(h.ok(t, "broker", "service", "status", "--json")), &s))
	return s.StartedBy, s.PID
}

// TestActivationLong checks that a connection starts the daemon through the service manager's socket, and in no
// other way. The daemon exits with 0, and a client that connects at that moment is answered by the next daemon.
func TestActivationLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	m := h.manage(t)
	h.credentials(t, "product_prod_paul")
	if by, pid := h.startedBy(t); by != "socket activation" || int64(pid) != m.pid.Load() {
		t.Fatalf("started by %q, pid %d, want %d", by, pid, m.pid.Load())
	}
	// The service manager would start the daemon again, so replacing it is the service manager's task.
	if r := h.run("broker", "daemon", "--replace", "--background"); r.code != 1 || !strings.Contains(r.stderr, "hint: broker service restart") {
		t.Errorf("replace: %v", r)
	}
	stop := make(chan struct{})
	var crowd sync.WaitGroup
	var asked atomic.Int64
	for i := range 32 {
		argv := [][]string{{"credproc", "product_prod_paul"}, {"broker", "status", "--json"}}[i%2]
		crowd.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := h.failed(argv); err != nil {
					t.Error(err)
					return
				}
				asked.Add(1)
			}
		})
	}
	for round := range 8 {
		var pid int64
		until(t, "a daemon is started", func() bool {
			pid = m.pid.Load()
			return pid != 0
		})
		before := asked.Load()
		until(t, "every request is answered", func() bool { return asked.Load() >= before+40 || t.Failed() })
		must(t, syscall.Kill(int(pid), syscall.SIGTERM))
		select {
		case code := <-m.codes:
			if code != 0 {
				t.Errorf("round %d: a stopped daemon ended with %d", round, code)
			}
		case <-time.After(patience):
			t.Fatal("the daemon does not end")
		}
	}
	close(stop)
	crowd.Wait()
	t.Logf("%d requests, %d daemons", asked.Load(), m.starts.Load())
	h.counted(t, "GetSessionToken", 1)
	for _, p := range h.processes() {
		if strings.Contains(p.line, "--ready-on-stdout") {
			t.Errorf("a client started a daemon of its own: %s", p.line)
		}
	}

	// If the socket is removed, the daemon binds it again.
	h.credentials(t, "product_prod_paul")
	pid := h.daemonPID(t)
	must(t, os.Remove(h.socket()))
	until(t, "the socket is bound again", func() bool {
		s, err := h.status()
		return err == nil && s.Running && s.PID == pid
	})
	// Without the service manager the next command starts a daemon.
	m.end()
	h.credentials(t, "product_prod_paul")
	if by, _ := h.startedBy(t); by != "on demand" {
		t.Errorf("started by %q", by)
	}
}

// TestActivationAfterLong starts a daemon on demand before the service manager's socket exists. That daemon leaves
// the new socket alone and is replaced by the daemon that the socket starts. No request fails.
func TestActivationAfterLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	for round := range 8 {
		h.credentials(t, "product_prod_paul")
		by, before := h.startedBy(t)
		if by != "on demand" {
			t.Fatalf("round %d: started by %q", round, by)
		}
		m := h.manage(t)
		if round%2 == 0 { // otherwise the daemon itself connects first
			h.credentials(t, "product_prod_paul")
		}
		until(t, "the service takes over", func() bool {
			by, pid := h.startedBy(t)
			return by == "socket activation" && int64(pid) == m.pid.Load()
		})
		h.credentials(t, "product_prod_paul")
		ended(t, before) // it has handed over, but may still be running
		m.end()
	}
	h.counted(t, "GetSessionToken", 1)
}

// TestActivationRefused checks that the daemon does not serve a socket that others could use, and says so.
func TestActivationRefused(t *testing.T) {
	t.Parallel()
	h := demo(t)
	m := h.manage(t)
	m.end()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.socket() + "2", Net: "unix"})
	must(t, err)
	defer l.Close()
	f, err := l.File()
	must(t, err)
	defer f.Close()
	try := func(f *os.File) result {
		cmd := h.command("/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" daemon`, filepath.Join(h.bin, "broker"))
		cmd.ExtraFiles = []*os.File{f}
		return finish(cmd)
	}
	if r := try(f); r.code != 1 || !strings.Contains(r.stderr, "it is bound to ") || !strings.Contains(r.stderr, "hint: broker service install") {
		t.Errorf("bound elsewhere: %v", r)
	}
	must(t, os.Chmod(filepath.Dir(h.socket()), 0o755))
	defer func() { _ = os.Chmod(filepath.Dir(h.socket()), 0o700) }()
	if r := try(f); r.code != 1 {
		t.Errorf("in a directory that all can write: %v", r)
	}
}

// otherBuild builds broker and brokerd with another version, and returns their directory.
func otherBuild(t testing.TB, version string) string {
	t.Helper()
	dir := t.TempDir()
	// The flags are those of build, so that only linking is left to do.
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "urfave_cli_no_docs",
		"-ldflags", "-s -w -X "+modulePath()+"/internal/version.release="+version, "-o", dir+"/",
		"../cmd/broker", "../cmd/brokerd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return dir
}

// TestUpgradeLong replaces the files of broker and brokerd by another version's and back while requests run. No
// request fails. The running daemon can still start the vault process, although its file is gone. status shows
// both versions.
func TestUpgradeLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	// The sessions of this source may be dropped while the crowd uses the other source.
	must(t, h.write(h.awsConfig(), demoConfig+"\n[profile build]\nrole_arn = arn:aws:iam::222233334444:role/build\nsource_profile = robot\n"))
	if r := h.runWith(`{"AccessKeyId":"`+robotKeyID+`","SecretAccessKey":"fake/demo+secret/of+robot/fake/demo+3333"}`, "broker", "add", "robot", "--stdin"); r.code != 0 {
		t.Fatal(r)
	}
	h.credentials(t, "product_prod_paul")
	builds := []string{otherBuild(t, "new1234"), binaries}
	put := func(from string) {
		for _, name := range []string{"broker", "brokerd"} {
			own := filepath.Join(h.bin, name)
			// Use cp: a concurrent test may fork while this process writes, and its child would keep the file
			// busy.
			must(t, exec.Command("cp", filepath.Join(from, name), own+".new").Run())
			must(t, os.Rename(own+".new", own))
		}
	}
	stop := make(chan struct{})
	var crowd sync.WaitGroup
	for i := range 8 {
		crowd.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				argv := []string{"credproc", "product_prod_paul"}
				if i == 0 { // also by the newer of the two programs, and to the keyring
					argv = []string{"broker", "export", "product_dev_paul", "--format", "json"}
				}
				if r := h.run(argv[0], argv[1:]...); r.code != 0 {
					t.Errorf("%v: %v", argv, r)
					return
				}
			}
		})
	}
	for round := range 8 {
		pid := h.daemonPID(t)
		put(builds[round%2])
		// The old daemon needs its vault process. A logout also drops requests in flight, so none may be running.
		h.credentials(t, "product_prod_paul")
		h.credentials(t, "product_dev_paul")
		h.ok(t, "broker", "logout", "robot")
		h.credentials(t, "build")
		if now := h.daemonPID(t); now != pid {
			t.Fatalf("round %d: another daemon", round)
		}
		out := h.ok(t, "broker", "status")
		if !strings.Contains(out, "\nversion   daemon ") || !strings.Contains(out, "new1234") || !strings.Contains(out, "; broker service restart\n") {
			t.Fatalf("round %d: status does not show the versions:\n%s", round, out)
		}
		h.ok(t, "broker", "service", "restart")
		if out := h.ok(t, "broker", "status"); strings.Contains(out, "broker service restart") {
			t.Fatalf("round %d: after the restart:\n%s", round, out)
		}
	}
	close(stop)
	crowd.Wait()
}

// TestOtherVersions checks that daemons and clients that do not understand each other say what to type.
func TestOtherVersions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	must(t, h.settings(""))
	for name, answer := range map[string]string{
		"an older daemon without the verb": `{"v":1,"version":"0.0.9","error":{"kind":"usage","message":"the daemon knows no verb \"get\"; it is version 0.0.9"}}`,
		"a newer protocol":                 `{"v":2,"answer":["of","another","shape"]}`,
		"a newer protocol's refusal":       `{"v":2,"error":7}`,
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.MkdirAll(filepath.Dir(h.socket()), 0o700))
			_ = os.Remove(h.socket())
			l, err := net.Listen("unix", h.socket())
			must(t, err)
			defer l.Close()
			go answerAll(l, func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = fmt.Fprintln(conn, answer)
				_ = conn.Close()
			})
			r := h.run("credproc", "product_prod_paul")
			if r.code == 0 || !strings.Contains(r.stderr, "\nhint: broker service restart\n") {
				t.Error(r)
			}
		})
	}
	// A client with another protocol version, or with a verb that the daemon does not know.
	h.run("broker", "logout") // starts a daemon
	for _, line := range []string{`{"v":2,"verb":["get"]}`, `{"v":1,"verb":"from-the-future"}`} {
		conn, err := net.Dial("unix", h.socket())
		must(t, err)
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, err = fmt.Fprintln(conn, line)
		must(t, err)
		b := make([]byte, 4096)
		n, err := conn.Read(b)
		must(t, err)
		_ = conn.Close()
		if !strings.Contains(string(b[:n]), `"hint":"broker service restart"`) {
			t.Errorf("%s: %s", line, b[:n])
		}
	}
}
