package brokerd

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"broker/internal/fault"
)

// TestHelperProgram: credproc is found on the daemon's PATH if it is not beside the daemon, and only a program counts.
func TestHelperProgram(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no doors on Windows")
	}
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if path, err := helperProgram(); fault.Of(err) == nil || fault.Of(err).Kind != fault.Failed {
		t.Errorf("%q, %v", path, err)
	}
	want := filepath.Join(dir, "credproc")
	if err := os.WriteFile(want, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if path, err := helperProgram(); err != nil || path != want {
		t.Errorf("%q, %v", path, err)
	}
}
