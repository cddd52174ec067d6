package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Trusted returns nil where nobody but root and the user of this process can change what stands at a path: it belongs to one of the two,
// others may not write to it, and the same holds for each directory above it, in which others may write if it is
// sticky. Each symbolic link on the way belongs to one of the two as well, since its owner can make it lead elsewhere. A group that may write counts as
// others, but for root's, the one that has the number of our uid (a private group of the user, umask 002), and
// on macOS admin. On Windows the access list of the file alone counts. The error says which path it is, and why.
func Trusted(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%q is not an absolute path", path)
	}
	if _, err := os.Stat(path); err != nil {
		return err
	}
	at, rest := filepath.VolumeName(path)+string(filepath.Separator), parts(path)
	for links := 0; len(rest) > 0; {
		if err := trusted(at, true); err != nil {
			return err
		}
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		target, err := os.Readlink(next)
		if err != nil { // it is no link
			at = next
			continue
		}
		if links++; links > maxLinks {
			return fmt.Errorf("%s leads over too many symbolic links", path)
		}
		if err := trustedLink(next); err != nil {
			return err
		}
		if filepath.IsAbs(target) {
			at = filepath.VolumeName(target) + string(filepath.Separator)
		}
		rest = append(parts(target), rest...)
	}
	return trusted(at, false)
}

// maxLinks is how many symbolic links a path may lead over, as in Linux.
const maxLinks = 40

// parts are the names in a path, from the first directory on.
func parts(path string) []string {
	return strings.FieldsFunc(path[len(filepath.VolumeName(path)):], func(r rune) bool {
		return r == '/' || r == filepath.Separator
	})
}

// TrustedProgram is Trusted for a program and for the directory that it is in, which may not be sticky: a library that
// another user puts beside a program may be loaded.
func TrustedProgram(path string) error {
	if err := Trusted(path); err != nil {
		return err
	}
	return Trusted(filepath.Dir(path))
}
