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

// seat is a person at a separate terminal on which a program runs. Unlike converse, it lets a test use several
// terminals at once.
type seat struct {
	t            testing.TB
	master, tty  *os.File
	cmd          *exec.Cmd
	stdout, err  bytes.Buffer // the program's output if it does not go to the terminal
	ended        chan struct{}
	before       unix.Termios // the terminal's modes as the program found them
	mu           sync.Mutex
	screen       bytes.Buffer
	seen         int // number of bytes of the screen that were checked
	readerEnded  chan struct{}
	terminalGone bool
	columns      uint16 // width of the terminal; 0 means 200
	rows         uint16 // 0 means 24
}

// patience is how long a person waits for something to appear.
const patience = time.Minute

// sit starts a program with a controlling terminal, and with stdin, stdout and stderr elsewhere, as an AWS tool
// starts credproc.
func (h *house) sit(t testing.TB, name string, args ...string) *seat {
	t.Helper()
	s := &seat{t: t, cmd: h.command(name, args...)}
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.err
	s.start()
	return s
}

// shell starts a program that also has the terminal as its stdin, stdout and stderr.
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
	must(s.t, pty.Setsize(master, &pty.Winsize{Rows: cmp.Or(s.rows, 24), Cols: cmp.Or(s.columns, 200)}))
	// Non-blocking, so that closing it ends the pending read and hangs up the terminal.
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
		// Pass the terminal at a descriptor that the program does not know.
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

// leave closes the terminal, as closing its window would.
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
		s.t.Error("the terminal could not be closed")
	}
}

// modes returns the present modes of the terminal.
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

// shown returns everything that the terminal showed.
func (s *seat) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.screen.String()
}

// waits waits for a text that the terminal has not shown before.
func (s *seat) waits(text string) {
	s.t.Helper()
	if !s.shows(text) {
		s.t.Fatalf("the terminal never showed %q; it showed:\n%s\nstdout: %s\nstderr: %s", text, s.shown(), s.stdout.String(), s.err.String())
	}
}

// shows waits for a text that may not appear: it returns false once the program has ended.
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

// keys types text without Enter.
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

// ends waits for the end of the program.
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

// drained is written after a program's output, to detect that all of the output was read.
const drained = "\x1eall was read\x1e"

// drain waits until everything that a program wrote before its end was read.
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

// fails waits for a failure in the documented form, and returns its text.
func (s *seat) fails(code string) string {
	s.t.Helper()
	r := s.ends()
	if err := checkFailure(r, code, filepath.Base(s.cmd.Path), nil); err != nil {
		s.t.Fatalf("%v\nthe terminal showed:\n%s", err, s.shown())
	}
	return r.stderr
}

// question is the start of every prompt for a code.
const question = "MFA code for "

// asked fails the test unless the terminal showed this number of prompts.
func (s *seat) asked(want int) {
	s.t.Helper()
	if n := strings.Count(s.shown(), question); n != want {
		s.t.Errorf("%d prompts, want %d; the terminal showed:\n%s", n, want, s.shown())
	}
}

// asItWas fails the test unless the terminal has the modes that the program found.
func (s *seat) asItWas() {
	s.t.Helper()
	if now := s.modes(); now != s.before {
		s.t.Errorf("the terminal was left in another mode: %+v, was %+v", now, s.before)
	}
}

// seedless is a house with a key but no seed, so that a person must give the codes.
func seedless(t testing.TB, settings string, simArgs ...string) *house {
	t.Helper()
	h := newHouse(t)
	must(t, h.startSim(simArgs...))
	must(t, h.settings(settings))
	must(t, h.write(h.awsConfig(), demoConfig))
	must(t, h.furnish(false))
	return h
}

// code returns a code that AWS would accept now: the one that the device shows, or its neighbor if that was used.
func (h *house) code(t testing.TB, device string) string {
	t.Helper()
	var answer struct{ Code, Fresh string }
	must(t, h.sim.call("GET", "code?serial="+device, "", &answer))
	if len(answer.Fresh) != 6 {
		t.Fatalf("the simulator has no code left for %s", device)
	}
	return answer.Fresh
}

// codes returns the codes that AWS got, in order, with the action of each.
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

// toldCodes fails the test unless AWS got this number of codes, each only once.
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
		t.Errorf("AWS got %d codes, want %d", len(codes), want)
	}
}

// herd starts n processes of a program in one foreground job, on a separate terminal. dir holds the result of
// each.
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

// herdResults waits for a herd and returns how each process ended.
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

// TestScriptsLeaveTheTerminalAlone runs scripts whose commands need codes and passphrases in a process with a
// controlling terminal, as when a person types `make test`. The scripts must not read from or write to that
// terminal.
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
	// The terminal still echoes, and the next shell can still read what was typed.
	unread := make([]byte, 2*len(typed))
	must(t, tty.SetReadDeadline(time.Now().Add(patience)))
	n, err := tty.Read(unread)
	if err != nil || string(unread[:n]) != typed {
		t.Errorf("of the typed text, only %q was left: %v", unread[:n], err)
	}
	must(t, tty.Close())
	shown := make([]byte, 4096)
	n, _ = master.Read(shown)
	if got := strings.ReplaceAll(string(shown[:n]), "\r\n", "\n"); got != typed {
		t.Errorf("the terminal showed %q", got)
	}
}
