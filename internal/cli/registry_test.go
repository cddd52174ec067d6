package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"broker/internal/fault"
)

// TestWriteFaultHints: a file that the system does not let Broker write has a hint for its directory.
func TestWriteFaultHints(t *testing.T) {
	path, elsewhere := filepath.Join(t.TempDir(), "config"), t.TempDir()
	at := func(op, path string, err error) error {
		return fmt.Errorf("edit: %w", &fs.PathError{Op: op, Path: path, Err: err})
	}
	for want, err := range map[fault.Hint]error{
		fault.Hintf("df -h %s", filepath.Dir(path)): at("write", path+".draft", syscall.ENOSPC),
		fault.Hintf("df -h %s", elsewhere):          at("open", filepath.Join(elsewhere, "draft"), syscall.ENOSPC),
		fault.Hintf("ls -ld %s", elsewhere):         at("write in", elsewhere, syscall.EROFS),
		"":                                          errors.New("another program has it"),
	} {
		if f := fault.Of(writeFault(path, err)); f.Hint != want || f.Message != "write "+path+": "+err.Error() {
			t.Errorf("got %q with the hint %q, want the hint %q", f.Message, f.Hint, want)
		}
	}
	if f := fault.Of(writeFault(path, at("write", path, syscall.ENOSPC))); strings.Count(f.Message, path) != 1 {
		t.Errorf("got %q, want the path once", f.Message)
	}
}
