package dial

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestDirectory: a file in the place of the directory is refused.
func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), filepath.Join(file, "socket")); err == nil {
		t.Error("a file was accepted as the directory")
	}
	if _, err := Dial(t.Context(), filepath.Join(dir, "nobody", "socket")); !errors.Is(err, ErrNobody) {
		t.Errorf("no directory: %v", err)
	}
}
