// Package testtree owns copies of a git work tree for tests that build or change the whole project. Only tests import
// it.
package testtree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Copy copies the files of the work tree at from to the directory to: those that git tracks and new ones, as they are
// now. Files that git ignores are left out: another process may be writing them.
func Copy(to, from string) error {
	git := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	git.Dir = from
	out, err := git.Output()
	if err != nil {
		return fmt.Errorf("git ls-files in %s: %w", from, err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		source, target := filepath.Join(from, name), filepath.Join(to, name)
		info, err := os.Stat(source)
		if errors.Is(err, fs.ErrNotExist) { // removed, and not yet committed
			continue
		}
		if err != nil {
			return err
		}
		text, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		err = errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, text, info.Mode().Perm()))
		if err != nil {
			return err
		}
	}
	return nil
}
