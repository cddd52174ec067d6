package system

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestLock: one open file holds the lock; another gets it only after the first is closed.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|NoFollow|NonBlock, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	first, second := open(), open()
	if err := TryLock(first); err != nil {
		t.Fatal(err)
	}
	if err := TryLock(second); !errors.Is(err, ErrLocked) {
		t.Fatalf("while the lock is held: %v", err)
	}
	given, give := context.WithCancel(context.Background())
	give()
	if err := LockUntil(given, second); !errors.Is(err, ErrLocked) {
		t.Fatalf("LockUntil after its context ended: %v", err)
	}
	// The content of a locked file can be read.
	if _, err := first.WriteString("words"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "words" {
		t.Errorf("read while the file is locked: %q, %v", b, err)
	}
	third := open()
	waiting := make(chan error, 1)
	go func() { waiting <- LockUntil(context.Background(), third) }()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("as soon as the lock was released: %v", err)
	}
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}
	if err := TryLock(second); err != nil {
		t.Errorf("after the lock was released: %v", err)
	}
}

// TestMakePrivate: only this user can use the new directory and files in it.
func TestMakePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "private")
	if err := MakePrivate(dir); err != nil {
		t.Fatal(err)
	}
	if err := MakePrivate(dir); !errors.Is(err, os.ErrExist) {
		t.Errorf("again: %v", err)
	}
	if a, err := AccessOfPath(dir); err != nil || !a.Ours || a.Perm != 0o700 {
		t.Errorf("the directory: %+v, %v", a, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if a, err := AccessOf(f); err != nil || !a.Ours || a.Perm != 0o600 {
		t.Errorf("a file in it: %+v, %v", a, err)
	}
	if err := SyncDir(dir); err != nil {
		t.Error(err)
	}
}
