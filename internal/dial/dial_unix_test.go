//go:build unix

package dial

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestDeadlineIsForAllCalls checks that a listener that always sends a little, or reads nothing, does not hold a
// client longer than its deadline.
func TestDeadlineIsForAllCalls(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				for err == nil {
					_, err = conn.Write([]byte("x"))
					time.Sleep(time.Millisecond)
				}
			}()
		}
	}()
	for name, call := range map[string]func(*Conn) error{
		"read":  func(c *Conn) error { _, err := c.Read(make([]byte, 1)); return err },
		"write": func(c *Conn) error { _, err := c.Write(make([]byte, 1<<10)); return err },
	} {
		conn, err := Dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		until := time.Now().Add(100 * time.Millisecond)
		conn.SetDeadline(until)
		for err == nil {
			err = call(conn)
			if time.Now().After(until.Add(time.Minute)) {
				t.Fatalf("%s: goes on", name)
			}
		}
		const tick = 10 * time.Millisecond // of the kernel's clock, at most
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Until(until) > tick {
			t.Errorf("%s: got %v, %v before the deadline", name, err, time.Until(until))
		}
		_ = conn.Close()
	}
}
