package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// replacements is how often the daemon is replaced under load.
const replacements = 20

// TestReplaceLong replaces the daemon again and again while 64 clients ask. No request fails, no new code is
// needed, a published section stays in its file, and the port of a command's endpoint is never closed.
func TestReplaceLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	h.ok(t, "broker", "profiles", "link", "product_dev_paul")
	h.ok(t, "broker", "publish", "product_dev_paul", "--for", "1h")
	o := h.holder(t, "product_prod_paul")

	stop := make(chan struct{})
	var asked, reads, knocks atomic.Int64
	var crowd sync.WaitGroup
	loop := func(once func() error, count *atomic.Int64) {
		crowd.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := once(); err != nil {
					t.Error(err)
					return
				}
				count.Add(1)
			}
		})
	}
	for i := range 64 {
		// These commands start no daemon, so they must find one at every moment.
		argv := [][]string{{"credproc", "product_prod_paul"}, {"credproc", "product_dev_paul"}, {"broker", "status", "--json"}}[i%3]
		loop(func() error {
			return h.failed(argv)
		}, &asked)
	}
	credentials := filepath.Join(h.home, ".aws/credentials")
	loop(func() error {
		text, err := os.ReadFile(credentials)
		if err == nil && !strings.Contains(string(text), "[product_dev_paul]") {
			err = fmt.Errorf("the published section is gone:\n%s", text)
		}
		time.Sleep(time.Millisecond)
		return err
	}, &reads)
	env := map[string]string{}
	for _, kv := range o.env {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	web := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	loop(func() error {
		req, err := http.NewRequest(http.MethodGet, env[endpointURI], nil)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", env[endpointToken])
		began := time.Now()
		resp, err := web.Do(req)
		if took := time.Since(began); err != nil && took > 2*time.Second {
			return nil // a daemon that ends aborts slow requests, and the machine is busy
		} else if err != nil {
			return fmt.Errorf("the endpoint: %w %v %v", err, began.UTC(), took)
		}
		_ = resp.Body.Close()
		// 5xx means "not within a second"; the SDKs then retry.
		if resp.StatusCode != http.StatusOK && resp.StatusCode < 500 {
			return fmt.Errorf("the endpoint: %s", resp.Status)
		}
		time.Sleep(5 * time.Millisecond)
		return nil
	}, &knocks)

	pids := map[int]bool{h.running(t, 0): true}
	for range replacements {
		if r := h.run("broker", "daemon", "--replace", "--background"); r.code != 0 {
			t.Errorf("replace: %v", r)
			break
		}
		pids[h.running(t, 0)] = true
	}
	close(stop)
	crowd.Wait()
	if len(pids) != replacements+1 {
		t.Errorf("%d daemons, want %d", len(pids), replacements+1)
	}
	for pid := range pids {
		if pid != h.daemonPID(t) {
			ended(t, pid)
		}
	}
	h.counted(t, "GetSessionToken", 1)
	if log, err := os.ReadFile(h.state("audit.log")); err == nil && strings.Contains(string(log), "another uid") {
		t.Error("the daemon took our connection for another uid's")
	}
	t.Logf("%d requests, %d reads of the file, %d requests to the endpoint", asked.Load(), reads.Load(), knocks.Load())
	if asked.Load() < replacements*10 || knocks.Load() < 5 {
		t.Error("there was no load: the test is void")
	}
	h.ok(t, "broker", "unpublish")
}

// failed runs a program that must succeed, and returns an error otherwise.
func (h *house) failed(argv []string) error {
	r := h.run(argv[0], argv[1:]...)
	if r.code == 0 {
		return nil
	}
	return fmt.Errorf("%v: %v", argv, r)
}

// TestReplaceStoppedLong checks that a daemon that does not answer is left alone, and still serves once it
// continues.
func TestReplaceStoppedLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	pid := h.daemonPID(t)
	must(t, halt(pid))
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	for _, args := range [][]string{{"--replace"}, {"--replace", "--background"}} {
		r := h.run("broker", append([]string{"daemon"}, args...)...)
		if err := checkFailure(r, "1", "brokerd", nil); err != nil ||
			!strings.Contains(r.stderr, "goes on: no answer within") {
			t.Errorf("%v: %v: %v", args, err, r)
		}
	}
	must(t, syscall.Kill(pid, syscall.SIGCONT))
	h.credentials(t, "product_prod_paul")
	if now := h.daemonPID(t); now != pid {
		t.Errorf("the daemon is %d, want %d", now, pid)
	}
}

// TestServiceRestart replaces the running daemon by one of another build, no matter who started it.
func TestServiceRestart(t *testing.T) {
	t.Parallel()
	h := demo(t)
	if out := h.ok(t, "broker", "service", "restart"); !strings.Contains(out, "no daemon is running") {
		t.Errorf("without a daemon: %s", out)
	}
	h.credentials(t, "product_prod_paul")
	for range 3 {
		pid := h.daemonPID(t)
		h.ok(t, "broker", "service", "restart")
		if now := h.daemonPID(t); now == pid {
			t.Error("it is the same daemon")
		}
		h.credentials(t, "product_prod_paul")
	}
	// A daemon in the foreground exits with 0 when it is replaced.
	must(t, h.stopDaemon())
	cmd := h.command("broker", "daemon")
	must(t, cmd.Start())
	until(t, "the daemon answers", func() bool {
		s, err := h.status()
		return err == nil && s.PID == cmd.Process.Pid
	})
	h.ok(t, "broker", "service", "restart")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the daemon in the foreground: %v", err)
	}
	h.credentials(t, "product_prod_paul")
	h.counted(t, "GetSessionToken", 1)
}

func init() { otherRoles["older"] = olderRole }

// olderRole plays a daemon that does not support the handover verb: it holds the lock, and may or may not end on
// SIGTERM.
func olderRole() int {
	path := os.Getenv("E2E_SOCKET")
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil || syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return 3
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return 4
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	go answerAll(l, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = fmt.Fprintln(conn, `{"v":1,"version":"0.0.9","error":{"kind":"usage","message":"the daemon knows no verb \"handover\"; it is version 0.0.9"}}`)
		_ = conn.Close()
	})
	fmt.Println("ready")
	<-told
	if os.Getenv("E2E_DEAF") != "" {
		select {}
	}
	_ = l.Close()
	return 0
}

// TestReplaceOlderLong checks that a daemon that is too old for a handover is told to end, while clients wait. If
// it does not end, the error names it.
func TestReplaceOlderLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	start := func(deaf string) *exec.Cmd {
		must(t, os.MkdirAll(filepath.Dir(h.socket()), 0o700))
		_ = os.Remove(h.socket())
		cmd := exec.Command(selfProgram(t))
		cmd.Env = append(h.env, "E2E_ROLE=older", "E2E_SOCKET="+h.socket(), "E2E_DEAF="+deaf)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		_, err = out.Read(make([]byte, 10))
		must(t, err)
		return cmd
	}
	for round := range 5 {
		cmd := start("")
		if r := h.run("broker", "service", "restart"); r.code != 0 {
			t.Fatalf("round %d: %v", round, r)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("round %d: the older daemon ended with %v", round, err)
		}
		h.credentials(t, "product_prod_paul")
		must(t, h.stopDaemon())
	}
	cmd := start("yes")
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	r := h.run("broker", "daemon", "--replace")
	if err := checkFailure(r, "1", "brokerd", nil); err != nil ||
		!strings.Contains(r.stderr, fmt.Sprintf("(pid %d) did not end within", cmd.Process.Pid)) {
		t.Errorf("%v: %v", err, r)
	}
	if !alive(cmd.Process.Pid) {
		t.Error("the older daemon was killed")
	}
}
