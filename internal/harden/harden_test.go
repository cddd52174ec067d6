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
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"broker/internal/testproc"
)

// TestMain also runs the process that holds a secret, and a process of the same user that tries to read it.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "play" {
		switch os.Args[2] {
		case "target":
			os.Exit(target(os.Args[3]))
		case "probe":
			os.Exit(probe(os.Args[3]))
		}
	}
	os.Exit(testproc.Run(m))
}

var jewel = []byte("the crown jewels")

// target prints the address of its secret, and its limit for core files before, during and after hardening. Then
// it waits for the end of stdin. With "plain" it undoes what package nodump did; with "initialized" it does
// nothing more than nodump did.
func target(how string) int {
	limit := func() uint64 {
		var l syscall.Rlimit
		_ = syscall.Getrlimit(syscall.RLIMIT_CORE, &l)
		return l.Cur
	}
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Cur: 4096, Max: 8192})
	limits := []uint64{limit()}
	if how != "initialized" {
		const prSetDumpable = 4
		if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 1, 0); errno != 0 {
			fmt.Println(errno)
			return 1
		}
	}
	if how == "hardened" {
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

// probe starts a target, so that it may trace it even if the kernel lets only parents trace, and prints what it
// could read.
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
		fmt.Println("the target printed", line)
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
			return errors.New("the memory contains something else")
		}
		return nil
	}
	environ := func() error {
		_, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		return err
	}
	inside := func() error { // the result of Verify in a process of the same user that is hardened itself
		err := Verify(pid)
		if errors.Is(err, ErrOpen) {
			return nil
		}
		return errors.Join(err, os.ErrPermission)
	}
	traced := func() error {
		if err := Verify(pid); !errors.Is(err, ErrTraced) {
			return fmt.Errorf("a traced process: %w", err)
		}
		return nil
	}
	copied := func() error { // needs the same permission as ptrace, without a file
		b := make([]byte, len(jewel))
		local := syscall.Iovec{Base: &b[0], Len: uint64(len(b))}
		remote := [2]uintptr{uintptr(at), uintptr(len(b))}
		_, _, errno := syscall.Syscall6(unix.SYS_PROCESS_VM_READV, uintptr(pid),
			uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
		if errno != 0 {
			return errno
		}
		return nil
	}
	stdin := func() error {
		f, err := os.Open(fmt.Sprintf("/proc/%d/fd/0", pid))
		if err == nil {
			_ = f.Close()
		}
		return err
	}
	descriptor := func() error {
		pidfd, _, errno := syscall.Syscall(unix.SYS_PIDFD_OPEN, uintptr(pid), 0, 0)
		if errno != 0 {
			return errno
		}
		defer func() { _ = syscall.Close(int(pidfd)) }()
		fd, _, errno := syscall.Syscall(unix.SYS_PIDFD_GETFD, pidfd, 0, 0)
		if errno != 0 {
			return errno
		}
		return syscall.Close(int(fd))
	}
	trace := func(thread int) error {
		runtime.LockOSThread() // the tracer is a thread, too
		defer runtime.UnlockOSThread()
		if err := syscall.PtraceAttach(thread); err != nil {
			return err
		}
		_, err := syscall.Wait4(thread, nil, unix.WALL, nil)
		return errors.Join(err, traced(), syscall.PtraceDetach(thread))
	}
	another := func() int {
		threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, thread := range threads {
			if id, err := strconv.Atoi(thread.Name()); err == nil && id != pid {
				return id
			}
		}
		return 0
	}
	fmt.Println("memory", outcome(memory()))
	fmt.Println("environ", outcome(environ()))
	fmt.Println("copied", outcome(copied()))
	fmt.Println("stdin", outcome(stdin()))
	fmt.Println("descriptor", outcome(descriptor()))
	fmt.Println("trace", outcome(trace(pid)))
	fmt.Println("thread", outcome(trace(another())))
	fmt.Println("verified", outcome(inside()))
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

// TestNotDumpable: another process of the same user, which is not root, cannot read the secret of a hardened
// process. It can read that of a plain process; otherwise the probe proves nothing. Without the prctl the test
// fails ("memory read").
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
	// A program file that the user may not read is never dumpable.
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(exe, b, 0o755), os.Chmod(exe, 0o755)); err != nil {
		t.Fatal(err)
	}
	say := func(limits, outcome string) string {
		text := "limits " + limits + "\n"
		for _, what := range []string{"memory", "environ", "copied", "stdin", "descriptor", "trace", "thread", "verified"} {
			text += what + " " + outcome + "\n"
		}
		return text
	}
	for how, want := range map[string]string{
		"plain":       say("[4096]", "read"),
		"initialized": say("[4096]", "refused"),
		"hardened":    say("[4096 0 4096]", "refused"),
	} {
		cmd := exec.Command(exe, "play", "probe", how)
		cmd.Dir = "/"
		cmd.Env = []string{"GOTRACEBACK=none"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Stderr = os.Stderr // a binary built with coverage warns on stderr that it has nowhere to write
		out, err := cmd.Output()
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

// TestSetuid: a setuid program would serve one user's files to another, so it refuses to run.
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
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(exe, b, 0o755), os.Chmod(exe,
		os.ModeSetuid|0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "play", "target", "hardened")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || string(out) != "setuid: running with another user's privileges\n" {
		t.Errorf("got %s%v", out, err)
	}
}
