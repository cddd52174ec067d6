// Package testbus runs a D-Bus message bus for a test. The bus listens where the test says and starts no services
// by itself. Only tests import it.
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

// Address returns the address of the bus in dir, for DBUS_SESSION_BUS_ADDRESS or DBUS_SYSTEM_BUS_ADDRESS. A socket
// path must be short, and t.TempDir usually is not.
func Address(dir string) string { return "unix:path=" + socket(dir) }

func socket(dir string) string { return filepath.Join(dir, "bus") }

const config = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>ADDRESS</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`

// Start starts a bus in dir and returns once it listens. The caller ends it. Without dbus-daemon the test is
// skipped; under CI it fails.
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
	_ = os.Remove(socket(dir)) // left by an earlier bus
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
