//go:build unix

package client

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBrokerdOfAnother checks that a brokerd which another user put beside this program is not started. This can
// happen in a directory where any user may create files. Without the check, DaemonProgram returned it.
func TestBrokerdOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: creating files of another user needs root")
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
		t.Errorf("the brokerd of another user is accepted: %v", err)
	}
}

// TestBrokerdByALinkOfAnother checks that another user's link in a directory such as /tmp is not followed to a
// brokerd, even if it points to a file of this user. Files of the other user also do not count as this program
// after this program's own file was deleted.
func TestBrokerdByALinkOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: creating files of another user needs root")
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
			t.Errorf("%s is accepted: %v", row[1], err)
		}
	}
	if err := isOneInstall(own, own); err != nil {
		t.Errorf("void: %v", err)
	}
}
