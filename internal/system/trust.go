package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// An UntrustedError says by what another user can change what is at a path.
type UntrustedError struct {
	Path     string // of the file, of a directory above it, or of a link on the way
	Why      string // such as "can be written by others (mode 0666)"
	Writable bool   // the mode allows it, not the owner
}

// Error implements error.
func (e *UntrustedError) Error() string { return e.Path + " " + e.Why }

// Trusted returns nil if nobody but root and the user of this process can change what is at a path. It belongs to one
// of the two, and others may not write to it. The same holds for each directory on the way, in which others may write
// if it is sticky. Each symbolic link on the way belongs to one of the two as well, since its owner can make it lead
// elsewhere. WritableByOthers says which groups count as others. On Windows only the access list of the file counts.
// The error of what is there and is not trusted is an *UntrustedError.
func Trusted(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%q is not an absolute path", path)
	}
	last := ""
	err := Walk(path, func(at string, info, _ fs.FileInfo) error {
		if info.Mode()&fs.ModeSymlink != 0 {
			return trustedLink(at)
		}
		last = at
		return trusted(at, true)
	})
	if err != nil {
		return err
	}
	return trusted(last, false)
}

// maxLinks is how many symbolic links a path may lead over, as in Linux.
const maxLinks = 40

// Walk goes from the root to what an absolute path leads to, and calls visit for each directory and each symbolic link
// on the way and for what is at the end. dir is the directory that at is in, nil for the root. The first error ends it,
// also that of a file that is not there.
func Walk(path string, visit func(at string, info, dir fs.FileInfo) error) error {
	root := filepath.VolumeName(path) + string(filepath.Separator)
	at, rest := root, parts(path)
	way, err := os.Lstat(at)
	if err == nil {
		err = visit(at, way, nil)
	}
	for links := 0; len(rest) > 0 && err == nil; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at = filepath.Dir(at)
			way, err = os.Lstat(at)
			continue
		}
		next := filepath.Join(at, name)
		var info fs.FileInfo
		if info, err = os.Lstat(next); err != nil {
			break
		}
		if err = visit(next, info, way); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			at, way = next, info
			continue
		}
		if links++; links > maxLinks {
			return fmt.Errorf("%s leads over too many symbolic links", path)
		}
		var target string
		if target, err = os.Readlink(next); err != nil {
			break
		}
		rest = append(parts(target), rest...)
		if filepath.IsAbs(target) {
			at = root
			way, err = os.Lstat(at)
		}
	}
	return err
}

// parts are the names in a path, from the first directory on.
func parts(path string) []string {
	return strings.FieldsFunc(path[len(filepath.VolumeName(path)):], func(r rune) bool {
		return r == '/' || r == filepath.Separator
	})
}

// SameFile reports whether two paths are one, or lead to one file.
func SameFile(a, b string) bool {
	if a == b {
		return true
	}
	first, err := os.Stat(a)
	second, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(first, second)
}

// RealPath is an absolute path without symbolic links and without the names that mean something else to each process,
// such as /proc/self/cwd. What is not there yet keeps its own name. If the path cannot be followed, or that name leads
// elsewhere (a path below /proc/PID/root does so where the process has other mounts), it is "".
func RealPath(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) != path {
		if dir := RealPath(filepath.Dir(path)); dir != "" {
			return filepath.Join(dir, filepath.Base(path))
		}
		return ""
	}
	if err != nil {
		return ""
	}
	there, err := os.Stat(path)
	here, err2 := os.Stat(real)
	if err != nil || err2 != nil || !os.SameFile(there, here) {
		return ""
	}
	return real
}

// TrustedProgram is Trusted for a program and for the directory that it is in, which may not be sticky: a library that
// another user puts beside a program may be loaded.
func TrustedProgram(path string) error {
	if err := Trusted(path); err != nil {
		return err
	}
	return Trusted(filepath.Dir(path))
}
