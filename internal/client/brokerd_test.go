//go:build unix

package client

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBrokerdOfAnother: a brokerd that another user put beside this program, in a directory in which anybody may make
// files, is not started. Seen to be found without the check.
func TestBrokerdOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: to make files of another user one has to be root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(self), "brokerd")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(path) }()
	if found, err := DaemonProgram(nil); err != nil || found != path {
		t.Fatalf("void: %q, %v", found, err)
	}
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := DaemonProgram(nil); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("it is started: %v", err)
	}
}
