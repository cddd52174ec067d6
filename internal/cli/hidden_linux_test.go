package cli

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"broker/internal/fault"
	"broker/internal/tty"
)

// TestHiddenAfterCtrlC checks that Ctrl-C at a prompt for a secret leaves echo on, whenever it comes.
func TestHiddenAfterCtrlC(t *testing.T) {
	master, screen, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = master.Close(), screen.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		e := new(echo)
		if _, err := (terminal{screen, screen, e}).hidden(ctx, "Secret: "); !errors.Is(err, fault.ErrInterrupted) {
			t.Fatal(err)
		}
		e.restore()
		time.Sleep(5 * time.Millisecond) // let a goroutine that still runs finish
		modes, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if modes.Lflag&unix.ECHO == 0 {
			t.Fatal("the terminal was left without echo")
		}
	}
}

// TestPastedAfterCtrlC checks that the end of a prompt for a pasted text leaves echo on if Ctrl-C has turned it on, and
// that the end of the time for the prompt is not taken for Ctrl-C.
func TestPastedAfterCtrlC(t *testing.T) {
	master, screen, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = master.Close(), screen.Close() }()
	e := new(echo)
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, err := (terminal{screen, screen, e}).pasted(ctx, "Text: "); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	lines, err := tty.Keys(screen) // echo is still off
	if err != nil {
		t.Fatal(err)
	}
	e.restore()
	e.whileHidden(lines)
	modes, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if modes.Lflag&unix.ECHO == 0 {
		t.Error("the terminal was left without echo")
	}
}

// TestHiddenAgain checks that each prompt for a secret turns echo off, also if another program turned it on meanwhile,
// and that the mode before the first prompt comes back.
func TestHiddenAgain(t *testing.T) {
	master, screen, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = master.Close(), screen.Close() }()
	modes := func() *unix.Termios {
		t.Helper()
		modes, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return modes
	}
	e, before := new(echo), *modes()
	for range 2 {
		if err := e.hide(screen); err != nil {
			t.Fatal(err)
		}
		now := modes()
		if now.Lflag&unix.ECHO != 0 {
			t.Error("the terminal shows a secret")
		}
		now.Lflag |= unix.ECHO
		if err := unix.IoctlSetTermios(int(screen.Fd()), unix.TCSETS, now); err != nil {
			t.Fatal(err)
		}
	}
	if e.restore(); *modes() != before {
		t.Errorf("the mode is %+v, and was %+v", *modes(), before)
	}
}
