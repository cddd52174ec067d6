//go:build unix

package system

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestOpenRegular: it opens only regular files and never blocks.
func TestOpenRegular(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.WriteFile(at("file"), []byte("words"), 0o600),
		os.Symlink("file", at("link")),
		os.Symlink("fifo", at("link to a fifo")),
		syscall.Mkfifo(at("fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir) // the path of a socket must be short
	l, err := net.Listen("unix", "socket")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, c := range []struct {
		name  string
		flags int
		want  error
	}{
		{"file", 0, nil},
		{"file", NoFollow, nil},
		{"link", 0, nil},
		{"link", NoFollow, syscall.ELOOP},
		{"link to a fifo", 0, ErrNotRegular},
		{"fifo", 0, ErrNotRegular},
		{"socket", 0, ErrNotRegular},
		{".", 0, ErrNotRegular},
		{"/dev/null", 0, ErrNotRegular},
		{"absent", 0, os.ErrNotExist},
	} {
		f, info, err := OpenRegular(c.name, c.flags)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if (f == nil) != (c.want != nil) {
			t.Errorf("%s: returned file %v with error %v", c.name, f, err)
		}
		if f != nil {
			if info.Size() != 5 {
				t.Errorf("%s: size %d", c.name, info.Size())
			}
			_ = f.Close()
		}
	}
}
