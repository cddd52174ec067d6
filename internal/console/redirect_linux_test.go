package console

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"broker/internal/peer"
	"broker/internal/secret"
	"broker/internal/testproc"
)

// TestMain also lets the test binary play another user, who has read the address in the browser's arguments.
func TestMain(m *testing.M) {
	if address := os.Getenv("CONSOLE_TEST_ADDRESS"); address != "" {
		os.Exit(stranger(address))
	}
	os.Exit(testproc.Run(m))
}

// stranger prints the answer to one request, if there is one.
func stranger(address string) int {
	host, path, _ := strings.Cut(strings.TrimPrefix(address, "http://"), "/")
	conn, err := net.Dial("tcp", host)
	if errors.Is(err, syscall.ECONNRESET) {
		return 0 // the connection was reset that quickly
	}
	if err != nil {
		return 1
	}
	_, _ = conn.Write([]byte("GET /" + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"))
	answer := make([]byte, 1024)
	n, _ := conn.Read(answer)
	_, _ = os.Stdout.Write(answer[:n])
	return 0
}

func TestAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	r, err := NewRedirect(secret.New(signedIn))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "console-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/stranger", self, 0o755); err != nil {
		t.Fatal(err)
	}
	ask := func(address string, uid uint32) string {
		cmd := exec.Command(dir + "/stranger")
		cmd.Dir = "/"
		cmd.Env = []string{"CONSOLE_TEST_ADDRESS=" + address}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if answer := ask(r.URL(), 65534); answer != "" {
		t.Errorf("another user got %q", answer)
	}
	// The address still works once.
	if answer := ask(r.URL(), 0); !strings.HasPrefix(answer, "HTTP/1.1 302 ") {
		t.Errorf("this user got %q", answer)
	}
	_ = r.listener.Close()

	c, done := await(t)
	address := c.URL() + "?code=theirs&state=" + ownState
	if answer := ask(address, 65534); answer != "" {
		t.Errorf("another user got %q", answer)
	}
	if answer := ask(strings.Replace(address, "theirs", "ours", 1), 0); !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
		t.Errorf("this user got %q", answer)
	}
	if v := <-done; v.code.Reveal() != "ours" || v.err != nil {
		t.Errorf("the code of another user counted: %v", v.err)
	}
}

func TestOurs(t *testing.T) {
	for _, row := range []struct {
		uid  int
		err  error
		want bool
	}{
		{os.Getuid(), nil, true}, {0, nil, true}, {os.Getuid() + 1, nil, false},
		{os.Getuid(), peer.ErrNobody, false}, {0, peer.ErrNobody, false}, {0, errors.ErrUnsupported, true},
	} {
		if got := ours(row.uid, row.err); got != row.want {
			t.Errorf("%d, %v: %v", row.uid, row.err, got)
		}
	}
}
