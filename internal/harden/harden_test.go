//go:build linux

package harden

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"broker/internal/testproc"
)

// The test binary also plays the process that holds a secret, and the one of
// the same user that would like to have it.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "play" {
		switch os.Args[2] {
		case "target":
			os.Exit(target(os.Args[3] == "hardened"))
		case "probe":
			os.Exit(probe(os.Args[3]))
		}
	}
	os.Exit(testproc.Run(m))
}

var jewel = []byte("the crown jewels")

// target prints where its jewel is, and its limit for core files before, in
// and after the time that it is hardened; then it waits for the end of stdin.
func target(hardened bool) int {
	limit := func() uint64 {
		var l syscall.Rlimit
		_ = syscall.Getrlimit(syscall.RLIMIT_CORE, &l)
		return l.Cur
	}
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Cur: 4096, Max: 8192})
	limits := []uint64{limit()}
	if hardened {
		if err := Process(); err != nil {
			fmt.Println(err)
			return 1
		}
		limits = append(limits, limit())
		if err := Release(); err != nil {
			fmt.Println(err)
			return 1
		}
		limits = append(limits, limit())
	}
	fmt.Printf("%d %d\n", uintptr(unsafe.Pointer(&jewel[0])), limits)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// probe starts a target, so that it may trace it even where the kernel lets
// nobody but parents do so, and says what it got hold of.
func probe(how string) int {
	cmd := exec.Command(os.Args[0], "play", "target", how)
	in, err := cmd.StdinPipe()
	if err != nil {
		return 1
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 1
	}
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		return 1
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	line, _ := bufio.NewReader(out).ReadString('\n')
	where, limits, _ := strings.Cut(strings.TrimSpace(line), " ")
	at, err := strconv.ParseInt(where, 10, 64)
	if err != nil {
		fmt.Println("the target says", line)
		return 1
	}
	pid := cmd.Process.Pid
	fmt.Println("limits", limits)

	memory := func() error {
		f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
		if err != nil {
			return err
		}
		defer f.Close()
		b := make([]byte, len(jewel))
		if _, err := f.ReadAt(b, at); err != nil {
			return err
		}
		if string(b) != string(jewel) {
			return errors.New("something else is there")
		}
		return nil
	}
	environ := func() error {
		_, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		return err
	}
	trace := func() error {
		if err := syscall.PtraceAttach(pid); err != nil {
			return err
		}
		_, err := syscall.Wait4(pid, nil, 0, nil)
		return errors.Join(err, syscall.PtraceDetach(pid))
	}
	fmt.Println("memory", outcome(memory()))
	fmt.Println("environ", outcome(environ()))
	fmt.Println("trace", outcome(trace()))
	return 0
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "read"
	case errors.Is(err, os.ErrPermission):
		return "refused"
	}
	return err.Error()
}

// T3: another process of the same user, which is not root, gets nothing out of
// a hardened process, and all of it out of a plain one: else the probe is no good.
// Seen to fail ("memory read") without the prctl.
func TestNotDumpable(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: needs root to become an unprivileged user without capabilities")
	}
	dir, err := os.MkdirTemp("", "harden")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	exe := filepath.Join(dir, "part")
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	// A program that may not be read is not dumpable either way.
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(exe, b, 0o755), os.Chmod(exe, 0o755)); err != nil {
		t.Fatal(err)
	}
	for how, want := range map[string]string{
		"plain":    "limits [4096]\nmemory read\nenviron read\ntrace read\n",
		"hardened": "limits [4096 0 4096]\nmemory refused\nenviron refused\ntrace refused\n",
	} {
		cmd := exec.Command(exe, "play", "probe", how)
		cmd.Dir = "/"
		cmd.Env = []string{"GOTRACEBACK=none"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("%s: got\n%s%v\nwant\n%s", how, out, err, want)
		}
	}
}

func TestSudo(t *testing.T) {
	me := os.Getuid()
	for _, tt := range []struct {
		value   string
		refused bool
	}{
		{strconv.Itoa(me + 1000), true},
		{strconv.Itoa(me), false},
		{"", false},
		{"not a number", false},
	} {
		t.Setenv("SUDO_UID", tt.value)
		if err := refuse(); errors.Is(err, ErrPrivileges) != tt.refused || !tt.refused && err != nil {
			t.Errorf("SUDO_UID=%q: %v", tt.value, err)
		}
	}
}

// A program that is setuid serves one user's files to another: refused.
func TestSetuid(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: needs root to own a setuid program")
	}
	dir, err := os.MkdirTemp("", "harden")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "part")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(exe, b, 0o755), os.Chmod(exe, os.ModeSetuid|0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "play", "target", "hardened")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || string(out) != "setuid: runs with the rights of another user\n" {
		t.Errorf("got %s%v", out, err)
	}
}
