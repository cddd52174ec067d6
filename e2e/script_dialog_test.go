package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
)

// line is a line of a dialog: what the terminal must show, or what the person types.
type line struct {
	typed bool
	text  string
}

// parseDialog reads lines of the form "< text that is shown" and "> text that is typed".
func parseDialog(text string) ([]line, error) {
	var lines []line
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		switch {
		case strings.HasPrefix(l, "< "):
			lines = append(lines, line{false, l[2:]})
		case strings.HasPrefix(l, "> "), l == ">":
			lines = append(lines, line{true, strings.TrimPrefix(l[1:], " ")})
		case strings.TrimSpace(l) != "":
			return nil, fmt.Errorf("a line of a dialog begins with < or >, not %q", l)
		}
	}
	return lines, nil
}

// converse runs a command whose controlling terminal is a pseudo-terminal, with stdout and stderr elsewhere, and
// plays the person. shown is everything that the terminal showed.
func converse(cmd *exec.Cmd, dialog []line) (r result, shown string, err error) {
	master, terminal, err := pty.Open()
	if err != nil {
		return result{}, "", fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	defer func() { _ = master.Close() }()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		_ = terminal.Close()
		return result{}, "", err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	defer func() {
		_ = cmd.Process.Kill()
		<-ended
	}()

	var mu sync.Mutex
	var screen bytes.Buffer
	readerEnded := make(chan struct{})
	go func() {
		defer close(readerEnded)
		buf := make([]byte, 1024)
		for {
			n, err := master.Read(buf)
			mu.Lock()
			screen.Write(buf[:n])
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	text := func() string {
		mu.Lock()
		defer mu.Unlock()
		return screen.String()
	}
	seen := 0
	for _, l := range dialog {
		if l.typed {
			// A person types only once the prompt is there, and a program that hides the input needs a moment to
			// switch the terminal's mode.
			time.Sleep(30 * time.Millisecond)
			keys := l.text + "\n"
			if l.text == "^C" {
				keys = "\x03"
			}
			if _, err := master.WriteString(keys); err != nil {
				return result{}, text(), fmt.Errorf("type %q: %w", l.text, err)
			}
			continue
		}
		for limit := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			if at := strings.Index(text()[seen:], l.text); at >= 0 {
				seen += at + len(l.text)
				break
			}
			if time.Now().After(limit) || isClosed(ended) && !strings.Contains(text()[seen:], l.text) {
				_ = cmd.Process.Kill()
				<-ended
				return result{}, text(), fmt.Errorf("the terminal never showed %q; it showed:\n%s\nstdout: %s\nstderr: %s", l.text, text(), stdout.String(), stderr.String())
			}
		}
	}
	select {
	case <-ended:
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		<-ended
		return result{}, text(), fmt.Errorf("the program did not end after the dialog; the terminal showed:\n%s", text())
	}
	_ = terminal.Close()
	select {
	case <-readerEnded: // everything was read
	case <-time.After(patience):
	}
	return result{stdout.String(), stderr.String(), exitCode(cmd.ProcessState)}, text(), nil
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		time.Sleep(50 * time.Millisecond) // for its last output
		return true
	default:
		return false
	}
}
