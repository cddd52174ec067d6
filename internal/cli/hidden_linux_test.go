package cli

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"broker/internal/fault"
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
