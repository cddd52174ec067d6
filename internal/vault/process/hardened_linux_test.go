package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"broker/internal/harden"
	"broker/internal/vault"
)

func init() {
	// A traced thread that is killed waits for its tracer. Only the main thread ends as the caller expects.
	if len(os.Args) > 2 && os.Args[1] == "play" && os.Args[2] == "traced" {
		runtime.LockOSThread()
	}
	systemVaults["reopen"] = func(string) int { // as another process of the same user can do in the first moments
		said := ""
		for _, name := range []string{"0", "1"} {
			f, err := os.Open("/proc/self/fd/" + name)
			if err == nil {
				_ = f.Close()
			}
			said += fmt.Sprintf("%t ", errors.Is(err, syscall.ENXIO))
		}
		fmt.Printf(`{"info":{"access_key_id":%q}}`, said)
		return 0
	}
	// The others write what they receive to the file arg. The test starts them in a way that package ready does
	// not recognize, so they claim by themselves that they are hardened.
	systemVaults["mute"] = func(arg string) int { return noteWithin(arg, 500) }
	systemVaults["right"] = func(arg string) int {
		_, _ = os.Stderr.WriteString(harden.Line + "\n")
		return note(arg)
	}
	systemVaults["careless"] = func(arg string) int {
		const prSetDumpable = 4
		if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 1, 0); errno != 0 {
			return 9
		}
		_, _ = os.Stderr.WriteString(harden.Line + "\n")
		return note(arg)
	}
	systemVaults["traced"] = func(arg string) int { // traced by the caller, which does not know it
		if _, _, errno := syscall.RawSyscall(syscall.SYS_PTRACE, syscall.PTRACE_TRACEME, 0, 0); errno != 0 {
			return 9
		}
		_, _ = os.Stderr.WriteString(harden.Line + "\n")
		return note(arg)
	}
}

// note writes the first data that it receives to a file. It waits for it until it is killed.
func note(path string) int { return noteWithin(path, -1) }

// noteWithin gives up after limit milliseconds.
func noteWithin(path string, limit int) int {
	if os.WriteFile(path+".waits", nil, 0o600) != nil {
		return 9
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: 0, Events: unix.POLLIN}}, limit); n == 0 && err == nil {
		return 0
	}
	data := make([]byte, vault.MaxMessage)
	n, err := os.Stdin.Read(data)
	if err != nil && !errors.Is(err, io.EOF) || os.WriteFile(path, data[:n], 0o600) != nil {
		return 9
	}
	return 0
}

// TestNothingBeforeHardened: a vault process receives its request only after it has said that it is hardened and
// the kernel has confirmed it.
func TestNothingBeforeHardened(t *testing.T) {
	for how, want := range map[string]struct {
		sent bool
		says string
	}{
		"right":    {true, "gave no answer"},
		"mute":     {false, "gave no answer"},
		"careless": {false, harden.ErrOpen.Error()},
		"traced":   {false, harden.ErrTraced.Error()},
	} {
		t.Run(how, func(t *testing.T) {
			dir, err := os.MkdirTemp("/tmp", "hardened")
			must(t, err)
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			must(t, os.Chmod(dir, 0o777))
			exe, got := filepath.Join(dir, "exe"), filepath.Join(dir, "got")
			data, err := os.ReadFile(testExe(t))
			must(t, err)
			must(t, os.WriteFile(exe, data, 0o755))
			script := filepath.Join(dir, "vault")
			// A signal stops a traced thread for good, and the Go runtime preempts by signals.
			must(t, os.WriteFile(script,
				[]byte("#!/bin/sh\nGODEBUG=asyncpreemptoff=1 exec '"+exe+"' play "+how+" '"+got+"'\n"), 0o755))
			cmd := exec.Command(exe, "hardened", filepath.Join(dir, "keyring"), script)
			if os.Getuid() == 0 { // for root, the owners of files in /proc say nothing
				cmd.SysProcAttr = asUser(65534)
			}
			out, _ := cmd.CombinedOutput()
			if !strings.Contains(string(out), want.says) {
				t.Errorf("the caller printed %q, want %q", out, want.says)
			}
			request, err := os.ReadFile(got)
			if sent := strings.Contains(string(request), testPassphrase); sent != want.sent {
				t.Errorf("the passphrase was sent: %t, want %t (%v); the caller printed %s", sent, want.sent, err, out)
			}
			if _, err := os.Stat(got + ".waits"); err != nil && how == "mute" { // others are killed at once
				t.Errorf("the test proves nothing: the process did not wait for the request: %v", err)
			}
		})
	}
}

// TestNoSecondReader: the request and the answer of a vault process cannot be read through its entries in
// /proc/PID/fd.
func TestNoSecondReader(t *testing.T) {
	t.Setenv("BROKER_TEST_VAULT", "reopen")
	info, err := freshCaller(t).Describe(t.Context(), "security")
	if err != nil || info.AccessKeyID != "true true " {
		t.Errorf("not refused with ENXIO: %q, %v", info.AccessKeyID, err)
	}
}
