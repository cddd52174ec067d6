package child

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// TestWindows: output and exit code of a program, and that a program which does not end is killed with its
// children.
func TestWindows(t *testing.T) {
	cmd := func(line string) Command {
		return Command{Program: os.Getenv("ComSpec"), Args: []string{"/c", line}, Env: []string{"SystemRoot=" + os.Getenv("SystemRoot")}}
	}
	out, err := cmd("echo hello").Run(t.Context())
	if err != nil || strings.TrimSpace(string(out)) != "hello" {
		t.Errorf("%q, %v", out, err)
	}
	var exit *ExitError
	if _, err := cmd("exit 7").Run(t.Context()); !errors.As(err, &exit) || exit.Code != 7 {
		t.Errorf("exit 7: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	endless := cmd(os.Args[0] + " -test.run=TestSleep")
	endless.Env = append(endless.Env, "SLEEP=1")
	if _, err := endless.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a program that does not end: %v", err)
	}
}

// TestSleep is the program that does not end.
func TestSleep(t *testing.T) {
	if os.Getenv("SLEEP") != "" {
		time.Sleep(time.Hour)
	}
}
