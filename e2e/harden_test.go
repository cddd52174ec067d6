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
	otherRoles["plain"] = func() int { // stores what it is sent, and hides nothing
		_, _ = io.ReadAll(os.Stdin)
		return 0
	}
}

// jewel is what a vault process receives after its start.
const jewel = "a-key-that-arrives-later-5190"

// thief runs the test program as an unprivileged uid without capabilities. It starts a program as that same uid
// again and again. From before each start, it tries to open the files that would show the memory of the new
// process.
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

// loot is what a thief got from all processes that it started.
type loot struct {
	started, mem, environ, maps, stdin int // number of processes; those whose file in /proc it opened
	stolen                             int // processes in whose memory it read the jewel
	median, longest                    time.Duration
}

const lootFormat = "%d started, opened: mem %d, environ %d, maps %d, stdin %d; jewel read %d; " +
	"mem open for %d ns, at most %d ns\n"

// TestFirstMoments checks that a program that only its owner may read, as after `make install` by root, cannot be
// inspected from its first instruction on. For a program that others may read, the test only measures how often it
// happens: until the program has hardened itself, the scheduler decides who is first.
func TestFirstMoments(t *testing.T) { firstMoments(t, 5) }

func TestFirstMomentsLong(t *testing.T) { firstMoments(t, 500) }

func firstMoments(t *testing.T, rounds int) {
	needRoot(t)
	h := newHouse(t)
	must(t, h.settings(""))
	h.give(t, nobody)
	// Copies, since the programs of a house are hard links shared by all tests.
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
		t.Fatalf("void: not even a program without protection was read: %+v", plain)
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

// thiefRole starts os.Args[1:] E2E_N times. It watches each start from before execve, where the launcher waits for
// it.
func thiefRole() int {
	rounds, _ := strconv.Atoi(os.Getenv("E2E_N"))
	// With CAP_DAC_OVERRIDE a caller of execve can read every program, so that the process stays dumpable.
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

// launcherRole replaces itself by the program os.Args[1:] when told to. Before that, nobody can inspect it.
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

// steal watches one start.
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
		return 0, errors.New("the launcher itself can be inspected, so the test cannot distinguish the two")
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
	// Keep trying for a while after the new program first appears.
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
	// An open descriptor stays valid, so it also shows what arrives later. The line is incomplete, so the process
	// waits for the rest.
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
			continue // larger mappings are reserved, not used
		}
		part := make([]byte, to-from)
		if n, _ := mem.ReadAt(part, from); bytes.Contains(part[:n], text) {
			return true
		}
	}
	return false
}

// TestHardenedFirst checks that a program makes itself not dumpable before any other package of Broker, any
// library or any larger package of the standard library is initialized. It reads Go's own trace of initialization.
func TestHardenedFirst(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	module := regexp.QuoteMeta(modulePath())
	late := regexp.MustCompile(`(?m)^init (os|time|net|reflect|` + module + `/\S+|\w+\.\w+/\S+) `)
	asks := regexp.MustCompile(`(?s)\ninit ` + module + `/internal/vault/process/ready .*\ninit github\.com/99designs/`)
	for _, argv := range [][]string{{"brokerd", "vault"}, {"brokerd", "--version"}, {"broker", "version"}, {"credproc", "--version"}} {
		cmd := h.command(argv[0], argv[1:]...)
		cmd.Env = append(cmd.Env, "GODEBUG=inittrace=1")
		r := finish(cmd)
		before, after, found := strings.Cut(r.stderr, "init "+modulePath()+"/internal/harden/nodump ")
		if !found || !strings.Contains(after, "\ninit os ") {
			t.Fatalf("%v: void: %v", argv, r)
		}
		if found := late.FindString(before); found != "" {
			t.Errorf("%v: %q is initialized earlier", argv, found)
		}
		if argv[1] == "vault" && !asks.MatchString(after) {
			t.Errorf("the vault process reads its request late: %v", r)
		}
	}
}

// TestUnreadableProgram checks that a program that its user cannot read works like any other, and can even start
// itself.
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
		must(t, os.Remove(program)) // a link to the file that other tests run
		must(t, os.WriteFile(program, data, 0o711))
		must(t, os.Chmod(program, 0o711))
	}
	run := func(name string, args ...string) result { return h.asOther(t, nobody, name, args...) }
	t.Cleanup(func() {
		run("broker", "daemon", "--stop")
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
		{"broker", "exec", "product_prod_paul", "--", "cat", "/proc/self/environ"}, // this child is dumpable again
	} {
		if r := run(argv[0], argv[1:]...); r.code != 0 {
			t.Errorf("%q: %v", argv, r)
		}
	}
}

// TestInstallModes checks that root installs the programs that hold keys so that their users cannot read them.
func TestInstallModes(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("make", "-n", "-o", "build", "install", "DESTDIR=/nowhere", "PREFIX=/usr")
	cmd.Dir = ".."
	want := "install -m 711 bin/broker bin/brokerd '/nowhere/usr/bin'\n"
	if os.Geteuid() != 0 { // an owner can always read
		want = "install -m 755 bin/broker bin/brokerd '/nowhere/usr/bin'\n"
	}
	if r := finish(cmd); r.code != 0 || !strings.Contains(r.stdout, want) {
		t.Errorf("want %q: %v", want, r)
	}
}

// TestTraced checks that a daemon refuses to run under a tracer, and that other commands do not: a person may
// trace them.
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

// traced runs a program under a tracer that lets it continue.
func traced(cmd *exec.Cmd) result {
	runtime.LockOSThread() // the thread is the tracer
	defer runtime.UnlockOSThread()
	dir, err := os.MkdirTemp("", "traced")
	if err != nil {
		return result{stderr: err.Error(), code: -1}
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// Use files, since nobody reads a pipe in the meantime.
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
