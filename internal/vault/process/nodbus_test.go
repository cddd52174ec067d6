package process

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoDBusLaunch starts programs without a session bus, with a dbus-launch on the PATH that records each run.
func TestNoDBusLaunch(t *testing.T) {
	if _, err := os.Stat(fmt.Sprintf("/run/user/%d/bus", os.Getuid())); err == nil {
		t.Skip("this machine has a session bus that the library finds by itself")
	}
	dir := t.TempDir()
	record := filepath.Join(dir, "launched")
	script := "#!/bin/sh\necho x >>" + record + "\necho DBUS_SESSION_BUS_ADDRESS=unix:path=/nowhere\n"
	if err := os.WriteFile(filepath.Join(dir, "dbus-launch"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	start := func(exe string, args ...string) {
		t.Helper()
		cmd := exec.Command(exe, args...)
		cmd.Env = []string{"PATH=" + dir + ":/bin:/usr/bin", "HOME=" + dir, "BROKER_TEST_VAULT=silent"}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", exe, args, err, out)
		}
	}
	launched := func() int {
		data, _ := os.ReadFile(record)
		return bytes.Count(data, []byte("\n"))
	}

	dials := filepath.Join(dir, "dials")
	if out, err := exec.Command("go", "build", "-o", dials, "./testdata/dials").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	start(dials)
	if launched() == 0 {
		t.Fatal("the library alone does not run dbus-launch: the test proves nothing")
	}
	_ = os.Remove(record)

	exe := testExe(t)
	for range 20 {
		start(exe, "vault")
		start(exe, "print-bus")
	}
	if n := launched(); n > 0 {
		t.Errorf("dbus-launch was run %d times", n)
	}

	// A vault process that is asked for the Secret Service searches for the bus again.
	listener, err := net.Listen("unix", filepath.Join(dir, "bus"))
	if err != nil {
		t.Skipf("the path of the temporary directory is too long for a socket: %v", err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // leave the socket file, as a killed bus does
	_ = listener.Close()
	for _, env := range [][]string{nil, {"XDG_RUNTIME_DIR=" + dir}, {"DBUS_SESSION_BUS_ADDRESS=autolaunch:"}, {"DBUS_SESSION_BUS_ADDRESS="}} {
		cmd := exec.Command(exe, "vault")
		cmd.Env = append([]string{"PATH=" + dir + ":/bin:/usr/bin", "HOME=" + dir}, env...)
		cmd.Stdin = strings.NewReader(`{"op":"check","backend":"secret-service","timeout_ms":5000,"endpoint":{}}`)
		out, err := cmd.Output()
		if err != nil || !bytes.Contains(out, []byte("no session bus")) {
			t.Errorf("with %v: %v, %s", env, err, out)
		}
		if n := launched(); n > 0 {
			t.Fatalf("with %v: dbus-launch was run", env)
		}
	}
}

// TestNoDaemonLeft does the same with the real dbus-launch: no process is left behind.
func TestNoDaemonLeft(t *testing.T) {
	mark := fmt.Sprintf("BROKER_TEST_MARK=%d-%s", os.Getpid(), t.TempDir())
	for range 5 {
		for _, arg := range []string{"vault", "print-bus"} {
			cmd := exec.Command(testExe(t), arg)
			cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "BROKER_TEST_VAULT=silent", mark}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, p := range processes {
		if env, err := os.ReadFile(p); err == nil && bytes.Contains(env, []byte(mark)) {
			name, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "comm"))
			t.Errorf("left behind: %s", name)
		}
	}
}

// TestBusRestored: programs that are started get the user's own address, unset included.
func TestBusRestored(t *testing.T) {
	for _, set := range []string{"unset", "", "unix:path=/nowhere", "autolaunch:"} {
		cmd := exec.Command(testExe(t), "print-bus")
		cmd.Env = []string{"PATH=/nowhere"}
		want := "unset"
		if set != "unset" {
			cmd.Env = append(cmd.Env, "DBUS_SESSION_BUS_ADDRESS="+set)
			want = "set:" + set
		}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(string(out)); got != want {
			t.Errorf("with %s: the program sees %q", want, got)
		}
	}
}
