//go:build unix

package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The programs that hang, flood and fork are tested in internal/mfa. Here are the guarantees of Command itself.

const told = "s3cr3t-of-the-program"

func sh(script string, args ...string) Command {
	return Command{Program: "/bin/sh", Args: append([]string{"-c", script, "sh"}, args...), Env: []string{"PATH=/usr/bin:/bin"}}
}

func TestRun(t *testing.T) {
	flood := strings.Repeat("x", 1<<20)
	c := sh(`printf '%s|' "$0" "$@" "$(pwd)" "$A"; cat`, "a b", "$HOME", "")
	c.Env, c.Stdin = append(c.Env, "A=1 2"), []byte("in")
	if out, err := c.Run(t.Context()); string(out) != "sh|a b|$HOME||/|1 2|in" || err != nil {
		t.Errorf("%q, %v", out, err)
	}

	c = sh(`exit 0`)
	c.Stdin = []byte(flood) // which the program does not read
	if out, err := c.Run(t.Context()); len(out) > 0 || err != nil {
		t.Errorf("%q, %v", out, err)
	}

	c = sh(`cat; cat <&1 >&2`)
	c.Stdin, c.Limit = []byte(flood), len(flood)
	if out, err := c.Run(t.Context()); len(out) != len(flood) {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	c = sh("cat")
	c.Stdin, c.Limit = []byte(flood), len(flood)-1
	if out, err := c.Run(t.Context()); out != nil || !errors.Is(err, ErrTooMuch) {
		t.Errorf("%d bytes, %v", len(out), err)
	}

	var stderr bytes.Buffer
	c = sh(`echo out; echo err >&2; exit 3`)
	c.Stderr = &stderr
	out, err := c.Run(t.Context())
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 3 || exit.Signal != 0 || string(out) != "out\n" || stderr.String() != "err\n" {
		t.Errorf("%q, %q, %v", out, stderr.String(), err)
	}
	_, err = sh(`kill -USR1 $$`).Run(t.Context())
	if !errors.As(err, &exit) || exit.Signal != syscall.SIGUSR1 {
		t.Error(err)
	}

	c = Command{Program: "/bin/sh", Argv0: "another", Args: []string{"-c", `echo "$0"`}}
	if out, err := c.Run(t.Context()); string(out) != "another\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := (Command{Program: "env"}).Run(t.Context()); len(out) > 0 || err != nil {
		t.Errorf("the environment without Env is %q, %v", out, err)
	}
}

// TestIsAlone: the program has its own group and session, no terminal, and none of our descriptors.
func TestIsAlone(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	// Descriptors without the mark come only from our parent, so the test starts itself again.
	if os.Getenv("CHILD_TEST_LEAK") == "" {
		leak, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer leak.Close()
		cmd := exec.Command(os.Args[0], "-test.run=^TestIsAlone$", "-test.v")
		cmd.Env, cmd.ExtraFiles = append(os.Environ(), "CHILD_TEST_LEAK=1"), []*os.File{leak, leak, leak}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	read := func(c Command) []string {
		out, err := c.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(out))
	}
	if fds := read(sh(`ls /proc/$$/fd; :`)); !slices.Equal(fds, []string{"0", "1", "2"}) {
		t.Errorf("descriptors %q", fds)
	}
	f := read(sh(`cat /proc/$$/stat`)) // pid (sh) state ppid pgrp session tty
	if f[0] != f[4] || f[0] != f[5] || f[6] != "0" {
		t.Errorf("pid %s, group %s, session %s, terminal %s", f[0], f[4], f[5], f[6])
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Chdir(dir)
	for name, want := range map[string]error{
		"program": nil, program: nil,
		"": ErrNotFound, "none": ErrNotFound, dir + "/none": ErrNotFound, program + "/x": ErrNotFound,
		"./program": ErrRelative, "x/program": ErrRelative, "~/program": ErrRelative,
		dir: ErrNotStarted, "/etc/passwd": ErrNotStarted,
	} {
		path, err := Find(name)
		if !errors.Is(err, want) || (path == program) != (want == nil) {
			t.Errorf("%q: %q, %v", name, path, err)
		}
		if err != nil && name != "" && strings.Contains(err.Error(), name) {
			t.Errorf("%v repeats the name", err)
		}
	}
	t.Setenv("PATH", ".")
	if path, err := Find("program"); !errors.Is(err, ErrNotFound) {
		t.Errorf("found %q in the current directory, %v", path, err)
	}
}

// TestErrorsAreSilent: no error contains the output, the name or the arguments of the program.
func TestErrorsAreSilent(t *testing.T) {
	for _, c := range []Command{
		sh("echo " + told + "; echo " + told + " >&2; exit 1"),
		sh("yes " + told),
		{Program: "/no/" + told}, {Program: told}, {Program: "x/" + told}, {Program: "/bin/sh", Args: []string{told + "\x00"}},
		{Program: "/bin/sh", Dir: "/no/" + told},
	} {
		_, err := c.Run(t.Context())
		talked := c.Converse(t.Context(), func(l *Lines) error {
			for {
				if _, err := l.Read(); err != nil {
					return err
				}
			}
		})
		for _, err := range []error{err, talked} {
			if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, err), told) {
				t.Errorf("%q: %v", c.Args, err)
			}
		}
	}
}

func TestDeadlines(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	c := sh("sleep 1000 & sleep 1000")
	c.Timeout = 200 * time.Millisecond
	talk := func(l *Lines) error {
		_, err := l.Read()
		return err
	}
	if _, err := c.Run(t.Context()); !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
	if err := c.Converse(t.Context(), talk); !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
	c.Timeout = 0
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Run(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
	if err := c.Converse(ctx, talk); !errors.Is(err, context.DeadlineExceeded) { // before it begins
		t.Error(err)
	}
	if err := c.Converse(t.Context(),
		func(l *Lines) error { l.Within(200 * time.Millisecond); return talk(l) }); !errors.Is(
		err,
		ErrTimeout,
	) {
		t.Error(err)
	}
	for give := time.Now().Add(time.Minute); time.Now().Before(give); time.Sleep(10 * time.Millisecond) {
		if runtime.NumGoroutine() <= goroutines {
			return
		}
	}
	t.Errorf("%d goroutines, were %d", runtime.NumGoroutine(), goroutines)
}

func TestConverse(t *testing.T) {
	echo := sh(`while IFS= read -r x; do [ "$x" = end ] && exit 7; printf '%s!\n' "$x"; done`)
	err := echo.Converse(t.Context(), func(l *Lines) error {
		defer l.Within(time.Minute)()
		for _, line := range []string{"a", "", "b c", strings.Repeat("x", 10000)} {
			if err := l.Write(line); err != nil {
				return err
			}
			if got, err := l.Read(); got != line+"!" || err != nil {
				t.Errorf("%.20q, %v", got, err)
			}
		}
		if err := l.Write("two\nlines"); err == nil {
			t.Error("a line feed was written")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}

	mine := errors.New("mine")
	if err := echo.Converse(t.Context(), func(*Lines) error { return mine }); !errors.Is(err, mine) {
		t.Error(err)
	}
	var exit *ExitError
	if err := echo.Converse(t.Context(), func(l *Lines) error {
		_ = l.Write("end")
		_,
			err := l.Read()
		return err
	}); !errors.As(
		err,
		&exit,
	) ||
		exit.Code != 7 {
		t.Error(err)
	}
	if err := sh("sleep 1000 & exit 0").Converse(t.Context(), func(l *Lines) error { _, err := l.Read(); return err }); !errors.Is(
		err,
		ErrEnded,
	) {
		t.Error(err)
	}
	if err := sh("exit 0").Converse(t.Context(), func(l *Lines) error {
		for {
			if err := l.Write(strings.Repeat("x", 100_000)); err != nil {
				return err
			}
		}
	}); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
	for _, flood := range []string{"yes", "head -c 1000000000 /dev/zero", "head -c 65536 /dev/zero; sleep 1000"} {
		if err := sh(flood).Converse(t.Context(), func(l *Lines) error {
			for {
				if _, err := l.Read(); err != nil {
					return err
				}
			}
		}); !errors.Is(err, ErrTooMuch) {
			t.Errorf("%s: %v", flood, err)
		}
	}
}

// TestTermIsHeard: the program of a conversation can restore its terminal.
func TestTermIsHeard(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	c := sh(`trap ': >"$1"; exit' TERM; echo ready; while :; do :; done`, mark)
	for range 10 { // the machine may be too slow for the grace period, but not every time
		ctx, cancel := context.WithCancel(t.Context())
		err := c.Converse(ctx, func(l *Lines) error {
			if line, err := l.Read(); line != "ready" {
				return err
			}
			cancel()
			_, err := l.Read()
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := os.Stat(mark); err == nil {
			return
		}
	}
	t.Error("the program was killed before it could do anything")
}

// TestManyAtOnce is for the race detector.
func TestManyAtOnce(t *testing.T) {
	results := make(chan error, 40)
	for i := range cap(results) {
		go func() {
			out, err := sh("echo $1", fmt.Sprint(i)).Run(context.Background())
			if err == nil && string(out) != fmt.Sprintln(i) {
				err = fmt.Errorf("%d: %q", i, out)
			}
			results <- err
		}()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
