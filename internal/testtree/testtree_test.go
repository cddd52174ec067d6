package testtree

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"broker/internal/testproc"
)

func TestMain(m *testing.M) { os.Exit(testproc.Run(m)) }

// TestCopy: tracked and new files are copied as they are now; ignored and removed ones are not.
func TestCopy(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(from, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	git := func(args ...string) {
		cmd := exec.Command("git", args...)
		cmd.Dir = from
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	for _, name := range []string{"tracked", "removed", "a/b c/tracked"} {
		write(name, "old")
	}
	write(".gitignore", "/bin/\n")
	git("init", "-q")
	git("add", "-A")
	write("tracked", "changed")
	write("new", "")
	write("bin/broker", "")
	if err := os.Remove(filepath.Join(from, "removed")); err != nil {
		t.Fatal(err)
	}
	if err := Copy(to, from); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := fs.WalkDir(os.DirFS(to), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got = append(got, path)
		}
		return err
	})
	if want := []string{".gitignore", "a/b c/tracked", "new", "tracked"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if text, err := os.ReadFile(filepath.Join(to, "tracked")); err != nil || string(text) != "changed" {
		t.Errorf("got %q, %v, want what was not committed", text, err)
	}
	if err := Copy(to, t.TempDir()); err == nil {
		t.Error("a directory without git was copied")
	}
}
