package environ

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"broker/internal/testproc"
)

// TestMain also runs a process of another user, which listens on an abstract socket.
func TestMain(m *testing.M) {
	if name := os.Getenv("ENVIRON_TEST_LISTEN"); name != "" {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err == nil {
			err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: "@" + name})
		}
		if err == nil {
			err = syscall.Listen(fd, 1)
		}
		if err != nil {
			os.Exit(1)
		}
		_, _ = os.Stdout.WriteString("listens\n")
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(testproc.Run(m))
}

// TestAbstractBus: an abstract socket has no owner, so its listener must belong to this user.
func TestAbstractBus(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: needs root to become another user")
	}
	dir := shortDir(t)
	exe := filepath.Join(dir, "part")
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chmod(dir, 0o755), os.WriteFile(exe, b, 0o755), os.Chmod(exe, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for uid, want := range map[uint32]bool{0: true, 65534: false} {
		name := filepath.Base(dir)
		cmd := exec.Command(exe)
		cmd.Dir = "/"
		cmd.Env = []string{"ENVIRON_TEST_LISTEN=" + name}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
		if got := localBus("unix:abstract="+name+",guid=00", false); got != want {
			t.Errorf("of uid %d: %v", uid, got)
		}
		_ = in.Close()
		_ = cmd.Wait()
	}
}
