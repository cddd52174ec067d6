package peer

import (
	"net"
	"os"
	"testing"
)

// TestOwner: a connection of ours is ours, and has no owner once it is closed.
func TestOwner(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if uid, err := LoopbackUID(conn.(*net.TCPConn)); err != nil || uid != os.Getuid() {
		t.Errorf("ours: %d, %v", uid, err)
	}
	_ = client.Close()
	if uid, err := LoopbackUID(conn.(*net.TCPConn)); err == nil {
		t.Errorf("closed: %d", uid)
	}
}
