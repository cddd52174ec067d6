//go:build linux

package socket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// guard returns a guarded listener, and a function that connects to it.
func guard(t *testing.T, admit func(int, error) bool) (net.Listener, func() net.Conn) {
	t.Helper()
	inner, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Guard(inner, admit)
	t.Cleanup(func() { _ = l.Close() })
	return l, func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
}

// TestListenerDoesNotWait: pending lookups do not hold up a connection whose owner is known.
func TestListenerDoesNotWait(t *testing.T) {
	asked, hold := make(chan bool), make(chan struct{})
	first := make(chan struct{}, maxLookups-1)
	for range maxLookups - 1 {
		first <- struct{}{}
	}
	l, dial := guard(t, func(int, error) bool {
		select {
		case <-first:
			asked <- true
			<-hold
			return false
		default:
			return true
		}
	})
	defer close(hold)
	for range maxLookups - 1 {
		dial()
		<-asked
	}
	mine := dial()
	conn, err := l.Accept()
	if err != nil || conn.RemoteAddr().String() != mine.LocalAddr().String() {
		t.Errorf("got %v, %v", conn, err)
	}
}

// TestListenerIsBounded: a flood waits in the kernel, not in our descriptors.
func TestListenerIsBounded(t *testing.T) {
	asked, hold := make(chan bool, 10*maxLookups), make(chan struct{})
	l, dial := guard(t, func(int, error) bool {
		asked <- true
		<-hold
		return true
	})
	const flood = 3 * maxLookups
	for range flood {
		dial()
	}
	for range maxLookups {
		<-asked
	}
	// At most one more was accepted, and waits for a slot.
	if n := accepted(t, l.Addr().String()); n > maxLookups+1 {
		t.Errorf("%d connections are open", n)
	}
	close(hold)
	for range flood { // each is served in the end
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
}

// accepted counts our descriptors of connections that were accepted at an address.
func accepted(t *testing.T, address string) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		var number int
		for _, c := range fd.Name() {
			number = 10*number + int(c-'0')
		}
		name, err := syscall.Getsockname(number)
		here, ok := name.(*syscall.SockaddrInet4)
		if err != nil || !ok || here.Port != port(t, address) {
			continue
		}
		if _, err := syscall.Getpeername(number); err == nil {
			n++
		}
	}
	return n
}

func port(t *testing.T, address string) int {
	t.Helper()
	at, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	return at.Port
}

// TestListenerResets: a connection that is not admitted gets nothing, and leaves nothing in the kernel.
func TestListenerResets(t *testing.T) {
	hold := make(chan struct{})
	l, dial := guard(t, func(int, error) bool {
		<-hold
		return false
	})
	conn := dial()
	close(hold)
	b, err := io.ReadAll(conn)
	if len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v", b, err)
	}
	list, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	here, there := port(t, l.Addr().String()), port(t, conn.LocalAddr().String())
	if left := fmt.Sprintf(" 0100007F:%04X 0100007F:%04X ", here, there); strings.Contains(string(list), left) {
		t.Errorf("left behind: %s", left)
	}
	_ = l.Close()
	if conn, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, %v", conn, err)
	}
}

// TestListenerDrains: connections that were accepted before the end are returned first, then the error.
func TestListenerDrains(t *testing.T) {
	asked, hold := make(chan bool), make(chan struct{})
	l, dial := guard(t, func(uid int, err error) bool {
		asked <- true
		<-hold
		return err == nil && uid == os.Getuid()
	})
	dial()
	<-asked
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	close(hold)
	if _, err := l.Accept(); err != nil {
		t.Error(err)
	}
	if conn, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, %v", conn, err)
	}
}
