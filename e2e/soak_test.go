//go:build soak

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestSoak simulates a long day in a few minutes: it uses every delivery at once, and every few seconds something
// breaks. While it is broken, an answer may be a refusal with a documented code and without a secret. After the
// repair every way of asking works again. When everything is idle, the daemon must hold no more than before:
// memory, descriptors, goroutines, children. Run it with `make soak`.
func TestSoak(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("SOAK"))
	must(t, err)
	s := &soak{t: t, self: selfProgram(t)}
	t.Cleanup(s.last) // registered before the house, so it runs after the house has printed its log
	h := soakHouse(t)
	s.h = h
	h.credentials(t, "build1") // starts the daemon
	ways := s.ways()
	for name, use := range ways {
		must(t, s.well(name, use))
	}
	s.pid = h.daemonPID(t)

	stop := make(chan struct{})
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() { s.load(ways, stop) })
	}
	end := sync.OnceFunc(func() {
		close(stop)
		workers.Wait()
	})
	defer end()
	dice := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	faults := s.faults()
	var samples []sample
	for until := time.Now().Add(length); time.Now().Before(until) && !t.Failed(); {
		f := faults[dice.IntN(len(faults))]
		s.broken.Store(true)
		s.troubles.Add(1)
		mend := f.cause()
		time.Sleep(time.Duration(dice.IntN(1500)+500) * time.Millisecond)
		mend()
		for name, use := range ways {
			if err := s.well(name, use); err != nil {
				s.errorf("after %s: %v", f.name, err)
				return
			}
		}
		time.Sleep(failureMemory)
		s.broken.Store(false)
		time.Sleep(time.Second)
		samples = append(samples, s.quiet(f.name))
		t.Logf("%s %v", time.Now().UTC().Format("15:04:05"), samples[len(samples)-1])
	}
	end()
	if t.Failed() {
		return
	}
	if pid := h.daemonPID(t); pid != s.pid {
		t.Errorf("the daemon %d was replaced by %d", s.pid, pid)
	}
	t.Logf("%d requests, %d refused while something was broken, %d faults", s.done.Load(), s.refused.Load(), len(samples))
	judge(t, samples)
}

// failureMemory is a bit longer than the time for which the daemon may repeat a refusal of AWS.
const failureMemory = 6 * time.Second

func soakHouse(t *testing.T) *house {
	h := robotHouse(t, "20s")
	var text strings.Builder
	for i := range 20 {
		fmt.Fprintf(&text, "[profile build%d]\nrole_arn = arn:aws:iam::222233334444:role/build\nsource_profile = robot\nregion = eu-west-1\nrole_session_name = s%d\n\n", i, i)
		if i == 9 { // the first half in the registry, the others in the config, where an editor breaks them
			old, err := os.ReadFile(h.registry())
			must(t, err)
			must(t, h.write(h.registry(), string(old)+"\n"+text.String()))
			text.Reset()
		}
	}
	must(t, h.write(h.awsConfig(), text.String()))
	return h
}

// soak is the state of one run.
type soak struct {
	h    *house
	t    *testing.T
	self string
	pid  int

	working       sync.RWMutex // locked for writing while everything is idle
	broken        atomic.Bool
	troubles      atomic.Int64 // number of faults so far
	done, refused atomic.Int64

	mu       sync.Mutex // guards failures
	failures []string
}

// errorf is t.Errorf; last repeats its messages.
func (s *soak) errorf(format string, args ...any) {
	s.t.Helper()
	message := time.Now().UTC().Format("15:04:05.000 ") + fmt.Sprintf(format, args...)
	s.t.Error(message)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, message)
}

// last prints the failures again, where a reader finds them at the end of a long log.
func (s *soak) last() {
	for _, message := range s.failures {
		s.t.Log("FAILED:", message)
	}
}

func profileOf(i int) string { return "build" + strconv.Itoa(i) }

// ways returns every way to ask; each returns its result.
func (s *soak) ways() map[string]func(profile string) result {
	run := func(words ...string) func(string) result {
		return func(profile string) result {
			args := slices.Clone(words)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "PROFILE", profile)
			}
			return s.h.run(args[0], args[1:]...)
		}
	}
	return map[string]func(string) result{
		"credproc":               run("credproc", "PROFILE"),
		"env":                    run("broker", "exec", "PROFILE", "--", "sh", "-c", `test -n "$AWS_SESSION_TOKEN"`),
		"file":                   run("broker", "exec", "--mode", "file", "PROFILE", "--", "sh", "-c", `grep -q aws_session_token "$AWS_SHARED_CREDENTIALS_FILE"`),
		"export":                 run("broker", "export", "--format", "json", "PROFILE"),
		"publish":                run("broker", "publish", "--for", "5s", "build1"),
		"unpublish":              run("broker", "unpublish"),
		"console":                run("broker", "console", "--print", "PROFILE"),
		"explain":                run("broker", "explain", "PROFILE"),
		"list":                   run("broker", "profiles", "list"),
		"many in one connection": func(string) result { return s.line() },
		"server": func(profile string) result {
			cmd := s.h.command("broker", "exec", "--mode", "server", profile, "--", s.self)
			cmd.Env = append(slices.Clone(s.h.env), "E2E_ROLE=poller", "E2E_FOR=0s", "E2E_STS="+s.h.sim.url, "E2E_ARN=arn:aws:sts::222233334444:assumed-role/build/")
			r := finish(cmd)
			if r.code != 0 && strings.HasPrefix(r.stdout, "call ") { // the text of the program, not of Broker
				r.stdout, r.stderr = "", r.stdout+r.stderr
			}
			return r
		},
	}
}

// line sends twenty requests over one connection, and leaves in the middle of the last answer.
func (s *soak) line() result {
	conn, err := net.Dial("unix", s.h.socket())
	if err != nil {
		return result{code: 5, stderr: err.Error()}
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	decoder := json.NewDecoder(conn)
	for i := range 20 {
		if _, err := fmt.Fprintf(conn, `{"v":1,"verb":"get","profile":%q}`+"\n", profileOf(i%10)); err != nil {
			return result{code: 5, stderr: err.Error()}
		}
		if i == 19 {
			break
		}
		var a struct {
			Error *struct{ Kind, Message string }
		}
		if err := decoder.Decode(&a); err != nil {
			return result{code: 5, stderr: err.Error()}
		}
		if a.Error != nil {
			return result{code: 1, stderr: a.Error.Message}
		}
	}
	return result{}
}

// load asks in all ways in turn until stop is closed.
func (s *soak) load(ways map[string]func(string) result, stop chan struct{}) {
	names := make([]string, 0, len(ways))
	for name := range ways {
		names = append(names, name)
	}
	for !isStopped(stop) {
		name := names[rand.IntN(len(names))]
		s.working.RLock()
		began, troubles := time.Now(), s.troubles.Load() // in this order, so that a fault that begins in between is counted
		before := s.broken.Load()
		r := ways[name](profileOf(rand.IntN(20)))
		sound := !before && s.troubles.Load() == troubles
		s.working.RUnlock()
		s.done.Add(1)
		if err := examine(r); err != nil {
			s.errorf("%v", err)
		}
		if r.code == 0 {
			continue
		}
		s.refused.Add(1)
		switch {
		case sound:
			s.errorf("%s failed within %v while nothing was broken: %v", name, time.Since(began), r)
		case r.code < 0 || r.code > 7:
			s.errorf("%s: not a documented code: %v", name, r)
		case r.stdout != "":
			s.errorf("%s failed, but wrote to stdout: %v", name, r)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// well retries a way until it works.
func (s *soak) well(name string, use func(string) result) error {
	for limit := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		r := use(profileOf(rand.IntN(20)))
		if r.code == 0 {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%s no longer works: %v", name, r)
		}
	}
}

// trouble is a fault; cause starts it and returns the function that repairs it.
type trouble struct {
	name  string
	cause func() (mend func())
}

func (s *soak) faults() []trouble {
	h, t := s.h, s.t
	none := func() {}
	sts := func(kind, more string) trouble {
		return trouble{"STS: " + kind, func() func() {
			must(t, h.sim.fault(`{"kind":"`+kind+`","times":-1`+more+`}`))
			return func() { must(t, h.sim.post("faults/clear", "")) }
		}}
	}
	rewritten := func(name, file string, change func(old []byte)) trouble {
		return trouble{name, func() func() {
			old, err := os.ReadFile(file)
			must(t, err)
			change(old)
			return func() { must(t, h.write(file, string(old))) }
		}}
	}
	return []trouble{
		sts("drop-before", ""), sts("drop-after", ""), sts("status", `,"status":503`), sts("throttle", ""), sts("garbage", ""), sts("empty", ""),
		sts("missing", `,"fields":["SessionToken"]`), sts("slow", `,"pace_seconds":0.01`), sts("delay", `,"delay_seconds":1`), sts("huge", `,"megabytes":3`),
		{"STS: it does not answer", func() func() {
			must(t, h.sim.cmd.Process.Signal(syscall.SIGSTOP))
			return func() { must(t, h.sim.cmd.Process.Signal(syscall.SIGCONT)) }
		}},
		rewritten("the config is broken", h.awsConfig(), func([]byte) { must(t, h.write(h.awsConfig(), "[profile build11]\nrole_arn = \x00")) }),
		rewritten("the config is half written", h.awsConfig(), func(old []byte) { must(t, os.WriteFile(h.awsConfig(), old[:len(old)/2], 0o600)) }),
		rewritten("the config is gone", h.awsConfig(), func([]byte) { must(t, os.Remove(h.awsConfig())) }),
		rewritten("the registry is broken", h.registry(), func([]byte) { must(t, h.write(h.registry(), "[settings\n")) }),
		{"the socket is removed", func() func() { _ = os.Remove(h.socket()); return none }},
		{"the keyring is away", func() func() {
			dir := filepath.Join(h.home, ".local/share/broker/keyring")
			must(t, os.Rename(dir, dir+".away"))
			return func() { _ = os.RemoveAll(dir); must(t, os.Rename(dir+".away", dir)) }
		}},
		{"locked", func() func() {
			h.run("broker", "lock")
			return func() { h.run("broker", "unlock") }
		}},
		{"logged out", func() func() { h.run("broker", "logout"); return none }},
		{"the daemon is stopped for a moment", func() func() {
			must(t, halt(s.pid))
			return func() { must(t, syscall.Kill(s.pid, syscall.SIGCONT)) }
		}},
		{"the vault is killed", func() func() {
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for ; !isStopped(stop); time.Sleep(5 * time.Millisecond) {
					for _, pid := range s.children() {
						_ = kill(pid)
					}
				}
			}()
			h.run("broker", "logout")
			return func() { close(stop); <-done }
		}},
		{"300 that say nothing", func() func() {
			var idle []net.Conn
			for range 300 {
				if conn, err := net.Dial("unix", h.socket()); err == nil {
					idle = append(idle, conn)
				}
			}
			return func() {
				for _, conn := range idle {
					_ = conn.Close()
				}
			}
		}},
		{"100 that say what no client would", func() func() {
			for i := range 100 {
				conn, err := net.Dial("unix", h.socket())
				if err != nil {
					continue
				}
				junk := [][]byte{bytes.Repeat([]byte("x"), 100<<10), []byte("{\n"), []byte(`{"v":1,"verb":"get","profile":"build1`), bytes.Repeat([]byte("["), 30<<10)}[i%4]
				_ = conn.SetDeadline(time.Now().Add(time.Second))
				_, _ = conn.Write(junk)
				_ = conn.Close()
			}
			return none
		}},
		{"clients are killed", func() func() {
			for range 10 {
				cmd := h.command("credproc", profileOf(rand.IntN(20)))
				if cmd.Start() == nil {
					time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
				}
			}
			return none
		}},
		{"a program under exec is killed", func() func() {
			cmd := h.command("broker", "exec", "--mode", []string{"file", "server"}[rand.IntN(2)], "build2", "--", "sleep", "60")
			if cmd.Start() == nil {
				time.Sleep(300 * time.Millisecond)
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}
			return none
		}},
	}
}

// children returns the child processes of the daemon.
func (s *soak) children() []int {
	var list []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		for _, word := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				list = append(list, pid)
			}
		}
	}
	return list
}

// sample is what the daemon holds while it is idle.
type sample struct {
	after                        string
	kB, files, tasks, goroutines int
	children                     int
}

func (v sample) String() string {
	return fmt.Sprintf("%6d kB, %3d descriptors, %3d goroutines, %2d threads, %d children after: %s", v.kB, v.files, v.goroutines, v.tasks, v.children, v.after)
}

// quiet waits until everything is idle, which may take as long as a call in flight, and then measures.
func (s *soak) quiet(after string) sample {
	s.working.Lock()
	defer s.working.Unlock()
	s.h.run("broker", "unpublish")
	least := sample{kB: 1 << 30}
	for limit := time.Now().Add(15 * time.Second); time.Now().Before(limit); time.Sleep(250 * time.Millisecond) {
		now := s.measure(after)
		if now.goroutines == least.goroutines && now.files == least.files && now.children == 0 {
			return now
		}
		least = now
	}
	return least
}

func (s *soak) measure(after string) sample {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	must(s.t, err)
	field := func(name string) int {
		_, rest, _ := strings.Cut(string(text), "\n"+name+":")
		words := strings.Fields(rest)
		n, err := strconv.Atoi(words[0])
		must(s.t, err)
		return n
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid))
	must(s.t, err)
	var told struct {
		Goroutines int `json:"goroutines"`
	}
	r := s.h.run("broker", "status", "--json")
	must(s.t, json.Unmarshal([]byte(r.stdout), &told))
	return sample{after, field("VmRSS"), len(files), field("Threads"), told.Goroutines, len(s.children())}
}

// judge compares the minimum of the last third with that of the second third; the first third is warm-up.
func judge(t *testing.T, samples []sample) {
	if len(samples) < 9 {
		t.Fatalf("only %d samples: too short to say anything", len(samples))
	}
	least := func(of []sample, what func(sample) int) int {
		n := what(of[0])
		for _, v := range of {
			n = min(n, what(v))
		}
		return n
	}
	third := len(samples) / 3
	second, last := samples[third:2*third], samples[2*third:]
	for _, row := range []struct {
		name  string
		what  func(sample) int
		slack int
	}{
		{"kB of memory", func(v sample) int { return v.kB }, 4096},
		{"descriptors", func(v sample) int { return v.files }, 2},
		{"goroutines", func(v sample) int { return v.goroutines }, 2},
		{"children", func(v sample) int { return v.children }, 0},
	} {
		before, after := least(second, row.what), least(last, row.what)
		t.Logf("%s: %d, then %d", row.name, before, after)
		if after > before+row.slack {
			t.Errorf("%s grew from %d to %d", row.name, before, after)
		}
	}
}
