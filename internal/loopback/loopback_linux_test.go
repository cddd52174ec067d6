package loopback

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
)

// TestOwner: whose a connection is, over IPv4 and over an IPv6 socket as Java uses them, and nobody's once it is closed.
func TestOwner(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	accept := func() net.Conn {
		t.Helper()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := accept()
	if uid, err := OwnerOf(conn.RemoteAddr(), conn.LocalAddr()); err != nil || uid != os.Getuid() {
		t.Errorf("ours: %d, %v", uid, err)
	}
	_ = client.Close()
	if uid, err := OwnerOf(conn.RemoteAddr(), conn.LocalAddr()); err == nil {
		t.Errorf("closed: %d", uid)
	}
	if _, err := OwnerOf(l.Addr(), l.Addr()); err == nil {
		t.Error("a socket that listens is no connection")
	}
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skip("SKIPPED: there is no IPv6 here")
	}
	defer func() { _ = syscall.Close(fd) }()
	mapped := netip.MustParseAddr("::ffff:127.0.0.1").As16()
	if err := syscall.Connect(fd, &syscall.SockaddrInet6{Addr: mapped, Port: l.Addr().(*net.TCPAddr).Port}); err != nil {
		t.Fatal(err)
	}
	conn = accept()
	if uid, err := OwnerOf(conn.RemoteAddr(), conn.LocalAddr()); err != nil || uid != os.Getuid() {
		t.Errorf("over an IPv6 socket: %d, %v", uid, err)
	}
}

func TestInTable(t *testing.T) {
	for address, want := range map[string]string{"127.0.0.1:80": "0100007F:0050", "127.0.0.1:65535": "0100007F:FFFF", "[::1]:80": ""} {
		if got := inTable(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}
