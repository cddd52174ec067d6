package peer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"broker/internal/testproc"
)

// TestMain also lets the test binary play another process: it does what it is told, prints a line, and waits for
// the end of its input.
func TestMain(m *testing.M) {
	what, argument, _ := strings.Cut(os.Getenv("PEER_TEST_PLAY"), " ")
	var line any
	switch what {
	case "":
		os.Exit(testproc.Run(m))
	case "connect":
		conn, err := net.Dial("tcp", argument)
		must(err)
		line = conn.LocalAddr()
	case "listen":
		l, err := net.Listen("tcp", argument)
		must(err)
		line = l.Addr()
	case "unix":
		_, err := net.Dial("unix", argument)
		must(err)
	case "tree": // that many generations below this process; the line is the PID of the last
		line = os.Getpid()
		if argument != "0" {
			line = playTree(argument)
		}
	case "exec":
		playExec(argument)
	case "headless":
		playHeadless()
	}
	fmt.Println(line)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func playTree(generations string) string {
	n, err := strconv.Atoi(generations)
	must(err)
	child := exec.Command("/proc/self/exe")
	child.Env = []string{"PEER_TEST_PLAY=tree " + strconv.Itoa(n-1)}
	child.Stdin = os.Stdin
	out, err := child.StdoutPipe()
	must(err)
	must(child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(err)
	return strings.TrimSpace(line)
}

// playExec executes itself that many times, each time from another thread than the first, like programs with many
// threads. Until the kernel has made that thread the first one, the first thread is a zombie.
func playExec(times string) {
	n, err := strconv.Atoi(times)
	must(err)
	if n == 0 {
		return
	}
	runtime.LockOSThread() // locks the first thread, so the next goroutine runs on another
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- syscall.Exec("/proc/self/exe", os.Args, []string{"PEER_TEST_PLAY=exec " + strconv.Itoa(n-1)})
	}()
	must(<-done)
}

// playHeadless ends the first thread. The process goes on until its input ends.
func playHeadless() {
	runtime.LockOSThread() // to the first thread
	go func() {
		for stat := ""; !strings.Contains(stat, ") Z "); {
			b, err := os.ReadFile("/proc/self/stat")
			must(err)
			stat = string(b)
		}
		fmt.Println("headless")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
}

const stranger = 65534

// player is a process that plays a part.
type player struct {
	*exec.Cmd
	line string         // that it printed
	hold io.WriteCloser // the process ends when this is closed
}

// playAs starts the test binary as a user.
func playAs(t *testing.T, uid uint32, what string) player {
	t.Helper()
	cmd := prepare(t, uid, what)
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	return begin(t, cmd, hold)
}

// prepare makes the command of a player.
func prepare(t *testing.T, uid uint32, what string) *exec.Cmd {
	t.Helper()
	path := "/proc/self/exe"
	cmd := exec.Command(path)
	if int(uid) != os.Getuid() {
		if os.Getuid() != 0 {
			t.Skip("SKIPPED, NOT PROVEN: needs root to become another user")
		}
		dir, err := os.MkdirTemp("", "peer-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		self, err := os.ReadFile(path)
		if err := errors.Join(err, os.Chmod(dir, 0o755), os.WriteFile(dir+"/self", self, 0o755)); err != nil {
			t.Fatal(err)
		}
		cmd = exec.Command(dir + "/self")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	cmd.Dir, cmd.Env, cmd.Stderr = "/", []string{"PEER_TEST_PLAY=" + what}, os.Stderr
	return cmd
}

// begin starts the command, calls the functions in meanwhile, and then reads its line.
func begin(t *testing.T, cmd *exec.Cmd, hold io.WriteCloser, meanwhile ...func()) player {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = hold.Close()
		_ = cmd.Wait()
	})
	for _, f := range meanwhile {
		f()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return player{cmd, strings.TrimSpace(line), hold}
}
