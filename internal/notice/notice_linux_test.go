package notice

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"broker/internal/testbus"
)

// desktop is a notification server.
type desktop struct{ shown chan []any }

// Notify implements org.freedesktop.Notifications.
func (d desktop) Notify(
	app string,
	replaces uint32,
	icon, title, body string,
	actions []string,
	hints map[string]dbus.Variant,
	timeout int32,
) (uint32, *dbus.Error) {
	d.shown <- []any{app, replaces, icon, title, body, len(actions), len(hints), timeout}
	return 1, nil
}

// newBus starts a session bus. Its directory is XDG_RUNTIME_DIR.
func newBus(t *testing.T) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	bus := testbus.Start(t, dir)
	t.Cleanup(func() {
		_ = bus.Process.Kill()
		_ = bus.Wait()
		_ = os.RemoveAll(dir)
	})
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	return dir
}

func newDesktop(t *testing.T, dir string) desktop {
	t.Helper()
	d := desktop{make(chan []any, 10)}
	conn, err := dbus.Connect(testbus.Address(dir))
	if err == nil {
		err = conn.Export(d, path, server)
	}
	if err == nil {
		_, err = conn.RequestName(server, dbus.NameFlagDoNotQueue)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return d
}

func TestShow(t *testing.T) {
	dir := newBus(t)
	d := newDesktop(t, dir)
	for _, address := range []string{"", testbus.Address(dir), "autolaunch:", "unixexec:path=/bin/false"} {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
		if err := Show(t.Context(), "AWS session", "the session of <b>&amp; ends"); err != nil {
			t.Fatalf("%q: %v", address, err)
		}
		want := []any{"Broker", uint32(0), "", "AWS session", "the session of &lt;b&gt;&amp;amp; ends", 0, 0, int32(-1)}
		if got := <-d.shown; !reflect.DeepEqual(got, want) {
			t.Errorf("%q: shown %q, want %q", address, got, want)
		}
	}
}

// TestShowWithoutADesktop: Show fails, and starts nothing.
func TestShowWithoutADesktop(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	t.Setenv("PATH", t.TempDir())
	if err := os.WriteFile(filepath.Join(os.Getenv("PATH"), "dbus-launch"), []byte("#!/bin/sh\n: >"+ran+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, runtime := range []string{"", t.TempDir()} {
		t.Setenv("XDG_RUNTIME_DIR", runtime)
		for _, address := range []string{"", "autolaunch:", "disabled:"} {
			t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
			if err := Show(t.Context(), "title", "text"); err == nil || err.Error() != "there is no session bus" {
				t.Errorf("%q: %v", address, err)
			}
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a bus was started")
	}
}

// TestShowWithoutAServer: a bus without a notification server is an error at once.
func TestShowWithoutAServer(t *testing.T) {
	newBus(t)
	if err := Show(t.Context(), "title", "text"); err == nil {
		t.Error("nobody can have shown the notice")
	}
}

// TestShowOnASilentBus: Show ends with its context although the bus does not answer.
func TestShowOnASilentBus(t *testing.T) {
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "bus"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Show(ctx, "title", "text") }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("nobody can have shown the notice")
		}
	case <-time.After(time.Minute):
		t.Error("Show hangs")
	}
}
