package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
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

// together starts n commands at once and returns how each ended. Each has one file instead of pipes, so that a
// thousand processes need few descriptors here.
func together(t *testing.T, h *house, n int, args func(i int) []string) []result {
	t.Helper()
	results := make([]result, n)
	files := make([]*os.File, n)
	procs := make([]*exec.Cmd, n)
	dir := t.TempDir()
	for i := range n {
		f, err := os.Create(fmt.Sprintf("%s/%d", dir, i))
		must(t, err)
		files[i] = f
		argv := args(i)
		procs[i] = h.command(argv[0], argv[1:]...)
		procs[i].Stdout, procs[i].Stderr = f, f
		if err := procs[i].Start(); err != nil {
			t.Fatalf("start process %d: %v", i, err)
		}
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_ = procs[i].Wait()
			_ = files[i].Close()
			text, _ := os.ReadFile(files[i].Name())
			results[i] = result{stdout: string(text), code: exitCode(procs[i].ProcessState)}
		})
	}
	wg.Wait()
	return results
}

// TestThousandAtOnceLong checks that 1,000 processes with an empty cache and no daemon lead to one daemon, one
// GetSessionToken, one AssumeRole and 1,000 equal answers.
func TestThousandAtOnceLong(t *testing.T) {
	h := demo(t)
	const n = 1000
	// Long enough that all have asked before the first answer, and less than the timeout of ten seconds for AWS.
	must(t, h.sim.fault(`{"kind":"delay","action":"GetSessionToken","delay_seconds":8}`))
	began := time.Now()
	results := together(t, h, n, func(int) []string { return []string{"credproc", "product_prod_paul"} })
	took := time.Since(began)
	first := results[0].stdout
	if _, err := parseDocument(first); err != nil {
		t.Fatalf("%v: %v", err, results[0])
	}
	for i, r := range results {
		if r.code != 0 || r.stdout != first {
			t.Fatalf("process %d of %d: %v", i, n, r)
		}
	}
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 1)
	starts, err := os.ReadFile(h.state("audit.log"))
	must(t, err)
	if n := bytes.Count(starts, []byte(`"event":"start"`)); n != 1 {
		t.Errorf("%d daemons were started", n)
	}
	t.Logf("%d processes in %v, the 8 s of the simulator included", n, took.Round(10*time.Millisecond))
}

// TestFiftyRoles checks that 50 roles of one source need one session and 50 concurrent calls.
func TestFiftyRoles(t *testing.T) {
	h := demo(t)
	var config strings.Builder
	for i := range 50 {
		// A different session name makes each a different role session for AWS.
		fmt.Fprintf(&config, "[profile r%d]\nrole_arn = %s\nsource_profile = security\nrole_session_name = r%d\n", i, prodRole, i)
	}
	must(t, h.write(h.awsConfig(), config.String()))
	must(t, h.sim.fault(`{"kind":"delay","action":"GetSessionToken","delay_seconds":1}`))
	// One after the other, the calls would exceed the time limit of a helper.
	must(t, h.sim.fault(`{"kind":"delay","action":"AssumeRole","delay_seconds":3,"times":-1}`))
	results := together(t, h, 50, func(i int) []string { return []string{"credproc", fmt.Sprintf("r%d", i)} })
	seen := map[string]bool{}
	for i, r := range results {
		d, err := parseDocument(r.stdout)
		if err != nil {
			t.Fatalf("role %d: %v: %v", i, err, r)
		}
		seen[d.AccessKeyID] = true
	}
	if len(seen) != 50 {
		t.Errorf("%d different sessions, want 50", len(seen))
	}
	h.counted(t, "GetSessionToken", 1)
	h.counted(t, "AssumeRole", 50)
}

// daemonProcess finds the daemon without asking it.
func (h *house) daemonProcess() int {
	for _, p := range h.processes() {
		if p.line == h.bin+"/brokerd --ready-on-stdout" {
			return p.pid
		}
	}
	return 0
}

// TestSixteenDaemonsLong starts 16 daemons at once over the leftovers of a crash. One owns the socket; the others
// say so and exit with 0.
func TestSixteenDaemonsLong(t *testing.T) {
	h := newHouse(t)
	const rounds = 20
	for round := range rounds {
		var procs []*exec.Cmd
		var outs []*bytes.Buffer
		for range 16 {
			cmd := h.command("broker", "daemon")
			out := &bytes.Buffer{}
			cmd.Stdout = out
			must(t, cmd.Start())
			procs, outs = append(procs, cmd), append(outs, out)
		}
		ended := make(chan int, 16)
		for i, cmd := range procs {
			go func() {
				_ = cmd.Wait()
				ended <- i
			}()
		}
		for range 15 {
			select {
			case i := <-ended:
				if code := exitCode(procs[i].ProcessState); code != 0 || outs[i].String() != "a daemon is running already\n" {
					t.Fatalf("round %d: a daemon that found another one: exit code %d, %q", round, code, outs[i].String())
				}
				procs[i] = nil
			case <-time.After(patience):
				t.Fatalf("round %d: more than one daemon is running", round)
			}
		}
		var s status
		for limit := time.Now().Add(patience); !s.Running && time.Now().Before(limit); { // it has the lock, and listens soon
			var err error
			s, err = h.status()
			must(t, err)
		}
		for _, cmd := range procs {
			if cmd == nil {
				continue
			}
			if !s.Running || s.PID != cmd.Process.Pid {
				t.Fatalf("round %d: the remaining daemon, %d, does not answer: %+v", round, cmd.Process.Pid, s)
			}
			// Kill it, so that the next round finds its socket and lock files.
			_ = cmd.Process.Kill()
		}
		<-ended
	}
}

// crowd runs n clients that ask again and again, with a pause, until the caller calls the returned function, which
// returns the number of requests. None may fail.
func (h *house) crowd(t *testing.T, n int, pause time.Duration, argv ...string) (end func() int64) {
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
				case <-time.After(pause):
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

// TestIdleCrowdLong opens 2,000 idle connections, until the daemon has no descriptors left for more. The real
// client is answered each time.
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
			until(t, fmt.Sprintf("at most %d descriptors are left", before), func() bool { return descriptorsOf(t, cmd.Process.Pid) <= before })
		})
	}
}

func descriptorsOf(t testing.TB, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if os.IsPermission(err) {
		return 0 // not dumpable, and this process is not root
	}
	must(t, err)
	return len(list)
}

// TestLittleMemoryLong lets the daemon run out of memory under load. It may die; the next daemon then serves
// requests or refuses them properly. No key is lost, and a crashed program leaves no secret behind.
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
				if i%2 == 0 { // each takes some memory and leaves
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
	t.Logf("the daemon died in %d of %d rounds", died, rounds)
	h.credentials(t, "product_prod_paul")
	log, err := os.ReadFile(h.state("daemon.log"))
	must(t, err)
	if err := examine(result{stderr: string(log)}); err != nil {
		t.Error("a secret is in daemon.log")
	}
}
