package e2e

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// seat is a person at a terminal of their own, on which a program runs. Unlike converse
// it lets a test look at several terminals at once, and at what else is going on.
type seat struct {
	t            testing.TB
	master, tty  *os.File
	cmd          *exec.Cmd
	stdout, err  bytes.Buffer // where the program's own are not the terminal
	ended        chan struct{}
	before       unix.Termios // of the terminal, as the program found it
	mu           sync.Mutex
	screen       bytes.Buffer
	seen         int // so much of the screen was looked at
	readerEnded  chan struct{}
	terminalGone bool
	columns      uint16 // of the terminal; 0 for 200
}

// patience is how long a person waits for something to appear.
const patience = time.Minute

// sit starts a program with a terminal as its controlling one and its stdin, stdout and stderr elsewhere:
// as credproc is started by an AWS tool.
func (h *house) sit(t testing.TB, name string, args ...string) *seat {
	t.Helper()
	s := &seat{t: t, cmd: h.command(name, args...)}
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.err
	s.start()
	return s
}

// shell starts a program that has the terminal as its stdin, stdout and stderr too.
func (h *house) shell(t testing.TB, name string, args ...string) *seat {
	t.Helper()
	s := &seat{t: t, cmd: h.command(name, args...)}
	s.start()
	return s
}

func (s *seat) start() {
	s.t.Helper()
	master, tty, err := pty.Open()
	must(s.t, err)
	must(s.t, pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: cmp.Or(s.columns, 200)}))
	// Non-blocking, so that closing it ends the read that is under way, and hangs the terminal up.
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	must(s.t, err)
	must(s.t, unix.SetNonblock(fd, true))
	s.master, s.tty = os.NewFile(uintptr(fd), "terminal"), tty
	must(s.t, master.Close())
	s.before = s.modes()
	onTerminal := s.cmd.Stdout == nil
	if onTerminal {
		s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = tty, tty, tty
	} else {
		// The terminal is at a descriptor that the program knows nothing of.
		s.cmd.ExtraFiles = []*os.File{tty}
	}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if !onTerminal {
		s.cmd.SysProcAttr.Ctty = 3
	}
	must(s.t, s.cmd.Start())
	s.ended, s.readerEnded = make(chan struct{}), make(chan struct{})
	go func() {
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	go func() {
		defer close(s.readerEnded)
		buf := make([]byte, 4096)
		for {
			n, err := s.master.Read(buf)
			s.mu.Lock()
			s.screen.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	s.t.Cleanup(func() {
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.ended
		s.leave()
	})
}

// leave takes the terminal away, as a window that is closed.
func (s *seat) leave() {
	if s.terminalGone {
		return
	}
	s.terminalGone = true
	_ = s.tty.Close()
	_ = s.master.Close()
	select {
	case <-s.readerEnded:
	case <-time.After(patience):
		s.t.Error("the terminal could not be taken away")
	}
}

// modes are those of the terminal now.
func (s *seat) modes() unix.Termios {
	s.t.Helper()
	raw, err := s.tty.SyscallConn()
	must(s.t, err)
	var modes *unix.Termios
	var failed error
	must(s.t, raw.Control(func(fd uintptr) { modes, failed = unix.IoctlGetTermios(int(fd), unix.TCGETS) }))
	must(s.t, failed)
	return *modes
}

// shown is all that the terminal showed.
func (s *seat) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.screen.String()
}

// waits looks for a text that the terminal did not show before.
func (s *seat) waits(text string) {
	s.t.Helper()
	if !s.shows(text) {
		s.t.Fatalf("the terminal never showed %q; it showed:\n%s\nstdout: %s\nstderr: %s", text, s.shown(), s.stdout.String(), s.err.String())
	}
}

// shows is waits for a text that may not come: it reports false once the program has ended.
func (s *seat) shows(text string) bool {
	for limit := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if at := strings.Index(s.shown()[s.seen:], text); at >= 0 {
			s.seen += at + len(text)
			return true
		}
		if isClosed(s.ended) {
			s.drain()
		}
		if time.Now().After(limit) || isClosed(s.ended) && !strings.Contains(s.shown()[s.seen:], text) {
			return false
		}
	}
}

// keys types without a Return.
func (s *seat) keys(text string) {
	s.t.Helper()
	_, err := s.master.WriteString(text)
	must(s.t, err)
}

// types types a line.
func (s *seat) types(text string) {
	s.t.Helper()
	s.keys(text + "\r")
}

// ends waits for the program to end.
func (s *seat) ends() result {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(2 * time.Minute):
		s.t.Fatalf("the program did not end; its terminal showed:\n%s", s.shown())
	}
	s.drain()
	return result{s.stdout.String(), s.err.String(), exitCode(s.cmd.ProcessState)}
}

// drained is written behind what a program wrote, to see when all of that was read.
const drained = "\x1eall was read\x1e"

// drain waits until all that a program wrote before it ended was read.
func (s *seat) drain() {
	if s.terminalGone {
		return
	}
	if _, err := s.tty.WriteString(drained); err != nil {
		return // hung up
	}
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		before, after, found := strings.Cut(s.screen.String(), drained)
		if found {
			s.screen.Reset()
			s.screen.WriteString(before + after)
		}
		s.mu.Unlock()
		if found {
			return
		}
	}
	s.t.Error("what the program wrote could not be read to its end")
}

// running reports whether the program still runs after a while.
func (s *seat) running(while time.Duration) bool {
	select {
	case <-s.ended:
		return false
	case <-time.After(while):
		return true
	}
}

// succeeds waits for credproc's document.
func (s *seat) succeeds() document {
	s.t.Helper()
	r := s.ends()
	d, err := parseDocument(r.stdout)
	if r.code != 0 || err != nil || r.stderr != "" {
		s.t.Fatalf("%v: %v\nthe terminal showed:\n%s", err, r, s.shown())
	}
	return d
}

// fails waits for a failure as the documents describe it, and returns what was said.
func (s *seat) fails(code string) string {
	s.t.Helper()
	r := s.ends()
	if err := checkFailure(r, code, filepath.Base(s.cmd.Path), nil); err != nil {
		s.t.Fatalf("%v\nthe terminal showed:\n%s", err, s.shown())
	}
	return r.stderr
}

// question is how every question for a code begins.
const question = "MFA code for "

// asked is how often somebody was asked on the terminal.
func (s *seat) asked(want int) {
	s.t.Helper()
	if n := strings.Count(s.shown(), question); n != want {
		s.t.Errorf("asked %d times, want %d; the terminal showed:\n%s", n, want, s.shown())
	}
}

// asItWas is that the terminal's modes are those that the program found.
func (s *seat) asItWas() {
	s.t.Helper()
	if now := s.modes(); now != s.before {
		s.t.Errorf("the terminal was left in another mode: %+v, was %+v", now, s.before)
	}
}

// seedless is a furnished house whose codes a person has to give.
func seedless(t testing.TB, settings string, simArgs ...string) *house {
	t.Helper()
	h := newHouse(t)
	must(t, h.startSim(simArgs...))
	must(t, h.settings(settings))
	must(t, h.write(h.awsConfig(), demoConfig))
	must(t, h.furnish(false))
	return h
}

// code is one that AWS would take now: what the device shows, or a neighbour of it where that is spent.
func (h *house) code(t testing.TB, device string) string {
	t.Helper()
	var answer struct{ Code, Fresh string }
	must(t, h.sim.call("GET", "code?serial="+device, "", &answer))
	if len(answer.Fresh) != 6 {
		t.Fatalf("the simulator has no code left for %s", device)
	}
	return answer.Fresh
}

// codes are those that AWS was told, in their order, with the action that each came with.
func (h *house) codes(t testing.TB) (codes []record) {
	t.Helper()
	list, err := h.sim.requests()
	must(t, err)
	for _, r := range list {
		if r.TokenCode != "" {
			codes = append(codes, r)
		}
	}
	return codes
}

// toldCodes fails the test unless AWS was told so many codes, each of them once.
func (h *house) toldCodes(t testing.TB, want int) {
	t.Helper()
	codes, told := h.codes(t), map[string]bool{}
	for _, r := range codes {
		if device := r.Params["SerialNumber"] + " "; told[device+r.TokenCode] {
			t.Errorf("a code of %swas sent twice", device)
		} else {
			told[device+r.TokenCode] = true
		}
	}
	if len(codes) != want {
		t.Errorf("AWS was told %d codes, want %d", len(codes), want)
	}
}

// herd starts so many of a program in one foreground job, on a terminal of their own. What each does is in the
// files of dir.
func (h *house) herd(t testing.TB, n int, argv ...string) (s *seat, dir string) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	dir = t.TempDir()
	s = &seat{t: t, cmd: h.command(self, argv...)}
	s.cmd.Env = append(s.cmd.Env, "E2E_ROLE=herd", fmt.Sprintf("E2E_N=%d", n), "E2E_OUT="+dir)
	s.start()
	return s, dir
}

// herdResults waits for a herd and returns how each ended.
func herdResults(t testing.TB, s *seat, dir string, n int) []result {
	t.Helper()
	if r := s.ends(); r.code != 0 {
		t.Fatalf("the herd: %d: %s", r.code, s.shown())
	}
	results := make([]result, n)
	for i := range results {
		read := func(what string) string {
			text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%s.%d", what, i)))
			must(t, err)
			return string(text)
		}
		results[i] = result{stdout: read("out"), stderr: read("err")}
		_, err := fmt.Sscan(read("code"), &results[i].code)
		must(t, err)
	}
	return results
}

// TestScriptsLeaveTheTerminalAlone runs scripts whose commands ask for codes and passphrases in a process that has a
// controlling terminal, as `make test` has that a person types. Nothing may be read or shown there.
func TestScriptsLeaveTheTerminalAlone(t *testing.T) {
	t.Parallel()
	master, tty, err := pty.Open()
	must(t, err)
	defer func() { _ = master.Close() }()
	const typed = "typed by the person\n"
	_, err = master.WriteString(typed)
	must(t, err)
	const line = `"$0" -test.v -test.run '^TestScripts$/^scripts$/^(add|sync)$'; exit $?`
	cmd := exec.Command("sh", "-c", line, os.Args[0])
	cmd.Env = append(os.Environ(), "E2E_BINARIES="+binaries)
	cmd.ExtraFiles = []*os.File{tty}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
	watchdog := time.AfterFunc(patience, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	r := finishWithin(2*patience, cmd)
	watchdog.Stop()
	for _, name := range []string{"add", "sync"} {
		if !strings.Contains(r.stdout, "--- PASS: TestScripts/scripts/"+name+" ") {
			t.Errorf("script %s did not pass: %v", name, r)
		}
	}
	// The terminal shows what is typed, and it can still be read by the shell that comes next.
	unread := make([]byte, 2*len(typed))
	must(t, tty.SetReadDeadline(time.Now().Add(patience)))
	n, err := tty.Read(unread)
	if err != nil || string(unread[:n]) != typed {
		t.Errorf("of what was typed %q was left: %v", unread[:n], err)
	}
	must(t, tty.Close())
	shown := make([]byte, 4096)
	n, _ = master.Read(shown)
	if got := strings.ReplaceAll(string(shown[:n]), "\r\n", "\n"); got != typed {
		t.Errorf("the terminal showed %q", got)
	}
}
