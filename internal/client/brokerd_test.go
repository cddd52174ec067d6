//go:build unix

package client

import (
	"errors"
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

// TestBrokerdByALinkOfAnother: a link of another user in a directory such as /tmp leads to no brokerd, also while it
// leads to a file of ours. Nor do files of that user count as this program after its own file is gone.
func TestBrokerdByALinkOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: to make files of another user one has to be root")
	}
	dir := t.TempDir()
	const other = 65534
	own, link := filepath.Join(dir, "own"), filepath.Join(dir, "brokerd")
	gone, foreign := filepath.Join(dir, "broker (deleted)"), filepath.Join(dir, "foreign")
	if err := errors.Join(os.Chmod(dir, 0o777|os.ModeSticky), os.WriteFile(own, nil, 0o755),
		os.Symlink(own, link), os.Lchown(link, other, other),
		os.WriteFile(gone, nil, 0o755), os.Chown(gone, other, other),
		os.WriteFile(foreign, nil, 0o755), os.Chown(foreign, other, other)); err != nil {
		t.Fatal(err)
	}
	for _, row := range [][2]string{{own, link}, {gone, foreign}} {
		if err := isOneInstall(row[0], row[1]); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
			t.Errorf("%s is started: %v", row[1], err)
		}
	}
	if err := isOneInstall(own, own); err != nil {
		t.Errorf("void: %v", err)
	}
}
