package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// UntrustedError says how another user can change what is at a path.
type UntrustedError struct {
	Path     string // the file, a directory above it, or a link on the way
	Why      string // such as "can be written by others (mode 0666)"
	Writable bool   // the mode allows it; the owner is right
}

// Error implements error.
func (e *UntrustedError) Error() string { return e.Path + " " + e.Why }

// Trusted returns nil if only root and the user of this process can change what is at a path. The file must belong
// to one of the two, and others must not be able to write to it. The same holds for each directory on the way,
// except that others may write to a sticky one. Each symbolic link on the way must belong to one of the two as
// well, because its owner can make it lead elsewhere. WritableByOthers says which groups count as others. On
// Windows only the access list of the file is checked. If the file exists and is not trusted, the error is an
// *UntrustedError.
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

// maxLinks is how many symbolic links a path may go through, as on Linux.
const maxLinks = 40

// Walk follows an absolute path from the root to its end. It calls visit for each directory and each symbolic link
// on the way, and for what is at the end. dir is the directory that contains at, nil for the root. Walk stops at
// the first error, also if a file does not exist.
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
			return fmt.Errorf("%s goes through too many symbolic links", path)
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

// parts returns the elements of a path, without the volume.
func parts(path string) []string {
	return strings.FieldsFunc(path[len(filepath.VolumeName(path)):], func(r rune) bool {
		return r == '/' || r == filepath.Separator
	})
}

// SameFile reports whether two paths are equal or lead to the same file.
func SameFile(a, b string) bool {
	if a == b {
		return true
	}
	first, err := os.Stat(a)
	second, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(first, second)
}

// RealPath returns an absolute path without symbolic links, and without names whose meaning depends on the
// process, such as /proc/self/cwd. Elements that do not exist yet are kept. It returns "" if the path cannot be
// followed, or if the resolved name leads to another file: a path below /proc/PID/root does so if the process has
// other mounts.
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

// TrustedProgram is Trusted for a program and for its directory, which must not be sticky: a library that another
// user puts beside a program may be loaded.
func TrustedProgram(path string) error {
	if err := Trusted(path); err != nil {
		return err
	}
	return Trusted(filepath.Dir(path))
}

// TrustedCommand is TrustedProgram for a program, and Trusted for each argument that is the absolute path of a regular
// file: it may be the script that the program runs.
func TrustedCommand(program string, args []string) error {
	if err := TrustedProgram(program); err != nil {
		return err
	}
	for _, arg := range args {
		if !filepath.IsAbs(arg) {
			continue
		}
		if info, err := os.Stat(arg); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if err := Trusted(arg); err != nil {
			return err
		}
	}
	return nil
}
