package system

import (
	"fmt"
	"path/filepath"
)

// Trusted returns nil where nobody but root and the user of this process can change what stands at a path: it belongs to one of the two,
// others may not write to it, and the same holds for each directory above it, in which others may write if it is
// sticky. Symbolic links are followed, and what they lead to is looked at as well. A group that may write counts as
// others, but for root's, the one that has the number of our uid (a private group of the user, umask 002), and
// on macOS admin. On Windows the access list of the file alone counts. The error says which path it is, and why.
func Trusted(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%q is not an absolute path", path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if err := trusted(real, false); err != nil {
		return err
	}
	for _, p := range []string{real, filepath.Clean(path)} {
		for dir := filepath.Dir(p); ; dir = filepath.Dir(dir) {
			if err := trusted(dir, true); err != nil {
				return err
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return nil
}

// TrustedProgram is Trusted for a program and for the directory that it is in, which may not be sticky: a library that
// another user puts beside a program may be loaded.
func TrustedProgram(path string) error {
	if err := Trusted(path); err != nil {
		return err
	}
	return Trusted(filepath.Dir(path))
}
