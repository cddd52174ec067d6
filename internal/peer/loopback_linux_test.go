package peer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// play starts the test binary as another user, and returns the address that it prints.
func play(t *testing.T, what string) netip.AddrPort {
	t.Helper()
	at, err := netip.ParseAddrPort(playAs(t, stranger, what).line)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// listen returns a listener, and a function that accepts from it.
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

// at is an address in the form of this package.
func at(address netip.AddrPort) end { return end{address.Addr().As16(), address.Port()} }

// addresses returns the ends of a connection, even if the kernel no longer has it.
func addresses(conn *net.TCPConn) (local, remote end) {
	return at(conn.LocalAddr().(*net.TCPAddr).AddrPort()), at(conn.RemoteAddr().(*net.TCPAddr).AddrPort())
}

// checkOwner checks the owner of a connection in every available way.
func checkOwner(t *testing.T, what string, conn *net.TCPConn, want int) {
	t.Helper()
	local, remote := addresses(conn)
	for way, owner := range map[string]func() (int, error){
		"all": func() (int, error) { return LoopbackUID(conn) },
		"the list": func() (int, error) {
			return inTables(func(t *table) (int, bool) {
				uid, found := t.connections[[2]end{remote, local}]
				return uid, found
			})
		},
		"sock_diag": func() (int, error) { return connectionUID(remote, local) },
	} {
		uid, err := owner()
		if want < 0 && !errors.Is(err, ErrNobody) || want >= 0 && (err != nil || uid != want) {
			t.Errorf("%s, by %s: %d, %v; want %d", what, way, uid, err, want)
		}
	}
}

// connect dials an address from an IPv6 socket, like Java.
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

// TestOwner: the owner of a connection is found over IPv4, IPv6, and an IPv6 socket with IPv4 addresses. A closed
// connection has no owner.
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

// TestOwnerOfAnother: a connection of another user has that owner.
func TestOwnerOfAnother(t *testing.T) {
	l, accept := listen(t, "tcp4", "127.0.0.1:0")
	from := play(t, "connect "+l.Addr().String())
	conn := accept()
	if _, remote := addresses(conn); remote != at(from) {
		t.Fatalf("%s connected, not %s", conn.RemoteAddr(), from)
	}
	checkOwner(t, "another user's", conn, stranger)
}

// TestOwnerOfTheNextConnection: a connection that was reset has no owner, although a new connection of ours has
// its addresses.
func TestOwnerOfTheNextConnection(t *testing.T) {
	l, accept := listen(t, "tcp4", "127.0.0.1:0")
	// Nothing else on the machine connects from this address, so the port stays free for the next connection.
	reuse := func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
		}), err)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)}, Control: reuse}
	first, err := dialer.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dead := accept()
	_ = first.(*net.TCPConn).SetLinger(0) // reset it, so that the port is free at once
	_ = first.Close()
	dialer.LocalAddr = first.LocalAddr()
	second, err := dialer.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	next := accept()
	checkOwner(t, "the next one", next, os.Getuid())
	if local, remote := addresses(dead); next.RemoteAddr().String() != dead.RemoteAddr().String() {
		t.Fatalf("the next connection is from %s", next.RemoteAddr())
	} else if uid, err := connectionUID(remote, local); err != nil || uid != os.Getuid() {
		t.Fatalf("the addresses have no owner, %v: the test proves nothing", err)
	}
	if uid, err := LoopbackUID(dead); !errors.Is(err, ErrNobody) {
		t.Errorf("a connection that was reset: %d, %v", uid, err)
	}
}

// resetting is a connection that is reset before its descriptor is requested the second time.
type resetting struct {
	*net.TCPConn
	asked bool
	reset func()
}

func (r *resetting) SyscallConn() (syscall.RawConn, error) {
	if r.asked {
		r.reset()
	}
	r.asked = true
	return r.TCPConn.SyscallConn()
}

// TestOwnerOfReset: a connection that is reset during the lookup has no owner.
func TestOwnerOfReset(t *testing.T) {
	l, accept := listen(t, "tcp4", "127.0.0.1:0")
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := &resetting{TCPConn: accept(), reset: func() {
		_ = client.(*net.TCPConn).SetLinger(0)
		_ = client.Close()
	}}
	if uid, err := LoopbackUID(conn); !errors.Is(err, ErrNobody) {
		t.Errorf("%d, %v", uid, err)
	}
}

// TestOwnerBeforeAccept: a connection that no program has accepted yet has no owner, although the kernel reports
// root.
func TestOwnerBeforeAccept(t *testing.T) {
	l, accept := listen(t, "tcp4", "127.0.0.1:0")
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	checkOwner(t, "not taken", client.(*net.TCPConn), -1)
	accept()
	checkOwner(t, "taken", client.(*net.TCPConn), os.Getuid())
}

func TestListenerUID(t *testing.T) {
	check := func(what, address string, want int) {
		t.Helper()
		inLists := func(at end) (int, error) {
			return inTables(func(t *table) (int, bool) { return t.listener(at) })
		}
		for way, owner := range map[string]func(end) (int, error){"sock_diag": listenerUID, "the list": inLists} {
			uid, err := owner(at(netip.MustParseAddrPort(address)))
			if want < 0 && !errors.Is(err, ErrNobody) || want >= 0 && (err != nil || uid != want) {
				t.Errorf("%s, by %s: %d, %v; want %d", what, way, uid, err, want)
			}
		}
	}
	for _, row := range []struct{ listen, asked string }{
		{"127.0.0.1:0", "127.0.0.1"}, {"127.0.0.2:0", "127.0.0.2"}, {"0.0.0.0:0", "127.0.0.1"},
		{"[::]:0", "127.0.0.1"}, {"[::]:0", "[::1]"}, {"[::1]:0", "[::1]"},
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
		address := fmt.Sprintf("127.0.0.1:%d", play(t, "listen "+listen).Port())
		check("another user's on "+listen, address, stranger)
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if uid, err := ListenerUID(conn.(*net.TCPConn)); err != nil || uid != stranger {
			t.Errorf("another user's on %s, by a connection: %d, %v", listen, uid, err)
		}
		_ = conn.Close()
		if uid, err := ListenerUID(conn.(*net.TCPConn)); !errors.Is(err, ErrNobody) {
			t.Errorf("by a closed connection: %d, %v", uid, err)
		}
	}
	check("no port", "[::ffff:127.0.0.1]:1", -1)
}

// TestListIsNotRead: if the kernel answers about one socket, no connection waits for the lists of all sockets.
func TestListIsNotRead(t *testing.T) {
	l, accept := listen(t, "tcp4", "127.0.0.1:0")
	needKernel(t, l)
	reading.Lock() // a reading of the lists would block
	defer reading.Unlock()
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if uid, err := LoopbackUID(accept()); err != nil || uid != os.Getuid() {
		t.Errorf("%d, %v", uid, err)
	}
	if uid, err := ListenerUID(client.(*net.TCPConn)); err != nil || uid != os.Getuid() {
		t.Errorf("who listens: %d, %v", uid, err)
	}
}

// needKernel skips a test if the kernel does not answer about one socket.
func needKernel(t *testing.T, l net.Listener) {
	t.Helper()
	s, err := ask(at(l.Addr().(*net.TCPAddr).AddrPort()), end{})
	if err == nil && s.state == listening {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("MISSING, NOT PROVEN: sock_diag: %v", err)
	}
	t.Skipf("SKIPPED, NOT PROVEN: there is no sock_diag here: %v", err)
}

// TestNoSocket: before sock_diag has worked once, "no such socket" may mean that the kernel lacks sock_diag.
func TestNoSocket(t *testing.T) {
	l, _ := listen(t, "tcp4", "127.0.0.1:0")
	here := at(l.Addr().(*net.TCPAddr).AddrPort())
	needKernel(t, l)
	_ = l.Close()
	if s, err := ask(here, end{}); !errors.Is(err, ErrNobody) {
		t.Errorf("once it has answered: %+v, %v", s, err)
	}
	answers.Store(false)
	if s, err := ask(here, end{}); err == nil || errors.Is(err, ErrNobody) {
		t.Errorf("before it has answered: %+v, %v", s, err)
	}
	if uid, err := listenerUID(here); !errors.Is(err, ErrNobody) { // from the lists
		t.Errorf("nobody listens: %d, %v", uid, err)
	}
}

// TestParse: data that is not an answer of the kernel is an error.
func TestParse(t *testing.T) {
	for n := range answerSize {
		if s, err := parse(make([]byte, n)); err == nil {
			t.Errorf("%d bytes are %+v", n, s)
		}
	}
	if _, err := parse(make([]byte, 4096)); err == nil {
		t.Error("an empty answer was accepted")
	}
}

// TestTableIsReadForAll: all callers that wait for the lists share one reading, which begins after the last of
// them called.
func TestTableIsReadForAll(t *testing.T) {
	reading.Lock()
	got := make(chan *table)
	const many = 100
	for range many {
		go func() { got <- readTable() }()
	}
	for waiting.Load() < many {
		runtime.Gosched()
	}
	reading.Unlock()
	first := <-got
	for range many - 1 {
		if <-got != first {
			t.Error("a waiting caller got its own reading")
		}
	}
	if last != nil || waiting.Load() != 0 {
		t.Errorf("a reading is kept for %d waiting callers", waiting.Load())
	}
	// A reading that began before the call must not be used.
	old := &table{began: asked.Load()}
	last = old
	if readTable() == old || last != nil {
		t.Error("a caller got a reading that began before its call")
	}
}

func TestEndInTable(t *testing.T) {
	for text, want := range map[string]string{
		"0100007F:0050": "127.0.0.1:80", "0100007F:FFFF": "127.0.0.1:65535",
		"0000000000000000FFFF00000100007F:0050": "127.0.0.1:80", "00000000000000000000000001000000:0050": "[::1]:80",
	} {
		if got, err := endInTable(text); err != nil || got != at(netip.MustParseAddrPort(want)) {
			t.Errorf("%q: %v, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", ":", "local_address", "0100007F", "0100007F:", "0100007F:10000", "100007F:0050",
		"0100007G:0050", "0100007F0100007F:0050",
	} {
		if got, err := endInTable(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestSeveralInTable: if the list has sockets of two users at one address, no owner is reported.
func TestSeveralInTable(t *testing.T) {
	const row = "0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 %d 0 %d 1 0 100 0 0 10 0\n"
	file := filepath.Join(t.TempDir(), "tcp")
	for _, tt := range []struct {
		rows  string
		uid   int
		found bool
	}{
		{fmt.Sprintf(row, 7, 100) + fmt.Sprintf(row, 7, 101), 7, true},
		{fmt.Sprintf(row, 7, 100) + fmt.Sprintf(row, 8, 0), 7, true}, // the other is closed
		{fmt.Sprintf(row, 7, 100) + fmt.Sprintf(row, 8, 101), 0, false},
		{fmt.Sprintf(row, 7, 100) + fmt.Sprintf(row, 8, 101) + fmt.Sprintf(row, 7, 102), 0, false},
	} {
		if err := os.WriteFile(file, []byte("sl local_address rem_address st …\n"+tt.rows), 0o600); err != nil {
			t.Fatal(err)
		}
		list := &table{connections: map[[2]end]int{}, listeners: map[end]int{}}
		if err := list.read(file); err != nil {
			t.Fatal(err)
		}
		uid, found := list.listener(at(netip.MustParseAddrPort("127.0.0.1:80")))
		if uid != tt.uid || found != tt.found {
			t.Errorf("%s%d, %v", tt.rows, uid, found)
		}
	}
}

// TestListenersOfSeveral: if sockets of several users match, no owner is reported.
func TestListenersOfSeveral(t *testing.T) {
	here := at(netip.MustParseAddrPort("127.0.0.1:80"))
	on4, on6 := end4([4]byte{}, 80), end{port: 80}
	for _, tt := range []struct {
		listeners map[end]int
		uid       int
		found     bool
	}{
		{map[end]int{}, 0, false},
		{map[end]int{here: 7}, 7, true},
		{map[end]int{on4: 7}, 7, true},
		{map[end]int{on6: 7}, 7, true},
		{map[end]int{here: 7, on6: 7}, 7, true},
		{map[end]int{here: 7, on4: 8}, 0, false},
		{map[end]int{here: 7, on6: 0}, 0, false},
		{map[end]int{here: several}, 0, false},
		{map[end]int{end4([4]byte{127, 0, 0, 1}, 81): 7}, 0, false},
	} {
		if uid, found := (&table{listeners: tt.listeners}).listener(here); uid != tt.uid || found != tt.found {
			t.Errorf("%v: %d, %v", tt.listeners, uid, found)
		}
	}
}
