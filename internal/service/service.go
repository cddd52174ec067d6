// Package service writes, removes and describes the files that make a service manager start the daemon: systemd
// user units, and launchd's agent. It does not touch a file of the same name that it has not written, and runs
// nothing.
package service

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"

	"broker/internal/atomicfile"
	"broker/internal/system"
)

// ErrForeign means that a file with one of our names was written by somebody else.
var ErrForeign = errors.New("was not written by `broker service install`")

// marker is the text that marks a file as ours.
const marker = "Written by `broker service install`"

// markedWithin is the number of lines at the beginning that are searched for the marker.
const markedWithin = 5

// File is one file of a service.
type File struct {
	Path string
	Text string
}

// Daemon is what a service runs.
type Daemon struct {
	Program string   // absolute path of brokerd
	Socket  string   // where it listens
	Env     []string // NAME=value
	Log     string   // file for its output; only launchd needs it
}

// Kept are the variables that move files. A service manager does not read a shell's profile, so `broker service
// install` writes those that are set into the service. None of them is a secret.
var Kept = []string{
	"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
	"BROKER_CONFIG", "BROKER_KEYRING_DIR", "BROKER_KEYRING_PASSPHRASE_FILE", "BROKER_RUNTIME_DIR", "BROKER_SOCKET",
	"BROKER_STATE_DIR",
	"GNUPGHOME", "PASSWORD_STORE_DIR",
	"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
}

// check rejects values that a service file cannot contain.
func (d Daemon) check() error {
	for _, text := range append([]string{d.Log}, d.Env...) {
		if err := checkText(text); err != nil {
			return err
		}
	}
	return errors.Join(checkPath(d.Program), checkPath(d.Socket))
}

func checkPath(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("not absolute: %q", path)
	}
	return checkText(path)
}

func checkText(text string) error {
	if strings.ContainsFunc(text, unicode.IsControl) || strings.ToValidUTF8(text, "") != text {
		return fmt.Errorf("a service file cannot contain %q", text)
	}
	return nil
}

// Ours reports whether there is a file at path. The error is ErrForeign if the file is not ours.
func Ours(path string) (bool, error) {
	f, _, err := system.OpenRegular(path, system.NoFollow)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, system.ErrNotRegular), errors.Is(err, syscall.ELOOP):
		return true, fmt.Errorf("%s %w", path, ErrForeign)
	case err != nil:
		return true, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for n := 0; n < markedWithin && lines.Scan(); n++ {
		if strings.Contains(lines.Text(), marker) {
			return true, nil
		}
	}
	return true, fmt.Errorf("%s %w", path, ErrForeign)
}

// maxText is the largest file that is read, in bytes.
const maxText = 1 << 20

// read returns the text of a file of a service. It waits for no pipe.
func read(path string) (string, error) {
	f, _, err := system.OpenRegular(path, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxText))
	return string(text), err
}

// Write writes the files, and reports whether it changed one of them. It checks all files before it writes the
// first.
func Write(files []File) (changed bool, err error) {
	for _, f := range files {
		if _, err := Ours(f.Path); err != nil {
			return false, err
		}
	}
	for _, f := range files {
		if old, err := read(f.Path); err == nil && old == f.Text {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
			return changed, err
		}
		if err := atomicfile.Write(f.Path, []byte(f.Text), 0o644); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// Remove removes the files that exist, and returns their paths. It checks all files before it removes the first.
func Remove(files []File) (removed []string, err error) {
	for _, f := range files {
		there, err := Ours(f.Path)
		if err != nil {
			return nil, err
		}
		if there {
			removed = append(removed, f.Path)
		}
	}
	for i, path := range removed {
		if err := os.Remove(path); err != nil {
			return removed[:i], err
		}
	}
	return removed, nil
}

// StablePath returns a name of this program that survives an upgrade of its package: the first candidate that
// leads to the same file as real. So a link such as /usr/local/bin/broker is not resolved to a path with a version
// in its name. Without such a candidate it returns real.
func StablePath(real string, candidates ...string) (string, error) {
	if strings.HasSuffix(real, " (deleted)") {
		return "", errors.New("this program was removed or replaced while it ran")
	}
	self, err := os.Stat(real)
	if err != nil {
		return "", fmt.Errorf("find Broker's own program: %w", err)
	}
	for _, c := range candidates {
		if c == "" || !filepath.IsAbs(c) {
			continue
		}
		if info, err := os.Stat(c); err == nil && os.SameFile(info, self) {
			return filepath.Clean(c), nil
		}
	}
	return real, nil
}
