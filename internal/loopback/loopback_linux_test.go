package loopback

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"broker/internal/testproc"
)

// The test binary also plays another user: it listens or connects as it is told, says so, and waits.
func TestMain(m *testing.M) {
	what, address, _ := strings.Cut(os.Getenv("LOOPBACK_TEST_PLAY"), " ")
	switch what {
	case "":
		os.Exit(testproc.Run(m))
	case "connect":
		conn, err := net.Dial("tcp", address)
		if err != nil {
			panic(err)
		}
		fmt.Println(conn.LocalAddr())
	case "listen":
		l, err := net.Listen("tcp", address)
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr())
	}
	_, _ = os.Stdin.Read(make([]byte, 1))
}

const stranger = 65534

// play starts the test binary as another user, and returns the address that it says.
func play(t *testing.T, what string) netip.AddrPort {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: only root can be somebody else")
	}
	dir, err := os.MkdirTemp("", "loopback-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(dir+"/self", self, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dir + "/self")
	cmd.Dir, cmd.Env, cmd.Stderr = "/", []string{"LOOPBACK_TEST_PLAY=" + what}, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
	hold, err := cmd.StdinPipe()
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
	t.Cleanup(func() {
		_ = hold.Close()
		_ = cmd.Wait()
	})
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	at, err := netip.ParseAddrPort(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// listen returns a listener, and how to accept from it.
func listen(t *testing.T, network, address string) (net.Listener, func() *net.TCPConn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("SKIPPED, NOT PROVEN: %v", err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, func() *net.TCPConn {
		t.Helper()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn.(*net.TCPConn)
	}
}

// ends are the addresses of a connection.
func ends(conn *net.TCPConn) (remote, local netip.AddrPort) {
	remote, _ = addrPort(conn.RemoteAddr())
	local, _ = addrPort(conn.LocalAddr())
	return remote, local
}

// checkOwner: whose a connection is, by every way to know.
func checkOwner(t *testing.T, what string, conn *net.TCPConn, want int) {
	t.Helper()
	remote, local := ends(conn)
	for way, owner := range map[string]func() (int, error){
		"all":       func() (int, error) { return OwnerOf(conn) },
		"the list":  func() (int, error) { return ownerInTable(remote, local) },
		"sock_diag": func() (int, error) { return ownerOf(remote, local) },
	} {
		uid, err := owner()
		if want < 0 && !errors.Is(err, ErrNobody) || want >= 0 && (err != nil || uid != want) {
			t.Errorf("%s, by %s: %d, %v; want %d", what, way, uid, err, want)
		}
	}
}

// connect dials from an IPv6 socket to an address, as Java does.
func connect(t *testing.T, to netip.AddrPort) (fd int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skip("SKIPPED, NOT PROVEN: there is no IPv6 here")
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Connect(fd, &syscall.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestOwner: whose a connection is, over IPv4, IPv6, and an IPv6 socket with IPv4 addresses; and nobody's once it is
// closed.
func TestOwner(t *testing.T) {
	l, accept := listen(t, "tcp4", "127.0.0.1:0")
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := accept()
	checkOwner(t, "ours", conn, os.Getuid())
	checkOwner(t, "ours, from the other end", client.(*net.TCPConn), os.Getuid())
	_ = client.Close()
	checkOwner(t, "closed", conn, -1)
	connect(t, netip.MustParseAddrPort(l.Addr().String()))
	checkOwner(t, "over an IPv6 socket", accept(), os.Getuid())

	l6, accept6 := listen(t, "tcp6", "[::1]:0")
	client6, err := net.Dial("tcp6", l6.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client6.Close() }()
	checkOwner(t, "over IPv6", accept6(), os.Getuid())
}

// TestOwnerOfAnother: a connection of another user is that user's.
func TestOwnerOfAnother(t *testing.T) {
	l, accept := listen(t, "tcp4", "127.0.0.1:0")
	from := play(t, "connect "+l.Addr().String())
	conn := accept()
	if remote, _ := ends(conn); remote != from {
		t.Fatalf("%s connected, not %s", remote, from)
	}
	checkOwner(t, "another user's", conn, stranger)
}

// TestOwnerOfTheNextConnection: one that was reset is nobody's, although a connection of ours has its addresses now.
func TestOwnerOfTheNextConnection(t *testing.T) {
	l, accept := listen(t, "tcp4", "127.0.0.1:0")
	// An address that nothing else on the machine connects from, so that the port is free for the next one too.
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)}, Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
		}), err)
	}}
	first, err := dialer.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dead := accept()
	_ = first.(*net.TCPConn).SetLinger(0) // a reset, so that the port is free at once
	_ = first.Close()
	dialer.LocalAddr = first.LocalAddr()
	second, err := dialer.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	next := accept()
	checkOwner(t, "the next one", next, os.Getuid())
	if remote, local := ends(dead); next.RemoteAddr().String() != remote.String() {
		t.Fatalf("the next connection is from %s", next.RemoteAddr())
	} else if uid, err := ownerOf(remote, local); err != nil || uid != os.Getuid() {
		t.Fatalf("the addresses are nobody's, %v: the test is void", err)
	}
	if uid, err := OwnerOf(dead); !errors.Is(err, ErrNobody) {
		t.Errorf("one that was reset: %d, %v", uid, err)
	}
}

func TestListenerUID(t *testing.T) {
	check := func(what, address string, want int) {
		t.Helper()
		at := netip.MustParseAddrPort(address)
		for way, owner := range map[string]func(netip.AddrPort) (int, error){"all": ListenerUID, "the list": listenerInTable} {
			uid, err := owner(at)
			if want < 0 && !errors.Is(err, ErrNobody) || want >= 0 && (err != nil || uid != want) {
				t.Errorf("%s, by %s: %d, %v; want %d", what, way, uid, err, want)
			}
		}
	}
	for _, row := range []struct{ listen, asked string }{
		{"127.0.0.1:0", "127.0.0.1"}, {"127.0.0.2:0", "127.0.0.2"}, {"0.0.0.0:0", "127.0.0.1"}, {"[::]:0", "127.0.0.1"}, {"[::]:0", "[::1]"}, {"[::1]:0", "[::1]"},
	} {
		network := "tcp"
		if row.listen == "0.0.0.0:0" {
			network = "tcp4"
		}
		l, _ := listen(t, network, row.listen)
		_, port, _ := net.SplitHostPort(l.Addr().String())
		check("ours on "+row.listen, row.asked+":"+port, os.Getuid())
		if row.listen == "127.0.0.1:0" {
			check("on another address", "127.0.0.9:"+port, -1)
		}
		_ = l.Close()
		check("closed", row.asked+":"+port, -1)
	}
	for _, listen := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
		at := play(t, "listen "+listen)
		check("another user's on "+listen, fmt.Sprintf("127.0.0.1:%d", at.Port()), stranger)
	}
	if uid, err := ListenerUID(netip.MustParseAddrPort("[::ffff:127.0.0.1]:1")); err == nil {
		t.Errorf("port 1 is of %d", uid)
	}
}

// TestKernelIsAsked: here the kernel answers about one socket, so the other tests are not all about the list.
func TestKernelIsAsked(t *testing.T) {
	if err := probe(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("MISSING, NOT PROVEN: sock_diag: %v", err)
		}
		t.Skipf("SKIPPED, NOT PROVEN: there is no sock_diag here: %v", err)
	}
}

// TestParse: what is no answer of the kernel is an error.
func TestParse(t *testing.T) {
	for n := range answerSize {
		if s, err := parse(make([]byte, n)); err == nil {
			t.Errorf("%d bytes are %+v", n, s)
		}
	}
	if _, err := parse(make([]byte, 4096)); err == nil {
		t.Error("nothing is an answer")
	}
}

// TestTableIsReadForAll: all who wait for the list get it by one reading, which begins after the last of them came.
func TestTableIsReadForAll(t *testing.T) {
	reading.Lock()
	first := join()
	for range 1000 {
		if join() != first {
			t.Fatal("one who waits is read for alone")
		}
	}
	reading.Unlock()
	<-first.done
	if readTable() == first {
		t.Error("a reading was given to one who came after it")
	}
}

func TestInTable(t *testing.T) {
	for address, want := range map[string]string{"127.0.0.1:80": "0100007F:0050", "127.0.0.1:65535": "0100007F:FFFF", "[::1]:80": ""} {
		if got := inTable(netip.MustParseAddrPort(address)); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
	for address, want := range map[string]string{
		"127.0.0.1:80": "0000000000000000FFFF00000100007F:0050", "[::1]:80": "00000000000000000000000001000000:0050",
	} {
		if got := inTable6(netip.MustParseAddrPort(address)); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}
