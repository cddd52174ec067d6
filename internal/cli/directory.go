package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/system"
)

// nearestDirectory returns the directory with a file .broker that is nearest to the working directory, without
// symbolic links, or "" if no file is found.
func nearestDirectory() string {
	dir, err := os.Getwd()
	if err != nil { // it was removed
		return ""
	}
	if dir = system.RealPath(dir); dir == "" {
		return ""
	}
	return profiles.NearestDirectory(dir)
}

// workingDirectory returns the working directory as the daemon sees it, or "" if this system does not tell.
func workingDirectory() string {
	self, err := peer.Find(os.Getpid())
	if err != nil {
		return ""
	}
	return self.Dir()
}

// directoryProfile returns the exact name of the profile that the nearest file .broker names first, or "" if there is
// no such file.
func (p *program) directoryProfile() (string, error) {
	dir := nearestDirectory()
	if dir == "" {
		return "", nil
	}
	set, err := p.set()
	if err != nil {
		return "", err
	}
	return set.DirectoryProfile(dir)
}

// directories returns the directories that a person typed, without symbolic links, or else the nearest one.
func directories(typed []string) ([]string, error) {
	var list []string
	for _, dir := range typed {
		path, err := filepath.Abs(dir)
		if err == nil {
			path = system.RealPath(path)
		}
		if path == "" || err != nil {
			return nil, fault.New(fault.Usage, "the path %q cannot be followed", dir).WithHint("ls -ld %s", dir)
		}
		list = append(list, path)
	}
	if len(list) > 0 {
		return list, nil
	}
	if dir := nearestDirectory(); dir != "" {
		return []string{dir}, nil
	}
	return nil, fault.New(fault.NotFound, "there is no file %s here or in a directory above", profiles.DirectoryFile).
		WithHint("vi %s", profiles.DirectoryFile)
}

// trustDirectory shows what belongs to a directory, asks, and stores the answer.
func (p *program) trustDirectory(ctx context.Context, dir string, yes bool) error {
	set, err := p.set()
	if err != nil {
		return err
	}
	d, err := profiles.ReadDirectory(dir)
	if err != nil {
		return err
	}
	w := p.table()
	w.row("directory", d.Path)
	w.row("profiles", strings.Join(d.Profiles, ", "))
	if len(d.Accounts) > 0 {
		w.row("accounts", strings.Join(d.Accounts, ", "))
	}
	if err := w.print(); err != nil {
		return err
	}
	for _, name := range set.Unknown(d) {
		p.caution(fmt.Sprintf("%s is neither a profile nor an alias on this machine", name))
	}
	if set.DirectoryState(d) == profiles.Trusted {
		p.say("%s is trusted already", fault.Line(dir))
		return nil
	}
	if err := p.keepTrust(ctx, yes, profiles.SectionDirectory, dir, d.TrustKeys()); err != nil {
		return err
	}
	p.say("%s is trusted until its file %s changes", fault.Line(dir), profiles.DirectoryFile)
	return nil
}

// removeDirectories ends the trust in directories.
func (p *program) removeDirectories(dirs []string) error {
	set, err := p.set()
	if err != nil {
		return err
	}
	trusted := set.TrustedDirectories()
	for _, dir := range dirs {
		if !slices.ContainsFunc(trusted, func(t profiles.TrustedDirectory) bool { return t.Path == dir }) {
			return fault.New(fault.NotFound, "%q was not trusted", dir).WithHint("broker profiles trust --list")
		}
	}
	return p.dropTrust(profiles.SectionDirectory, dirs)
}
