// Package testbus owns the message bus of a test: a D-Bus that listens where the test says and starts no
// services by itself. Only tests import it.
package testbus

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Address is that of the bus in dir, for DBUS_SESSION_BUS_ADDRESS or DBUS_SYSTEM_BUS_ADDRESS. The path of a socket has to
// be short, and t.TempDir mostly is not.
func Address(dir string) string { return "unix:path=" + socket(dir) }

func socket(dir string) string { return filepath.Join(dir, "bus") }

const config = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>ADDRESS</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`

// Start starts a bus in dir and returns when it listens; the caller ends it. Without dbus-daemon the test is
// skipped, and fails under CI.
func Start(t testing.TB, dir string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("dbus-daemon is not installed, and CI is set: make deps-clients")
		}
		t.Skip("NOT TESTED: dbus-daemon is not installed; make deps-clients")
	}
	file := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(file, []byte(strings.Replace(config, "ADDRESS", Address(dir), 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(socket(dir)) // of one before
	cmd := exec.Command("dbus-daemon", "--nofork", "--nopidfile", "--config-file="+file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for give := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", socket(dir))
		if err == nil {
			_ = conn.Close()
			return cmd
		}
		if time.Now().After(give) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("the bus does not listen: %v", err)
		}
	}
}
