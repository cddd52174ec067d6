package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

var ourselves = uint32(os.Getuid())

func find(t *testing.T, pid int) Process {
	t.Helper()
	p, err := Find(pid)
	if err != nil || p.PID != pid || p.Start == "" {
		t.Fatalf("process %d: %+v, %v", pid, p, err)
	}
	return p
}

// later is another process that has the same PID now.
func later(p Process) Process { return Process{p.PID, p.Start + "1"} }

// TestFind: a process is distinguished from an earlier one with its PID, and from a zombie.
func TestFind(t *testing.T) {
	me := find(t, os.Getpid())
	if !me.Running() || me != find(t, os.Getpid()) {
		t.Errorf("this process does not run: %+v", me)
	}
	if later(me).Running() || (Process{PID: os.Getpid()}).Running() || (Process{}).Running() {
		t.Error("another process runs")
	}
	child := playAs(t, ourselves, "sit")
	p := find(t, child.Process.Pid)
	if p.Start == me.Start || !p.Running() {
		t.Errorf("the child is %+v, and this process %+v", p, me)
	}
	_ = child.hold.Close()
	if err := p.Ended(t.Context()); err != nil { // although nobody has waited for it
		t.Fatal(err)
	}
	if _, err := os.Stat(p.file("stat")); err != nil {
		t.Fatalf("it is not a zombie, so the test proves nothing: %v", err)
	}
	if again, err := Find(p.PID); err == nil || p.Running() {
		t.Errorf("a zombie: %+v", again)
	}
	_ = child.Wait()
	if again, err := Find(p.PID); err == nil || p.Running() {
		t.Errorf("gone: %+v", again)
	}
}

// TestRunningDuringExec: a process that executes another program has not ended, however it is checked.
func TestRunningDuringExec(t *testing.T) {
	cmd := prepare(t, ourselves, "exec 100")
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var over atomic.Bool
	var looks, ends atomic.Int64
	var lookers sync.WaitGroup
	defer lookers.Wait()
	defer over.Store(true)
	watch := func() {
		p := find(t, cmd.Process.Pid)
		for range 2 {
			lookers.Go(func() {
				for !over.Load() {
					looks.Add(1)
					if !p.Running() {
						ends.Add(1)
					}
				}
			})
		}
	}
	playing := begin(t, cmd, hold, watch)
	p := find(t, playing.Process.Pid)
	over.Store(true)
	lookers.Wait()
	if ends.Load() > 0 || looks.Load() == 0 {
		t.Errorf("it ended %d times in %d looks", ends.Load(), looks.Load())
	}
	_ = hold.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if p.Running() {
		t.Error("it has ended")
	}
}

// TestEnded: Ended returns when the process has ended, at once if it is already gone, and fails if ctx ends
// earlier.
func TestEnded(t *testing.T) {
	child := playAs(t, ourselves, "sit")
	p := find(t, child.Process.Pid)
	if err := later(p).Ended(t.Context()); err != nil {
		t.Errorf("another process has its PID: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	canceled := make(chan error)
	go func() { canceled <- p.Ended(ctx) }()
	ended := make(chan error)
	go func() { ended <- p.Ended(t.Context()) }()
	cancel()
	if err := <-canceled; err == nil {
		t.Error("Ended returned before the end")
	}
	select {
	case err := <-ended:
		t.Errorf("Ended returned before the end: %v", err)
	default:
	}
	_ = child.hold.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_ = child.Wait()
	if err := p.Ended(t.Context()); err != nil {
		t.Errorf("once it is gone: %v", err)
	}
}

// TestParents: each parent comes with its start, up to the first process. A process that is no longer a parent is
// not returned.
func TestParents(t *testing.T) {
	top := playAs(t, ourselves, "tree 2")
	pid, err := strconv.Atoi(top.line)
	if err != nil {
		t.Fatal(err)
	}
	leaf := find(t, pid)
	chain := slices.Collect(leaf.Parents())
	if len(chain) < 3 || chain[1] != find(t, top.Process.Pid) || chain[2] != find(t, os.Getpid()) {
		t.Fatalf("the parents of %+v are %+v; %d is above it, and then %d", leaf, chain, top.Process.Pid, os.Getpid())
	}
	middle := chain[0]
	if !middle.Running() || middle == leaf || middle == chain[1] {
		t.Errorf("the parent is %+v", middle)
	}
	if last := chain[len(chain)-1]; last != find(t, last.PID) {
		t.Errorf("the last is %+v", last)
	}
	for parent := range later(leaf).Parents() {
		t.Errorf("a process that is gone has the parent %+v", parent)
	}
	if first := slices.Collect((Process{PID: pid}).Parents()); !slices.Equal(first, chain) {
		t.Errorf("without its start: %+v", first)
	}
	// The parent ends, and the kernel assigns another parent to the child.
	if err := syscall.Kill(middle.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := middle.Ended(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := slices.Collect(leaf.Parents()); slices.Contains(now, middle) {
		t.Errorf("%+v has ended, but is a parent in %+v", middle, now)
	}
}

// TestProgram: the name of a process and the program of its parent; nothing for a process that is gone.
func TestProgram(t *testing.T) {
	child := playAs(t, ourselves, "sit")
	p := find(t, child.Process.Pid)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	comm, err := os.ReadFile(p.file("comm"))
	if err != nil {
		t.Fatal(err)
	}
	if name, parent := p.Program(); name+"\n" != string(comm) || parent != program {
		t.Errorf("%q, %q; want %q, %q", name, parent, comm, program)
	}
	if p.Executable() != program {
		t.Errorf("it runs %q", p.Executable())
	}
	if tool := p.Tool(); tool != filepath.Base(program) {
		t.Errorf("it was started by %q", tool)
	}
	if name, parent := later(p).Program(); name != "" || parent != "" || later(p).Tool() != "" {
		t.Errorf("a process that is gone: %q, %q, %q", name, parent, later(p).Tool())
	}
}

// TestLineage: each process comes once, nearest first, with all facts.
func TestLineage(t *testing.T) {
	top := playAs(t, ourselves, "tree 2")
	pid, err := strconv.Atoi(top.line)
	if err != nil {
		t.Fatal(err)
	}
	leaf := find(t, pid)
	want := append([]Process{leaf}, slices.Collect(leaf.Parents())...)
	want = want[:min(len(want), MaxLineage)]
	got := leaf.Lineage()
	if len(got) != len(want) || len(got) < 4 {
		t.Fatalf("%d processes %+v, want %+v", len(got), got, want)
	}
	for i, d := range got {
		if d.Process != want[i] || d.Name == "" {
			t.Errorf("%d is %+v, want %+v", i, d, want[i])
		}
		if i < 4 && (d.Executable != d.Process.Executable() || !slices.Equal(d.Arguments, d.Process.Arguments()) ||
			i == 0 && d.Dir != d.Process.Dir() || i == 0 && d.Terminal != d.Process.Terminal()) {
			t.Errorf("%d is %+v", i, d)
		}
	}
	if again := leaf.Lineage(); !reflect.DeepEqual(again, got) {
		t.Errorf("when it is remembered: %+v, want %+v", again, got)
	}
	if gone := later(leaf).Lineage(); len(gone) != 0 {
		t.Errorf("a process that is gone: %+v", gone)
	}
}

// TestWithoutFirstThread: a process whose first thread has ended still has a command line, a program and a directory.
func TestWithoutFirstThread(t *testing.T) {
	p, err := Find(playAs(t, uint32(os.Getuid()), "headless").Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Arguments()) == 0 || p.Executable() == "" || p.Dir() != "/" {
		t.Errorf("%q, %q, %q", p.Arguments(), p.Executable(), p.Dir())
	}
	if list := p.Lineage(); len(list[0].Arguments) == 0 || list[0].Executable == "" || list[0].Dir != "/" {
		t.Errorf("%+v", list[0])
	}
}

// TestLineageAfterExec: the program of a parent is not remembered beyond its execve.
func TestLineageAfterExec(t *testing.T) {
	for range 100 {
		lineageAfterExec(t)
	}
}

func lineageAfterExec(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 600 & echo $!; read x; exec sleep 601")
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	_, err = fmt.Fscan(output, &pid)
	defer func() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if err != nil {
		t.Fatal(err)
	}
	child := find(t, pid)
	parent := func() string { return strings.Join(child.Lineage()[1].Arguments, " ") }
	for range 2 { // the second one is remembered
		if got := parent(); !strings.HasPrefix(got, "sh -c ") {
			t.Fatalf("the parent is %q", got)
		}
	}
	if _, err := fmt.Fprintln(input); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); parent() != "sleep 601"; { // without a pause, to look in the middle of the execve
		if time.Now().After(deadline) {
			t.Fatalf("the parent is still %q", parent())
		}
	}
}

// TestLineageAfterOrphaning: a parent whose own parent ends has another one at once, whatever is remembered.
func TestLineageAfterOrphaning(t *testing.T) {
	cmd := exec.Command("sh", "-c", `sh -c 'sleep 600 & echo $! $$; wait' & read x`)
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var leaf, parent int
	_, err = fmt.Fscan(output, &leaf, &parent)
	t.Cleanup(func() {
		_ = syscall.Kill(leaf, syscall.SIGKILL)
		_ = syscall.Kill(parent, syscall.SIGKILL)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if err != nil {
		t.Fatal(err)
	}
	child, top := find(t, leaf), find(t, cmd.Process.Pid)
	for range 2 { // the second one is remembered
		if got := child.Lineage(); len(got) < 3 || got[1].PID != parent || got[2].Process != top {
			t.Fatalf("%+v, want %d and %+v above", got, parent, top)
		}
	}
	_ = input.Close()
	_ = cmd.Wait()
	if got := child.Lineage(); len(got) < 2 || got[1].PID != parent || len(got) > 2 && got[2].PID == top.PID {
		t.Errorf("%+v after %+v has ended", got, top)
	}
}

// TestLongArguments: Arguments returns all, however long one is. What Lineage reads ends with whole arguments.
func TestLongArguments(t *testing.T) {
	cmd := prepare(t, ourselves, "sit")
	cmd.Args = append(cmd.Args, "first", strings.Repeat("x", 100<<10), "last")
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	child := begin(t, cmd, hold)
	p := find(t, child.Process.Pid)
	if got := p.Arguments(); !slices.Equal(got, cmd.Args) {
		t.Errorf("Arguments returns %.200q", got)
	}
	got := p.Lineage()
	if len(got) == 0 || !slices.Equal(got[0].Arguments, append(cmd.Args[:len(cmd.Args)-2:len(cmd.Args)-2], "…")) {
		t.Errorf("%+v", got)
	}
}

// TestNotAfter: starts are compared as numbers.
func TestNotAfter(t *testing.T) {
	if notAfter("boot/1000", "boot/999") || !notAfter("boot/999", "boot/1000") || !notAfter("boot/7", "boot/7") {
		t.Error("the order is wrong")
	}
}

// TestName: a program may have any name.
func TestName(t *testing.T) {
	name := ") S 1 (\n) x"
	path := filepath.Join(t.TempDir(), name)
	self, err := os.ReadFile("/proc/self/exe")
	if err := errors.Join(err, os.WriteFile(path, self, 0o700)); err != nil {
		t.Fatal(err)
	}
	cmd := prepare(t, ourselves, "sit")
	cmd.Path = path
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	child := begin(t, cmd, hold)
	p := find(t, child.Process.Pid)
	if got, _ := p.Program(); got != name {
		t.Errorf("got %q", got)
	}
	for parent := range p.Parents() {
		if parent != find(t, os.Getpid()) {
			t.Errorf("its parent is %+v", parent)
		}
		break
	}
}

func TestTool(t *testing.T) {
	for _, tt := range []struct {
		arguments []string
		want      string
	}{
		{nil, ""},
		{[]string{""}, "."},
		{[]string{"/usr/bin/terraform", "plan"}, "terraform"},
		{[]string{"/usr/bin/python3.12", "/usr/bin/aws", "s3"}, "aws"},
		{[]string{"python3", "-m", "awscli"}, "python3"},
		{[]string{"node", ""}, "node"},
		{[]string{"bash"}, "bash"},
		{[]string{"-zsh"}, "zsh"},
		{[]string{"pythonx", "script"}, "pythonx"},
		{[]string{"/usr/bin/broker", "exec", "prod", "--", "python3", "/opt/deploy", "--"}, "deploy"},
		{[]string{"broker", "exec", "prod", "--"}, "broker"},
		{[]string{"git", "log", "--", "x"}, "git"},
	} {
		if got := ToolOf(tt.arguments); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.arguments, got, tt.want)
		}
	}
}

// TestHelper: a shell that an SDK starts for credproc is not the tool that people know; their own scripts are.
func TestHelper(t *testing.T) {
	for line, want := range map[string]bool{
		"credproc@prod":                                 true,
		"/usr/local/bin/credproc@prod":                  true,
		"/bin/sh@-c@/usr/local/bin/credproc prod":       true,
		`sh@-c@"/opt/my tools/credproc" prod`:           true,
		"bash@-c@ '/opt/my tools/credproc' 'two words'": true,
		"sh@-c@credproc":                                true,
		"":                                              false,
		"sh":                                            false,
		"sh@-c@":                                        false,
		`sh@-c@"`:                                       false,
		"sh@-c@credproc prod; rm -r x":                  false,
		"sh@-c@credproc prod | jq .":                    false,
		"sh@-c@credproc prod\nterraform destroy":        false,
		"sh@-c@ls /usr/local/bin/credproc":              false,
		"sh@-c@credproc prod@x":                         false,
		"sh@-x@credproc prod":                           false,
		"xargs@-c@credproc prod":                        false,
		"aws@s3@credproc":                               false,
	} {
		arguments := strings.Split(line, "@")
		if line == "" {
			arguments = nil
		}
		if got := Helper(arguments); got != want {
			t.Errorf("%q: %t", arguments, got)
		}
	}
}

// TestTerminal: only the controlling terminal counts, whatever the standard files are.
func TestTerminal(t *testing.T) {
	for _, controlling := range []bool{true, false} {
		ours, theirs, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ours.Close() }()
		cmd := prepare(t, ourselves, "sit")
		cmd.Stdin = theirs
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: controlling}
		child := begin(t, cmd, ours)
		want := ""
		if controlling {
			want = theirs.Name()
		}
		p := find(t, child.Process.Pid)
		if got := p.Terminal(); got != want {
			t.Errorf("the terminal is %q, want %q", got, want)
		}
		if got := later(p).Terminal(); got != "" {
			t.Errorf("a process that is gone has the terminal %q", got)
		}
		_ = theirs.Close()
	}
}

func TestDir(t *testing.T) {
	cmd := prepare(t, ourselves, "sit")
	cmd.Dir = t.TempDir()
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	child := begin(t, cmd, hold)
	p := find(t, child.Process.Pid)
	if got := p.Dir(); got != cmd.Dir {
		t.Errorf("the directory is %q, want %q", got, cmd.Dir)
	}
	if got := later(p).Dir(); got != "" {
		t.Errorf("a process that is gone is in %q", got)
	}
}

// TestUnix: the peer of a client, for ourselves and for another user, and whether it has left.
func TestUnix(t *testing.T) {
	for _, uid := range []uint32{ourselves, stranger} {
		dir, err := os.MkdirTemp("", "peer-")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		path := filepath.Join(dir, "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o777)); err != nil {
			t.Fatal(err)
		}
		child := playAs(t, uid, "unix "+path)
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		want := Peer{int(uid), find(t, child.Process.Pid)}
		if got, err := Unix(conn.(*net.UnixConn)); err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
		ended, known := Left(conn.(*net.UnixConn))
		if ended {
			t.Error("a process that runs has left")
		}
		_ = child.hold.Close()
		if err := want.Ended(t.Context()); err != nil { // its parent has not waited for it yet
			t.Error(err)
		}
		if ended, now := Left(conn.(*net.UnixConn)); ended != known || now != known {
			t.Errorf("a process that has ended has left: %v, known %v", ended, now)
		}
		_ = child.Wait()
		if got, err := Unix(conn.(*net.UnixConn)); !errors.Is(err, ErrEnded) {
			t.Errorf("a process that has ended: %+v, %v", got, err)
		}
		_ = conn.Close()
		if got, err := Unix(conn.(*net.UnixConn)); err == nil {
			t.Errorf("a connection that is closed: %+v", got)
		}
	}
}
