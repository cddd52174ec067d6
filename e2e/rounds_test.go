package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What may happen to a daemon, each 20 times: once proves little of what depends on the moment.
const rounds = 20

// crowd has clients ask on and on until the returned function is called, which says how often they did. None may fail.
func (h *house) crowd(t *testing.T, n int, argv ...string) (end func() int64) {
	t.Helper()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var asked atomic.Int64
	for range n {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if r := h.run(argv[0], argv[1:]...); r.code != 0 {
					t.Errorf("%v: %v", argv, r)
					return
				}
				asked.Add(1)
			}
		})
	}
	return func() int64 {
		close(stop)
		clients.Wait()
		return asked.Load()
	}
}

// running waits for a daemon that is not the one with this pid.
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

// TestEndsLong: the daemon is killed, and told to end, at any moment under 16 clients. All are answered; the session
// that the keyring keeps is asked for once.
func TestEndsLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	end := h.crowd(t, 16, "credproc", "product_prod_paul")
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

// TestLeaversLong: clients that leave before the answer or while it is written harm nobody.
func TestLeaversLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	pid := h.daemonPID(t)
	end := h.crowd(t, 4, "credproc", "product_prod_paul")
	for range rounds * 10 {
		conn, err := net.Dial("unix", h.socket())
		must(t, err)
		_, err = conn.Write([]byte(strings.Repeat(`{"v":1,"verb":"get","profile":"product_prod_paul"}`+"\n", 5)))
		must(t, err)
		time.Sleep(rand.N(time.Millisecond))
		_ = conn.Close()
	}
	if n := end(); n == 0 {
		t.Error("nobody asked: the test is void")
	}
	if now := h.daemonPID(t); now != pid {
		t.Errorf("the daemon is %d, want %d", now, pid)
	}
}

// TestRemovedAgainLong: the socket, the lock or their directory is removed under the daemon; nobody's request fails,
// and one daemon is left.
func TestRemovedAgainLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	// One after the other: a daemon that looks once a second may lose its place in between to one that a client starts.
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

// TestStoppedAgainLong: who asks while the daemon is stopped waits, and is answered when it goes on; `status --short`
// says nothing, as a prompt has to. TestStoppedDaemonLong is about the deadline of credproc.
func TestStoppedAgainLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	pid := h.daemonPID(t)
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	for range rounds {
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
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

// TestIdleCrowdLong: 2,000 connections on which nothing is said, and a daemon that has no descriptors left for those
// that are; the good client is answered each time.
func TestIdleCrowdLong(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ connections, descriptors int }{
		"2000 idle":          {2000, 8192},
		"out of descriptors": {200, 64},
	} {
		t.Run(name, func(t *testing.T) {
			var limit syscall.Rlimit
			must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
			if limit.Max < 8192 {
				t.Skipf("SKIPPED, NOT PROVEN: the limit of descriptors is %d", limit.Max)
			}
			h := demo(t)
			cmd := h.command("/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" daemon`, tt.descriptors), filepath.Join(h.bin, "broker"))
			must(t, cmd.Start())
			defer func() { _ = cmd.Wait() }()
			defer func() { _ = cmd.Process.Signal(syscall.SIGTERM) }()
			h.running(t, 0)
			h.credentials(t, "product_prod_paul")
			before := descriptorsOf(t, cmd.Process.Pid)
			for round := range rounds {
				idle := make([]net.Conn, 0, tt.connections)
				for range tt.connections {
					conn, err := net.Dial("unix", h.socket())
					if err != nil {
						t.Fatalf("round %d, connection %d: %v", round, len(idle), err)
					}
					idle = append(idle, conn)
				}
				h.credentials(t, "product_prod_paul")
				for _, conn := range idle {
					_ = conn.Close()
				}
			}
			if now := h.daemonPID(t); now != cmd.Process.Pid {
				t.Errorf("the daemon is %d, want %d", now, cmd.Process.Pid)
			}
			until(t, fmt.Sprintf("no more than %d descriptors are left", before), func() bool { return descriptorsOf(t, cmd.Process.Pid) <= before })
		})
	}
}

func descriptorsOf(t testing.TB, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if os.IsPermission(err) {
		return 0 // it is not dumpable, and we are not root
	}
	must(t, err)
	return len(list)
}

// TestLittleMemoryLong: the daemon gets no more memory in the middle of a crowd. It may die of it; whoever asks then is
// served by the next one or refused in order, no key is lost, and no secret is in what a program leaves behind that
// died.
func TestLittleMemoryLong(t *testing.T) {
	t.Parallel()
	h := demo(t)
	died := 0
	for round := range rounds {
		h.credentials(t, "product_prod_paul")
		pid := h.daemonPID(t)
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		must(t, err)
		var pages uint64
		_, err = fmt.Sscan(string(text), &pages)
		must(t, err)
		limit := pages*uint64(os.Getpagesize()) + uint64(round)<<16
		must(t, unix.Prlimit(pid, unix.RLIMIT_AS, &unix.Rlimit{Cur: limit, Max: unix.RLIM_INFINITY}, nil))
		var crowd sync.WaitGroup
		for i := range 32 {
			crowd.Go(func() {
				if i%2 == 0 { // each takes its share of memory and goes
					if conn, err := net.Dial("unix", h.socket()); err == nil {
						_, _ = conn.Write(bytes.Repeat([]byte("x"), 64<<10-1))
						time.Sleep(50 * time.Millisecond)
						_ = conn.Close()
					}
					return
				}
				r := h.run("credproc", []string{"product_prod_paul", "product_dev_paul"}[i/2%2])
				if r.code == 0 {
					if _, err := parseDocument(r.stdout); err != nil {
						t.Errorf("round %d: %v", round, err)
					}
				} else if err := checkFailure(r, strconv.Itoa(r.code), "credproc", nil); err != nil || r.code > 7 {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		crowd.Wait()
		if !alive(pid) {
			died++
			continue
		}
		must(t, unix.Prlimit(pid, unix.RLIMIT_AS, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, nil))
	}
	t.Logf("it died in %d of %d rounds", died, rounds)
	h.credentials(t, "product_prod_paul")
	log, err := os.ReadFile(h.state("daemon.log"))
	must(t, err)
	if err := examine(result{stderr: string(log)}); err != nil {
		t.Error("a secret is in daemon.log")
	}
}
