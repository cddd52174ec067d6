//go:build unix

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTrusted checks which files, and files in which directories, nobody else can change.
func TestTrusted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: needs root to create files of another user")
	}
	dir := t.TempDir()
	make := func(name string, uid, gid int, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		var err error
		if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = os.WriteFile(path, nil, 0o600)
		}
		if err == nil {
			err = os.Chown(path, uid, gid)
		}
		if err == nil {
			err = os.Chmod(path, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	const other = 12345
	foreign, shared, sticky := make("foreign/", other, 0, 0o755), make("shared/", 0, other, 0o775),
		make("sticky/", 0, 0, 0o777|os.ModeSticky)
	link := func(name, to string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// Links of another user in a sticky directory: one to a file, one to a directory of this user.
	theirs, way := link("sticky/link", filepath.Join(dir, "good")), link("sticky/way", dir)
	for _, path := range []string{theirs, way} {
		if err := os.Lchown(path, other, other); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		path         string
		file, inside bool // Trusted, TrustedProgram
	}{
		{make("good", 0, 0, 0o755), true, true},
		{make("group of root", 0, 0, 0o775), true, true},
		{make("group", 0, other, 0o775), false, false},
		{make("group reads", 0, other, 0o755), true, true},
		{make("all", 0, 0, 0o757), false, false},
		{make("another's", other, 0, 0o755), false, false},
		{make("foreign/ours", 0, 0, 0o755), false, false},
		{make("shared/ours", 0, 0, 0o755), false, false},
		{make("sticky/ours", 0, 0, 0o755), true, false},
		{make("sticky/another's", other, 0, 0o755), false, false},
		{link("to another's", foreign), false, false},
		{link("to ours", filepath.Join(dir, "good")), true, true},
		{link("over one link", link("first link", filepath.Join(dir, "good"))), true, true},
		{theirs, false, false},
		{filepath.Join(way, "good"), false, false},
		{link("over another's link", theirs), false, false},
		{sticky, false, false},
		{shared, false, false},
		{filepath.Join(dir, "gone"), false, false},
		{"relative", false, false},
		{"", false, false},
	} {
		if err := Trusted(tt.path); (err == nil) != tt.file {
			t.Errorf("%s: %v", tt.path, err)
		}
		if err := TrustedProgram(tt.path); (err == nil) != tt.inside {
			t.Errorf("program %s: %v", tt.path, err)
		}
	}
}
