//go:build clients && linux

package mfa

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// needs returns the path of a program that is not ours. Without it, the test skips loudly, and fails in CI.
func needs(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("MISSING, NOT PROVEN: %s; see `make deps-clients`", program)
		}
		t.Skipf("SKIPPED, NOT PROVEN: %s is not here; see `make deps-clients`", program)
	}
	return path
}

// alone makes a PATH that has only one program, under this name.
func alone(t *testing.T, path, name string) *fakes {
	t.Helper()
	f := newFakes(t)
	if err := os.Symlink(path, filepath.Join(f.dir, name)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", t.TempDir())
	return f
}

// person is a person at a terminal, with its contents.
type person struct {
	requester *exec.Cmd // the program in the terminal's foreground
	file      *os.File
	tty       *os.File

	mu   sync.Mutex
	seen bytes.Buffer
}

// newPerson opens a terminal with another program in its foreground, like the program that needs credentials.
func newPerson(t *testing.T) *person {
	t.Helper()
	file, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(file, &pty.Winsize{Rows: 24, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	// Open it again, non-blocking, so that it can be closed during a read.
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	file = os.NewFile(uintptr(fd), "terminal")
	requester := exec.Command("/bin/sleep", "1000")
	requester.Stdin = tty
	requester.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := requester.Start(); err != nil {
		t.Fatal(err)
	}
	p := &person{file: file, tty: tty, requester: requester}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := file.Read(buf)
			p.mu.Lock()
			p.seen.Write(buf[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = requester.Process.Kill()
		_ = requester.Wait()
		tty.Close()
		file.Close()
	})
	return p
}

// sees waits for a text, and removes what was seen from the screen.
func (p *person) sees(t *testing.T, text string) string {
	t.Helper()
	for give := time.Now().Add(patience); time.Now().Before(give); time.Sleep(20 * time.Millisecond) {
		p.mu.Lock()
		screen := p.seen.String()
		if strings.Contains(screen, text) {
			p.seen.Reset()
			p.mu.Unlock()
			return screen
		}
		p.mu.Unlock()
	}
	t.Errorf("never saw %q, but %q", text, p.screen())
	return ""
}

func (p *person) screen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.String()
}

func (p *person) types(t *testing.T, keys string) {
	t.Helper()
	p.isHidden(t)
	time.Sleep(200 * time.Millisecond) // the program prompts first and then drops earlier input
	if _, err := p.file.WriteString(keys); err != nil {
		t.Error(err)
	}
}

func (p *person) echoes(t *testing.T) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0 && state.Lflag&unix.ICANON != 0
}

// isHidden waits until typed text is not echoed.
func (p *person) isHidden(t *testing.T) {
	t.Helper()
	poll(t, "the terminal echoes no code", func() bool { return !p.echoes(t) })
}

type outcome struct {
	code string
	err  error
}

func askSoon(ctx context.Context, q Prompt) <-chan outcome {
	c := make(chan outcome, 1)
	go func() {
		code, err := AskGUI(ctx, q)
		c <- outcome{code.Reveal(), err}
	}()
	return c
}

// TestClientPinentry: a person at a terminal uses Debian's pinentry programs.
func TestClientPinentry(t *testing.T) {
	for _, flavor := range []string{"pinentry-tty", "pinentry-curses"} {
		t.Run(flavor, func(t *testing.T) {
			path := needs(t, flavor)
			f := alone(t, path, "pinentry")
			p := newPerson(t)
			q := prompt()
			q.TTY, q.Env = p.tty.Name(), []string{"TERM=xterm", "LC_ALL=C.UTF-8"}
			goroutines, fds := runtime.NumGoroutine(), descriptors()
			for _, tt := range []struct {
				name string
				keys []string
				code string
				err  error
			}{
				{"right", []string{"123456\r"}, "123456", nil},
				{"with a blank", []string{"123 456\r"}, "123456", nil},
				{"wrong, then right", []string{"12345\r", "654321\r"}, "654321", nil},
				{"letters twice, then right", []string{"paul\r", "123456x\r", "654321\r"}, "654321", nil},
				{"empty", []string{"\r"}, "", ErrCancelled},
				{"wrong, then empty", []string{"1\r", "\r"}, "", ErrCancelled},
			} {
				result := askSoon(t.Context(), q)
				for i, keys := range tt.keys {
					screen := p.sees(t, "MFA code: ")
					for _, want := range []string{"security", "mfa/paul", "aws (pid 4711)"} {
						if !strings.Contains(screen, want) {
							t.Errorf("%s: the prompt %q does not name %s", tt.name, screen, want)
						}
					}
					if again := strings.Contains(screen, "6 digits"); again != (i > 0) {
						t.Errorf("%s: answer %d was asked for by %q", tt.name, i, screen)
					}
					p.types(t, keys)
				}
				got := <-result
				if got.code != tt.code || !errors.Is(got.err, tt.err) {
					t.Errorf("%s: got %q, %v", tt.name, got.code, got.err)
				}
				if screen := p.screen(); strings.Contains(screen, "12345") || strings.Contains(screen, "65432") {
					t.Errorf("%s: the code is on the screen: %q", tt.name, screen)
				}
				if !p.echoes(t) {
					t.Errorf("%s: the terminal does not echo lines any more", tt.name)
				}
			}

			ctx, cancel := context.WithCancel(t.Context())
			result := askSoon(ctx, q)
			p.sees(t, "MFA code: ")
			p.isHidden(t)
			cancel()
			if got := <-result; !errors.Is(got.err, context.Canceled) {
				t.Error(got)
			}
			if !p.echoes(t) {
				t.Error("withdrawn: the terminal does not echo lines any more")
			}

			ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if got := <-askSoon(ctx, q); !errors.Is(got.err, context.DeadlineExceeded) {
				t.Error(got)
			}
			if !p.echoes(t) {
				t.Error("timed out: the terminal does not echo lines any more")
			}

			result = askSoon(t.Context(), q)
			p.sees(t, "MFA code: ")
			p.isHidden(t)
			p.file.Close() // the terminal's window is closed
			if got := <-result; !errors.Is(got.err, ErrCancelled) {
				t.Errorf("the terminal has gone: %v", got.err)
			}
			// It ends with its terminal, unless the tests run under nohup.
			_ = p.requester.Process.Kill()
			_ = p.requester.Wait()
			allGone(t, f.mark, goroutines, fds)

			q.TTY, q.Env = "", []string{"DISPLAY=:99999"}
			if got := <-askSoon(t.Context(), q); !errors.Is(got.err, ErrNobody) {
				t.Errorf("without a terminal: %v", got)
			}
		})
	}
}

// newDisplay starts a virtual display and returns its name.
func newDisplay(t *testing.T) string {
	t.Helper()
	xvfb := needs(t, "Xvfb")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(xvfb, "-displayfd", "3", "-screen", "0", "1024x600x24", "-noreset", "-nolisten", "tcp")
	cmd.ExtraFiles = []*os.File{w}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("the virtual display does not start: %v", err)
	}
	return ":" + strings.TrimSpace(number)
}

// screen is a virtual display with a person who uses its keyboard.
type screen struct {
	t       *testing.T
	display string
	xdotool string
	title   string // of the windows that are expected
}

func newScreen(t *testing.T, title string) *screen {
	t.Helper()
	xdotool := needs(t, "xdotool")
	return &screen{t, newDisplay(t), xdotool, title}
}

func (s *screen) do(args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.xdotool, args...)
	cmd.Env = []string{"DISPLAY=" + s.display}
	out, _ := cmd.Output()
	return strings.TrimSpace(string(out))
}

func (s *screen) windows() string { return s.do("search", "--onlyvisible", "--name", "^"+s.title+"$") }

// opens waits for a window of another process than before, focuses it and returns its process.
func (s *screen) opens(before string) string {
	s.t.Helper()
	for give := time.Now().Add(patience); time.Now().Before(give); time.Sleep(20 * time.Millisecond) {
		id, _, _ := strings.Cut(s.windows(), "\n")
		if pid := s.do("getwindowpid", id); id != "" && pid != "" && pid != before {
			s.do("windowfocus", "--sync", id)
			time.Sleep(300 * time.Millisecond)
			return pid
		}
	}
	s.t.Fatalf("no window was opened on %s; there is %q", s.display, s.do("search", "--name", ""))
	return ""
}

func (s *screen) isEmpty() {
	s.t.Helper()
	poll(s.t, "no window is left behind", func() bool { return s.windows() == "" })
}

// TestClientWindows: a person uses zenity and kdialog.
func TestClientWindows(t *testing.T) {
	for _, program := range []string{"zenity", "kdialog"} {
		t.Run(program, func(t *testing.T) {
			path, s := needs(t, program), newScreen(t, title)
			f := alone(t, path, program)
			q := prompt()
			q.Source, q.Env = "a_b <b>&amp;</b> \\n --x", []string{"DISPLAY=" + s.display}

			goroutines, fds := runtime.NumGoroutine(), descriptors()
			result := askSoon(t.Context(), q)
			first := s.opens("")
			s.do("type", "12345")
			s.do("key", "Return")
			s.opens(first)
			s.do("type", "123 456")
			s.do("key", "Return")
			if got := <-result; got.code != "123456" || got.err != nil {
				t.Errorf("wrong, then right: %v", got.err)
			}
			s.isEmpty()

			result = askSoon(t.Context(), q)
			s.opens("")
			s.do("key", "Escape")
			if got := <-result; !errors.Is(got.err, ErrCancelled) {
				t.Errorf("Escape: %v", got.err)
			}
			s.isEmpty()

			result = askSoon(t.Context(), q)
			s.opens("")
			s.do("key", "Return")
			if got := <-result; !errors.Is(got.err, ErrCancelled) {
				t.Errorf("an empty answer: %v", got.err)
			}
			s.isEmpty()

			ctx, cancel := context.WithCancel(t.Context())
			result = askSoon(ctx, q)
			s.opens("")
			s.do("type", "1234")
			cancel()
			if got := <-result; !errors.Is(got.err, context.Canceled) {
				t.Errorf("withdrawn: %v", got.err)
			}
			s.isEmpty()
			allGone(t, f.mark, goroutines, fds)

			q.Env = []string{"DISPLAY=:99999"}
			if got := <-askSoon(t.Context(), q); !errors.Is(got.err, ErrNobody) {
				t.Errorf("no such display: %v", got.err)
			}
		})
	}
}

// TestClientConfirm: a person answers zenity and kdialog.
func TestClientConfirm(t *testing.T) {
	type answer struct {
		name string
		keys [][]string // calls of xdotool
		is   error
	}
	for program, answers := range map[string][]answer{
		"zenity": {
			{"the other button", [][]string{{"key", "Tab", "Return"}}, nil},
			{"Enter", [][]string{{"key", "Return"}}, ErrCancelled},
			{"space", [][]string{{"key", "space"}}, ErrCancelled},
			{"a destroyed window", [][]string{{"search", "--name", "^" + confirmTitle + "$", "windowclose"}}, ErrCancelled},
		},
		"kdialog": {
			{"yes", [][]string{{"type", "yes"}, {"key", "Return"}}, nil},
			{"another word", [][]string{{"type", "ye"}, {"key", "Return"}}, ErrCancelled},
			{"Enter", [][]string{{"key", "Return"}}, ErrCancelled},
		},
	} {
		t.Run(program, func(t *testing.T) {
			path, s := needs(t, program), newScreen(t, confirmTitle)
			f := alone(t, path, program)
			q := Confirmation{Env: []string{"DISPLAY=" + s.display}, Lines: []string{"Profile: prod",
				"Program: a_b <b>&amp;</b> \\n --x"}}
			soon := func(ctx context.Context) <-chan error {
				c := make(chan error, 1)
				go func() { c <- Confirm(ctx, q) }()
				s.opens("")
				return c
			}
			goroutines, fds := runtime.NumGoroutine(), descriptors()
			answers = append(answers, answer{"Escape", [][]string{{"key", "Escape"}}, ErrCancelled})
			for _, tt := range answers {
				result := soon(t.Context())
				for _, keys := range tt.keys {
					s.do(keys...)
				}
				if err := <-result; !errors.Is(err, tt.is) || (err == nil) != (tt.is == nil) {
					t.Errorf("%s: %v", tt.name, err)
				}
				s.isEmpty()
			}

			ctx, cancel := context.WithCancel(t.Context())
			result := soon(ctx)
			cancel()
			if err := <-result; !errors.Is(err, context.Canceled) {
				t.Errorf("withdrawn: %v", err)
			}
			s.isEmpty()
			allGone(t, f.mark, goroutines, fds)

			q.Env = []string{"DISPLAY=:99999"}
			if err := Confirm(t.Context(), q); !errors.Is(err, ErrNobody) {
				t.Errorf("no such display: %v", err)
			}
		})
	}
}

// TestClientConfirmOnATerminal: a person at a terminal types the word into pinentry.
func TestClientConfirmOnATerminal(t *testing.T) {
	for _, flavor := range []string{"pinentry-tty", "pinentry-curses"} {
		t.Run(flavor, func(t *testing.T) {
			f := alone(t, needs(t, flavor), "pinentry")
			p := newPerson(t)
			q := Confirmation{Lines: []string{"Profile: prod", "Program: terraform destroy"},
				TTY: p.tty.Name(), Env: []string{"TERM=xterm", "LC_ALL=C.UTF-8"}}
			goroutines, fds := runtime.NumGoroutine(), descriptors()
			for keys, is := range map[string]error{"yes\r": nil, "\r": ErrCancelled, "no\r": ErrCancelled, "y\r": ErrCancelled} {
				result := make(chan error, 1)
				go func() { result <- Confirm(t.Context(), q) }()
				screen := p.sees(t, "Type yes:")
				for _, want := range []string{confirmHeading, "Profile: prod", "Program: terraform destroy", typeYes} {
					if !strings.Contains(screen, want) {
						t.Errorf("%q does not show %q", screen, want)
					}
				}
				p.types(t, keys)
				if err := <-result; !errors.Is(err, is) || (err == nil) != (is == nil) {
					t.Errorf("%q: %v", keys, err)
				}
				if !p.echoes(t) {
					t.Errorf("%q: the terminal does not echo lines any more", keys)
				}
			}
			_ = p.requester.Process.Kill()
			_ = p.requester.Wait()
			allGone(t, f.mark, goroutines, fds)
		})
	}
}
