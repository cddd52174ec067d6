package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"broker/internal/fault"
	"broker/internal/mfa"
)

// typedAhead is set in the environment of the helper process of TestCodesTypedAhead.
const typedAhead = "BROKER_TEST_TYPED_AHEAD"

func init() {
	helper = func() bool {
		if os.Getenv(typedAhead) == "" {
			return false
		}
		askTyped()
		return true
	}
}

// TestCodesTypedAhead checks that a code that is typed while the next one is awaited is not taken for that one.
func TestCodesTypedAhead(t *testing.T) {
	master, screen, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = master.Close() }()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), typedAhead+"=1")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = screen, &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = screen.Close() // so that the end of the helper ends a read
	shown := ""
	for _, step := range []struct{ prompt, keys string }{
		{"Code that the new device shows now: ", "111111\n222222\n"},
		{"Next code: ", "333333\n"},
	} {
		for b := make([]byte, 1024); !strings.Contains(shown, step.prompt); {
			n, err := master.Read(b)
			if err != nil {
				t.Fatalf("%v; the terminal showed %q", err, shown)
			}
			shown += string(b[:n])
		}
		if _, err := io.WriteString(master, step.keys); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "codes 111111 333333") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// askTyped asks for two codes. The wait between them ends when something is typed.
func askTyped() {
	p := newProgram(os.Stdin, io.Discard, io.Discard)
	now := time.Unix(0, 0)
	p.now = func() time.Time { return now }
	p.pause = func(context.Context, time.Duration) error {
		for n := 0; n == 0; time.Sleep(time.Millisecond) {
			var err error
			if n, err = unix.IoctlGetInt(0, unix.TIOCINQ); err != nil {
				return err
			}
		}
		now = now.Add(mfa.Period)
		return nil
	}
	first, second, err := p.askTwoCodes(context.Background())
	fmt.Println("codes", first.Reveal(), second.Reveal(), err)
}

// TestRejectedCodes checks that the hint after rejected codes goes on with the enrollment: a login does not.
func TestRejectedCodes(t *testing.T) {
	n := &enrollment{p: newProgram(nil, io.Discard, io.Discard), again: "broker mfa enroll security --no-store-seed"}
	for err, want := range map[*fault.Error]fault.Hint{
		fault.New(fault.CodeRejected, "rejected"):                                      n.again,
		fault.New(fault.CodeRejected, "used").WithHint("broker login x --code 123456"): n.again,
		fault.New(fault.Denied, "denied").WithHint("broker policy self-service"):       "broker policy self-service",
	} {
		if got := fault.Of(n.left(err, "the device is not enabled")).Hint; got != want {
			t.Errorf("%v: hint %s", err, got)
		}
	}
}
