package vault

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoDBusLaunch starts programs where there is no session bus, with a dbus-launch on
// the PATH that records being run.
func TestNoDBusLaunch(t *testing.T) {
	if _, err := os.Stat(fmt.Sprintf("/run/user/%d/bus", os.Getuid())); err == nil {
		t.Skip("this machine has a session bus where the library looks by itself")
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
		t.Fatal("the library alone does not run dbus-launch: the test is void")
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
}

// TestNoDaemonLeft does the same with the real dbus-launch: nothing stays behind.
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

// TestBusRestored: what the program starts gets the user's own address, unset included.
func TestBusRestored(t *testing.T) {
	for _, set := range []string{"unset", "", "unix:path=/nowhere", "autolaunch:"} {
		for _, args := range [][]string{{"vault"}, {"print-bus"}} {
			cmd := exec.Command(testExe(t), args...)
			cmd.Env = []string{"PATH=/nowhere", "BROKER_TEST_VAULT=bus"}
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
				t.Errorf("%v with %s: the program sees %q", args, want, got)
			}
		}
	}
}
