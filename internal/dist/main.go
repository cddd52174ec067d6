// Command dist makes what `make install`, `make packages` and `make release` need in addition to the programs: manual
// pages, units, nfpm's configuration, archives, checksums and the Homebrew formula. Its output depends only on the
// commit: the same commit gives the same bytes, in every directory and at every time. It builds no programs, and no
// package contains it. It is not below cmd on purpose, so that `go install ./cmd/...` skips it.
//
//	dist check VERSION          fails unless this commit is the release VERSION ("v1.2.3")
//	dist man DIR                writes the manual pages into DIR/man1 and DIR/man8
//	dist units DIR PROGRAM      writes the systemd units that start PROGRAM, the path of brokerd
//	dist nfpm STAGE ARCH        prints nfpm's configuration for the files in STAGE
//	dist archive DIR OUT        packs DIR into OUT, a .tar.gz or a .zip
//	dist formula MODULE         prints the formula for the source at MODULE, a path such as github.com/owner/broker
//	dist sums DIR               writes DIR/SHA256SUMS
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"broker/internal/atomicfile"
	"broker/internal/service"
	"broker/internal/version"
)

func main() {
	if err := run(os.Args[1:], version.Get(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

func run(args []string, info version.Info, stdout io.Writer) error {
	commands := []struct {
		usage string // the name, and one word for each argument
		do    func(arg []string) error
	}{
		{"check VERSION", func(arg []string) error { return check(arg[0], info) }},
		{"man DIR", func(arg []string) error { return man(arg[0], info) }},
		{"units DIR PROGRAM", func(arg []string) error { return units(arg[0], arg[1]) }},
		{"nfpm STAGE ARCH", func(arg []string) error { return nfpm(stdout, arg[0], arg[1], info) }},
		{"archive DIR OUT", func(arg []string) error { return archive(arg[0], arg[1], info) }},
		{"formula MODULE", func(arg []string) error { return formula(stdout, arg[0], info) }},
		{"sums DIR", func(arg []string) error { return sums(arg[0]) }},
	}
	usage := "usage:"
	for _, c := range commands {
		if words := strings.Fields(c.usage); len(args) == len(words) && args[0] == words[0] {
			return c.do(args[1:])
		}
		usage += "\n  dist " + c.usage
	}
	return errors.New(usage)
}

// description says what Broker is, in packages and in the formula.
const description = "Keeps AWS keys in the OS keyring and hands out role sessions"

// errNoCommit means that the commit is needed, but git did not provide it.
var errNoCommit = errors.New("built without git, so the commit and its date are unknown; build in a clone with make")

// date returns the date of the commit. Everything that is packed has this date.
func date(info version.Info) (time.Time, error) {
	if info.Date == "" {
		return time.Time{}, errNoCommit
	}
	return time.Parse(time.RFC3339, info.Date)
}

// check returns an error unless this commit is the release that want names.
func check(want string, info version.Info) error {
	number, isTag := strings.CutPrefix(want, "v")
	if !isTag {
		return fmt.Errorf("VERSION is %q; it must be a tag such as v1.2.3\nhint: make release VERSION=v1.2.3", want)
	}
	if info.Version != number {
		return fmt.Errorf("this commit is version %s, not %s\nhint: commit everything, then git tag %s",
			info.Version, number, want)
	}
	log, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		return err
	}
	if !strings.Contains(string(log), "\n## "+number+"\n") {
		return fmt.Errorf("CHANGELOG.md has no section %q\nhint: rename the section Unreleased", "## "+number)
	}
	return nil
}

// packageVersion returns the version in a form that package managers compare correctly. A version without a tag
// sorts before every release, and a later commit sorts after an earlier one.
func packageVersion(info version.Info) (string, error) {
	if !strings.HasPrefix(info.Version, "devel") {
		return info.Version, nil
	}
	at, err := date(info)
	if err != nil {
		return "", err
	}
	return "0.0.0-pre" + at.UTC().Format("20060102150405"), nil
}

// units writes the systemd units of a package.
func units(dir, program string) error {
	files, err := service.Packaged(dir, program)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := write(f.Path, []byte(f.Text)); err != nil {
			return err
		}
	}
	return nil
}

// write writes a file that everybody can read, whatever the umask is, or leaves the old file. It creates the directory.
func write(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := atomicfile.Write(path, text, 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}
