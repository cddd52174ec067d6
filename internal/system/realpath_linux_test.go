package system

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// TestRealPathOfAnotherMount: a path through another process's root has the text of a local path but leads to
// another file. Without the comparison in RealPath, the test gets that local path.
func TestRealPathOfAnotherMount(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if real := RealPath("/proc/self/root" + file); real != file {
		t.Errorf("through our own root: %q", real)
	}
	cmd := exec.Command("unshare", "-m", "sh", "-c", `mount -t tmpfs none "$0" && : >"$0/config" && echo ready && cat`, dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("SKIPPED, NOT PROVEN: %v", err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Skip("SKIPPED, NOT PROVEN: no mount namespace can be made here")
	}
	if real := RealPath("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/root" + file); real != "" {
		t.Errorf("RealPath returned %q for another file", real)
	}
}
