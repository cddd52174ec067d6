package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilledInTheMiddle kills the daemon while ten clients ask. Each client gets its answer, and no code is sent
// twice. A request after the code was used waits for the next code.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	for round := range 5 {
		moment := time.Duration(rand.IntN(5+20*round*round)) * time.Millisecond
		t.Run(fmt.Sprint(moment), func(t *testing.T) {
			t.Parallel()
			h := demo(t)
			killed := make(chan bool)
			go func() {
				for range 2000 {
					if pid := h.daemonProcess(); pid != 0 {
						time.Sleep(moment)
						killed <- syscall.Kill(pid, syscall.SIGKILL) == nil
						return
					}
					time.Sleep(time.Millisecond)
				}
				killed <- false
			}()
			for i, r := range together(t, h, 10, func(int) []string { return []string{"credproc", "product_prod_paul"} }) {
				if _, err := parseDocument(r.stdout); r.code != 0 || err != nil {
					t.Errorf("client %d: %v", i, r)
				}
			}
			if !<-killed {
				t.Error("no daemon was killed")
			}
			h.noCodeTwice(t)
		})
	}
}

// noCodeTwice checks in the simulator's records that each code was sent only once.
func (h *house) noCodeTwice(t *testing.T) {
	t.Helper()
	list, err := h.sim.requests()
	must(t, err)
	codes := map[string]int{}
	for _, r := range list {
		if r.TokenCode != "" {
			if codes[r.TokenCode]++; codes[r.TokenCode] == 2 {
				t.Errorf("a code was sent twice: %s", r.Action)
			}
		}
	}
	if len(codes) == 0 {
		t.Error("no code was sent at all")
	}
}

// TestSocketRemoved checks that a removed socket, or socket directory, is created again, and that nobody waits for
// long.
func TestSocketRemoved(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	for _, gone := range []string{h.socket(), filepath.Dir(h.socket())} {
		must(t, os.RemoveAll(gone))
		must(t, h.freshCodes())
		h.credentials(t, "product_prod_paul")
		var daemons []process
		for limit := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			daemons = nil
			for _, p := range h.processes() {
				if strings.Contains(p.line, "brokerd") {
					daemons = append(daemons, p)
				}
			}
			if len(daemons) == 1 || time.Now().After(limit) {
				break
			}
		}
		if len(daemons) != 1 {
			t.Errorf("after %s was removed there are %d daemons: %v", filepath.Base(gone), len(daemons), daemons)
		}
		h.credentials(t, "product_prod_paul")
	}
}

// TestLostRegistry checks that a key whose section is missing from the registry can be added again or removed, as
// the hint says.
func TestLostRegistry(t *testing.T) {
	t.Parallel()
	h := demo(t)
	must(t, h.settings(""))
	r := h.runWith(`{"AccessKeyId":"`+keyID+`","SecretAccessKey":"`+keySecret+`"}`, "broker", "add", "security", "--stdin")
	if r.code == 0 {
		return
	}
	if !strings.Contains(r.stderr, "hint: broker remove security\n") {
		t.Fatal(r)
	}
	if again := h.run("broker", "remove", "security", "--yes"); again.code != 0 {
		t.Errorf("%v\nand the hint's command: %v", r, again)
	}
}

// TestStoppedDaemonLong checks that a client of a stopped daemon gives up after its timeout, which is less than
// the minute that SDKs give a helper, and says why.
func TestStoppedDaemonLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	pid := h.daemonPID(t)
	must(t, halt(pid))
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

// Each event happens this often, since a single run proves little if the result depends on timing.
const rounds = 20

// running waits for a daemon with another pid than this one.
func (h *house) running(t testing.TB, not int) int {
	t.Helper()
	var s status
	until(t, "a daemon runs", func() (running bool) {
		var err error
		s, err = h.status()
		return err == nil && s.Running && s.PID != not
	})
	return s.PID
}

// TestEndsLong kills or terminates the daemon at any moment while 16 clients ask. All get answers, and the stored
// session is requested only once.
func TestEndsLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	end := h.crowd(t, 16, 0, "credproc", "product_prod_paul")
	pid := h.daemonPID(t)
	for range rounds {
		for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
			time.Sleep(rand.N(100 * time.Millisecond))
			must(t, syscall.Kill(pid, sig))
			pid = h.running(t, pid)
		}
	}
	if n := end(); n < rounds*10 {
		t.Errorf("only %d requests: the test is void", n)
	}
	h.counted(t, "GetSessionToken", 1)
}

// TestLeaversLong checks that clients that leave before or during their answer harm nobody.
func TestLeaversLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	pid := h.daemonPID(t)
	end := h.crowd(t, 4, 0, "credproc", "product_prod_paul")
	for range rounds * 10 {
		conn, err := net.Dial("unix", h.socket())
		must(t, err)
		_, err = conn.Write([]byte(strings.Repeat(`{"v":1,"verb":"get","profile":"product_prod_paul"}`+"\n", 5)))
		must(t, err)
		time.Sleep(rand.N(time.Millisecond))
		_ = conn.Close()
	}
	if n := end(); n == 0 {
		t.Error("there were no requests: the test is void")
	}
	if now := h.daemonPID(t); now != pid {
		t.Errorf("the daemon is %d, want %d", now, pid)
	}
}

// TestRemovedAgainLong removes the socket, the lock or their directory while the daemon runs. No request fails,
// and one daemon is left.
func TestRemovedAgainLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	// Do this one after the other: a daemon that checks once a second may be replaced in between by one that a
	// client starts.
	harms := []func() error{
		func() error { return os.Remove(h.socket()) },
		func() error { return os.RemoveAll(filepath.Dir(h.socket())) },
		func() error { return os.Remove(h.socket() + ".lock") },
	}
	for round := range rounds {
		must(t, harms[round%len(harms)]())
		for range 3 {
			h.credentials(t, "product_prod_paul")
		}
	}
	for limit := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		n := 0
		for _, p := range h.processes() {
			if strings.Contains(p.line, "brokerd") {
				n++
			}
		}
		if n == 1 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("%d daemons are left", n)
		}
	}
	h.counted(t, "GetSessionToken", 1)
}

// TestStoppedAgainLong checks that a request to a stopped daemon waits, and is answered when the daemon continues.
// `status --short` prints nothing, since it is for shell prompts. TestStoppedDaemonLong tests credproc's timeout.
func TestStoppedAgainLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	pid := h.daemonPID(t)
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	for range rounds {
		must(t, halt(pid))
		if r := h.run("broker", "status", "--short"); r.code != 0 || r.stdout != "" {
			t.Errorf("a prompt: %v", r)
		}
		answer := make(chan result, 1)
		go func() { answer <- h.run("credproc", "product_prod_paul") }()
		select {
		case r := <-answer:
			t.Errorf("a stopped daemon answered: %v", r)
		case <-time.After(50 * time.Millisecond):
		}
		must(t, syscall.Kill(pid, syscall.SIGCONT))
		if r := <-answer; r.code != 0 {
			t.Error(r)
		}
	}
	if now := h.daemonPID(t); now != pid {
		t.Errorf("another daemon was started: %d, want %d", now, pid)
	}
}
