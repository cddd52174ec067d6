//go:build linux

package daemon

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"broker/internal/wire"
)

// playLender connects to the daemon, waits until the daemon knows it, gives the connection away, and ends.
func playLender(socket string) int {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 1
	}
	b, _ := wire.EncodeRequest(&wire.Request{Verb: wire.Ping})
	if _, err := conn.Write(b); err != nil {
		return 1
	}
	if _, err := bufio.NewReader(conn).ReadBytes('\n'); err != nil {
		return 1
	}
	f, err := conn.(*net.UnixConn).File()
	if err != nil || syscall.Sendmsg(3, []byte{0}, syscall.UnixRights(int(f.Fd())), nil, 0) != nil {
		return 1
	}
	return 0
}

// TestCallerEnded: a connection whose process has ended gets nothing, because its PID may belong to another process by
// now: one that may do more, and that the audit log would blame.
func TestCallerEnded(t *testing.T) {
	h := build(t, t.TempDir(), registry+"[profile guarded]\nrole_arn = arn:aws:iam::444455556666:role/r\n"+
		"source_profile = security\nconfirm = first\n").run(t)
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer func() { _, _ = ours.Close(), theirs.Close() }()
	cmd := exec.Command("/proc/self/exe", "play-lender", h.path)
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	oob := make([]byte, syscall.CmsgSpace(4))
	_, n, _, _, err := syscall.Recvmsg(pair[0], make([]byte, 1), oob, 0)
	if err != nil {
		t.Fatal(err)
	}
	list, err := syscall.ParseSocketControlMessage(oob[:n])
	if err != nil {
		t.Fatal(err)
	}
	fds, err := syscall.ParseUnixRights(&list[0])
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(os.NewFile(uintptr(fds[0]), "lent"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	lent := line{conn, bufio.NewReader(conn)}
	for _, req := range []wire.Request{
		{Verb: wire.Get, Profile: "dev"},
		{Verb: wire.Serve, Profile: "dev"},
		{Verb: wire.PrivateFiles, Profile: "dev"},
		{Verb: wire.Allow, Profile: "guarded", For: time.Hour, Reason: "x", Everywhere: true},
	} {
		lent.send(t, req)
		if got := lent.read(t); got.Err == nil || got.Credential != nil {
			t.Errorf("%s: %+v", req.Verb, got)
		}
	}
	// Serve and PrivateFiles end before anything is decided, which has no line.
	for _, e := range h.trail.all() {
		if e.Event != "start" && (e.Event != "refused" || e.Caller != nil || e.PID != cmd.Process.Pid) {
			t.Errorf("the log says %+v", e)
		}
	}
	if resp := h.get(t, "dev"); resp.Err != nil || !strings.HasPrefix(resp.Credential.AccessKeyID, "ASIA") {
		t.Errorf("another client: %+v", resp)
	}
}
