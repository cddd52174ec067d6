package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func init() {
	otherRoles["thief"] = thiefRole
	otherRoles["launcher"] = launcherRole
	otherRoles["plain"] = func() int { // keeps what it is sent, and hides nothing
		_, _ = io.ReadAll(os.Stdin)
		return 0
	}
}

// jewel is what a vault process is sent after its first moments.
const jewel = "a-key-that-arrives-later-5190"

// thief is the test program as an unprivileged uid without any capability: it starts a program of that same uid again
// and again, and tries from before the start on to open what would show it the memory of the new process.
func thief(t *testing.T, h *house, rounds int, argv ...string) loot {
	t.Helper()
	cmd := other(t, nobody, "thief", append(h.env, "E2E_N="+strconv.Itoa(rounds))...)
	cmd.Args = append(cmd.Args, argv...)
	r := finishWithin(10*time.Minute, cmd)
	var l loot
	if _, err := fmt.Sscanf(r.stdout, lootFormat, &l.started, &l.mem, &l.environ, &l.maps, &l.stdin,
		&l.stolen, &l.median, &l.longest); err != nil || r.code != 0 {
		t.Fatalf("the thief: %v", r)
	}
	if l.started != rounds {
		t.Fatalf("void: only %d of %d starts were watched", l.started, rounds)
	}
	return l
}

// loot is what a thief got, of all the processes that it started.
type loot struct {
	started, mem, environ, maps, stdin int // processes: all, and those whose file in /proc was opened
	stolen                             int // processes in whose memory the jewel was read
	median, longest                    time.Duration
}

const lootFormat = "%d started, opened: mem %d, environ %d, maps %d, stdin %d; jewel read %d; " +
	"mem open for %d ns, at most %d ns\n"

// TestFirstMoments: a program that others than its owner may not read, as `make install` by root leaves it, cannot be
// looked into from its first instruction on. Of one that they may read, how often it happens is only measured: until
// it has hardened itself nothing but the scheduler decides who is first.
func TestFirstMoments(t *testing.T) { firstMoments(t, 5) }

func TestFirstMomentsLong(t *testing.T) { firstMoments(t, 500) }

func firstMoments(t *testing.T, rounds int) {
	needRoot(t)
	h := newHouse(t)
	must(t, h.settings(""))
	h.give(t, nobody)
	// Copies, since the programs of a house are links to those of all tests.
	program := func(name string, mode os.FileMode) string {
		path := filepath.Join(h.dir, name)
		data, err := os.ReadFile(filepath.Join(h.bin, "brokerd"))
		must(t, err)
		must(t, os.WriteFile(path, data, 0o755))
		must(t, os.Chmod(path, mode))
		return path
	}
	closed, open := program("closed", 0o711), program("open", 0o755)
	vault, daemon := []string{"vault"}, []string(nil)

	plain := thief(t, h, 5, selfProgram(t), "plain")
	if plain.mem != 5 || plain.environ != 5 || plain.maps != 5 || plain.stdin != 5 || plain.stolen != 5 {
		t.Fatalf("void: a program that does nothing against it is not looked into: %+v", plain)
	}
	for _, args := range [][]string{vault, daemon} {
		l := thief(t, h, rounds, append([]string{closed}, args...)...)
		if l.mem+l.environ+l.maps+l.stdin+l.stolen > 0 {
			t.Errorf("%v, mode 0711: %+v", args, l)
		}
		t.Logf("%v, mode 0711: %+v", args, l)
		t.Logf("%v, mode 0755: %+v", args, thief(t, h, min(rounds, 100), append([]string{open}, args...)...))
	}
}

// thiefRole starts os.Args[1:] E2E_N times. It sees each start from before execve on, where the launcher waits for it.
func thiefRole() int {
	rounds, _ := strconv.Atoi(os.Getenv("E2E_N"))
	// With CAP_DAC_OVERRIDE a caller of execve can read every program, so that it stays dumpable.
	status, err := os.ReadFile("/proc/self/status")
	if err != nil || !bytes.Contains(status, []byte("\nCapEff:\t0000000000000000\n")) {
		fmt.Println("the thief has capabilities")
		return 1
	}
	var l loot
	var windows []time.Duration
	for range rounds {
		window, err := l.steal(os.Args[1:])
		if err != nil {
			fmt.Println(err)
			return 1
		}
		if window > 0 {
			windows = append(windows, window)
		}
	}
	slices.Sort(windows)
	if len(windows) > 0 {
		l.median, l.longest = windows[len(windows)/2], windows[len(windows)-1]
	}
	fmt.Printf(lootFormat, l.started, l.mem, l.environ, l.maps, l.stdin, l.stolen, l.median, l.longest)
	return 0
}

// launcherRole becomes the program os.Args[1:] once it is told to go on. Nobody can look into it before that.
func launcherRole() int {
	const prSetDumpable = 4
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0); errno != 0 {
		return 1
	}
	_ = os.Unsetenv("E2E_ROLE")
	if len(os.Args) > 2 && os.Args[2] == "plain" {
		_ = os.Setenv("E2E_ROLE", "plain")
	}
	env := os.Environ()
	goOn, ready := os.NewFile(3, "go"), os.NewFile(4, "ready")
	syscall.CloseOnExec(3)
	syscall.CloseOnExec(4)
	_, _ = ready.Write([]byte("."))
	_, _ = goOn.Read(make([]byte, 1))
	_ = syscall.Exec(os.Args[1], os.Args[1:], env)
	return 1
}

// steal is one start.
func (l *loot) steal(argv []string) (window time.Duration, err error) {
	cmd := exec.Command("/proc/self/exe", argv...)
	cmd.Env = append(os.Environ(), "E2E_ROLE=launcher", "GOTRACEBACK=none")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	goOn, tell, err1 := os.Pipe()
	hear, ready, err2 := os.Pipe()
	if err := errors.Join(err1, err2); err != nil {
		return 0, err
	}
	cmd.ExtraFiles = []*os.File{goOn, ready}
	err = cmd.Start()
	_, _ = goOn.Close(), ready.Close()
	defer func() { _, _ = tell.Close(), hear.Close() }()
	if err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	defer func() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}()
	if _, err := hear.Read(make([]byte, 1)); err != nil {
		return 0, fmt.Errorf("the launcher does not wait: %w", err)
	}
	proc := fmt.Sprintf("/proc/%d/", pid)
	if f, err := os.Open(proc + "mem"); err == nil {
		_ = f.Close()
		return 0, errors.New("the launcher can be looked into, so nothing can be told apart")
	}
	if _, err := tell.Write([]byte(".")); err != nil {
		return 0, err
	}
	var mem, maps *os.File
	open := func(name string, count *int) *os.File {
		f, err := os.Open(proc + name)
		if err == nil {
			*count++
		}
		return f
	}
	// Until a while after the first sight of the new program.
	want := []byte(strings.Join(argv, "\x00") + "\x00")
	var seen, first, last time.Time
	for give := time.Now().Add(patience); seen.IsZero() || time.Since(seen) < 20*time.Millisecond; {
		switch f, err := os.Open(proc + "mem"); {
		case err == nil && mem == nil:
			first, mem = time.Now(), f
			l.mem++
			maps = open("maps", &l.maps)
			for name, count := range map[string]*int{"environ": &l.environ, "fd/0": &l.stdin} {
				if f := open(name, count); f != nil {
					_ = f.Close()
				}
			}
		case err == nil:
			last = time.Now()
			_ = f.Close()
		}
		if seen.IsZero() {
			if line, err := os.ReadFile(proc + "cmdline"); err == nil && bytes.Equal(line, want) {
				seen = time.Now()
				l.started++
			}
			if time.Now().After(give) {
				return 0, fmt.Errorf("%q never starts", argv)
			}
		}
	}
	if mem == nil {
		return 0, nil
	}
	defer func() { _ = mem.Close() }()
	window = max(last.Sub(first), time.Microsecond)
	if maps == nil {
		return window, nil
	}
	defer func() { _ = maps.Close() }()
	// What arrives only now is read all the same: a descriptor stays good. It is half a line, so the process waits for
	// the rest.
	if _, err := io.WriteString(stdin, `{"op":"put","secret_access_key":"`+jewel); err != nil {
		return window, nil
	}
	if len(argv) == 1 { // the daemon does not read that
		return window, nil
	}
	for range 200 {
		if holds(mem, maps, []byte(jewel)) {
			l.stolen++
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return window, nil
}

// holds reports whether a text is in the memory of a process.
func holds(mem, maps *os.File, text []byte) bool {
	if _, err := maps.Seek(0, io.SeekStart); err != nil {
		return false
	}
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		var mode string
		_, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode)
		if err != nil || !strings.HasPrefix(mode, "rw") || to-from > 256<<20 {
			continue // what is larger is reserved, not used
		}
		part := make([]byte, to-from)
		if n, _ := mem.ReadAt(part, from); bytes.Contains(part[:n], text) {
			return true
		}
	}
	return false
}

// TestHardenedFirst: a program makes itself not dumpable before anything else of ours, of other libraries, or of the
// standard library's larger packages is initialised. What is counted is what Go says that it initialises.
func TestHardenedFirst(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	late := regexp.MustCompile(`(?m)^init (os|time|net|reflect|broker/\S+|\w+\.\w+/\S+) `)
	asks := regexp.MustCompile(`(?s)\ninit broker/internal/vault/process/ready .*\ninit github\.com/99designs/`)
	for _, argv := range [][]string{{"brokerd", "vault"}, {"brokerd", "--version"}, {"broker", "version"}, {"credproc", "--version"}} {
		cmd := h.command(argv[0], argv[1:]...)
		cmd.Env = append(cmd.Env, "GODEBUG=inittrace=1")
		r := finish(cmd)
		before, after, found := strings.Cut(r.stderr, "init broker/internal/harden/nodump ")
		if !found || !strings.Contains(after, "\ninit os ") {
			t.Fatalf("%v: void: %v", argv, r)
		}
		if found := late.FindString(before); found != "" {
			t.Errorf("%v: before it comes %q", argv, found)
		}
		if argv[1] == "vault" && !asks.MatchString(after) {
			t.Errorf("the vault process asks for its request late: %v", r)
		}
	}
}

// TestUnreadableProgram: a program that its user cannot read does all that another does, starting itself included.
func TestUnreadableProgram(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := demo(t)
	must(t, h.stopDaemon())
	h.give(t, nobody)
	for _, name := range []string{"broker", "brokerd"} {
		program := filepath.Join(h.bin, name)
		data, err := os.ReadFile(program)
		must(t, err)
		must(t, os.Remove(program)) // a link to what other tests run
		must(t, os.WriteFile(program, data, 0o711))
		must(t, os.Chmod(program, 0o711))
	}
	run := func(name string, args ...string) result { return h.asOther(t, nobody, name, args...) }
	t.Cleanup(func() {
		run("sh", "-c", `kill $(broker status --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')`)
	})
	for _, name := range []string{"broker", "brokerd"} {
		if r := run("cp", filepath.Join(h.bin, name), filepath.Join(h.home, "copy")); r.code == 0 {
			t.Fatalf("void: %s can be read: %v", name, r)
		}
	}
	for _, argv := range [][]string{
		{"broker", "version"},
		{"broker", "completion", "bash"},
		{"broker", "keyring", "test"},
		{"credproc", "product_prod_paul"}, // starts the daemon
		{"broker", "daemon", "--background", "--replace"},
		{"credproc", "product_dev_paul"},
		{"broker", "exec", "product_prod_paul", "--mode", "server", "--", "env"},
		{"broker", "exec", "product_prod_paul", "--", "cat", "/proc/self/environ"}, // which is dumpable again
	} {
		if r := run(argv[0], argv[1:]...); r.code != 0 {
			t.Errorf("%q: %v", argv, r)
		}
	}
}

// TestInstallModes: root installs the programs that hold keys so that their users cannot read them.
func TestInstallModes(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("make", "-n", "-o", "build", "install", "DESTDIR=/nowhere", "PREFIX=/usr")
	cmd.Dir = ".."
	want := "install -m 711 bin/broker bin/brokerd '/nowhere/usr/bin'\n"
	if os.Geteuid() != 0 { // an owner can read anyway
		want = "install -m 755 bin/broker bin/brokerd '/nowhere/usr/bin'\n"
	}
	if r := finish(cmd); r.code != 0 || !strings.Contains(r.stdout, want) {
		t.Errorf("want %q: %v", want, r)
	}
}

// TestTraced: a daemon does not work under a tracer. Other commands do: a person may trace them.
func TestTraced(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	must(t, h.settings(""))
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"brokerd"}, 1, "brokerd: the daemon does not start: a debugger or tracer is attached"},
		{[]string{"broker", "version"}, 0, "broker "},
	} {
		r := traced(h.command(tt.args[0], tt.args[1:]...))
		if r.code != tt.code || !strings.Contains(r.stdout+r.stderr, tt.says) {
			t.Errorf("%v: %v", tt.args, r)
		}
	}
}

// traced runs a program as a debugger does that lets it run on.
func traced(cmd *exec.Cmd) result {
	runtime.LockOSThread() // which is the tracer
	defer runtime.UnlockOSThread()
	dir, err := os.MkdirTemp("", "traced")
	if err != nil {
		return result{stderr: err.Error(), code: -1}
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// Files, since nobody reads a pipe meanwhile.
	stdout, err1 := os.Create(filepath.Join(dir, "stdout"))
	stderr, err2 := os.Create(filepath.Join(dir, "stderr"))
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		return result{stderr: err.Error(), code: -1}
	}
	watchdog := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	var state syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(cmd.Process.Pid, &state, 0, nil); err != nil || !state.Stopped() {
			break
		}
		signal := state.StopSignal()
		if signal == syscall.SIGTRAP {
			signal = 0
		}
		_ = syscall.PtraceCont(cmd.Process.Pid, int(signal))
	}
	_ = cmd.Process.Release()
	said, err1 := os.ReadFile(stdout.Name())
	complained, err2 := os.ReadFile(stderr.Name())
	if err := errors.Join(err1, err2, stdout.Close(), stderr.Close()); err != nil {
		return result{stderr: err.Error(), code: -1}
	}
	code := state.ExitStatus()
	if state.Signaled() {
		code = 128 + int(state.Signal())
	}
	return result{string(said), string(complained), code}
}
