package dial

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestDirectory: a directory that we made is good, one with the list of the one above it is not where that lets others in.
func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	for range 2 { // made, and there
		f, err := OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(file); !errors.Is(err, ErrDirectory) {
		t.Errorf("a file: %v", err)
	}
	if _, err := Dial(t.Context(), filepath.Join(dir, "nobody", "socket")); !errors.Is(err, ErrNobody) {
		t.Errorf("no directory: %v", err)
	}
}
