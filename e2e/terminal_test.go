package e2e

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

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
