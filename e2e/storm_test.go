package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// together starts so many commands at once and returns how each ended. Their pipes
// are one file each, so that a thousand processes cost this one few descriptors.
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

// TestThousandAtOnceLong: 1,000 processes on an empty cache and no daemon are one daemon, one
// GetSessionToken, one AssumeRole and 1,000 equal answers.
func TestThousandAtOnceLong(t *testing.T) {
	h := demo(t)
	const n = 1000
	// Long enough that all have asked before the first is answered; short of the
	// ten seconds that AWS is waited for.
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

// TestFiftyRoles: 50 roles of one source at once are one session and 50 calls, at the same time.
func TestFiftyRoles(t *testing.T) {
	h := demo(t)
	var config strings.Builder
	for i := range 50 {
		// The session's name makes each another role session for AWS.
		fmt.Fprintf(&config, "[profile r%d]\nrole_arn = %s\nsource_profile = security\nrole_session_name = r%d\n", i, prodRole, i)
	}
	must(t, h.write(h.awsConfig(), config.String()))
	must(t, h.sim.fault(`{"kind":"delay","action":"GetSessionToken","delay_seconds":1}`))
	// One after the other they would need longer than a helper may.
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

// TestSixteenDaemonsLong: of 16 started at once on what a crash left behind, one owns the socket; the others
// say so and exit 0.
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
					t.Fatalf("round %d: a daemon that lost: exit code %d, %q", round, code, outs[i].String())
				}
				procs[i] = nil
			case <-time.After(patience):
				t.Fatalf("round %d: more than one daemon is running", round)
			}
		}
		s, err := h.status()
		must(t, err)
		for _, cmd := range procs {
			if cmd == nil {
				continue
			}
			if !s.Running || s.PID != cmd.Process.Pid {
				t.Fatalf("round %d: the one that is left, %d, does not answer: %+v", round, cmd.Process.Pid, s)
			}
			// Killed, so that the next round finds its socket and lock files.
			_ = cmd.Process.Kill()
		}
		<-ended
	}
}
