package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestEditOnAFullDisk: an edit that leaves nothing of a file removes it where no other file can be created.
func TestEditOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "nr_inodes=2"); err != nil {
		t.Skipf("SKIPPED, NOT PROVEN: cannot mount a small file system: %v", err)
	}
	defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
	file := filepath.Join(dir, "f")
	put(t, file, "old")
	if err := Edit(file, 0o600, nil, set("new")); !errors.Is(err, syscall.ENOSPC) || content(t, file) != "old" {
		t.Errorf("the disk is not full: %v", err)
	}
	if err := Edit(file, 0o600, nil, set("")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the file is still there")
	}
}
