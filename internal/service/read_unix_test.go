//go:build unix

package service

import (
	"path/filepath"
	"syscall"
	"testing"
)

// TestPipeIsNoUnit: a pipe in the place of a unit keeps nobody waiting.
func TestPipeIsNoUnit(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, ServiceUnit), 0o600); err != nil {
		t.Fatal(err)
	}
	if program := SystemdProgram(dir); program != "" {
		t.Errorf("got %q", program)
	}
}
