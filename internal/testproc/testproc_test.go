//go:build unix

package testproc

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "play" {
		os.Exit(play(os.Args[2]))
	}
	os.Exit(Run(m))
}

// play runs a shell line as a test would, after leaveTerminal or without it.
func play(how string) int {
	if how == "leave" {
		if err := leaveTerminal(); err != nil {
			os.Stdout.WriteString(err.Error())
			return 1
		}
	}
	// The line writes to the terminal first, so the terminal has the text by the time the output arrives.
	cmd := exec.Command("sh", "-c", `
		if { echo question >/dev/tty; } 2>/dev/null; then echo asked; else echo no terminal; fi
		kill -HUP $$; echo survived HUP`)
	cmd.Stdout = os.Stdout
	_ = cmd.Run()
	return 0
}

// TestNothingReachesTheTerminal runs a process whose controlling terminal is a pseudo-terminal: as session leader
// and as an ordinary process of the session, with and without nohup. The control cases do the same without
// leaveTerminal.
func TestNothingReachesTheTerminal(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, line, want string }{
		{"control", `"$SELF" play stay; :`, "asked\n"},
		{"control under nohup", `trap "" HUP; "$SELF" play stay; :`, "asked\nsurvived HUP\n"},
		{"usual", `"$SELF" play leave; :`, "no terminal\n"},
		{"leader", `exec "$SELF" play leave`, "no terminal\n"},
		{"nohup", `trap "" HUP; "$SELF" play leave; :`, "no terminal\n"},
		{"leader under nohup", `trap "" HUP; exec "$SELF" play leave`, "no terminal\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			master, tty, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = master.Close() }()
			var said bytes.Buffer
			cmd := exec.Command("sh", "-c", tt.line)
			cmd.Env = append(os.Environ(), "SELF="+self)
			cmd.Stdout, cmd.Stderr = &said, &said
			cmd.ExtraFiles = []*os.File{tty}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v: %s", err, said.String())
			}
			if said.String() != tt.want {
				t.Errorf("the process printed %q, want %q", said.String(), tt.want)
			}
			_ = tty.Close() // the last open copy: now the master can be read to its end
			shown, _ := io.ReadAll(master)
			if asked := strings.Contains(string(shown), "question"); asked != strings.HasPrefix(tt.want, "asked") {
				t.Errorf("the terminal showed %q", shown)
			}
		})
	}
}
