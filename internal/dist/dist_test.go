package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"broker/internal/brokerd"
	"broker/internal/cli"
	"broker/internal/client"
	"broker/internal/version"
)

var release = version.Info{Version: "1.2.3", Commit: "fc672e5b07a72f649d072130050819b62ec402d8",
	Date: "2026-11-28T19:12:24Z"}

// stage creates a few files, in the given order and with the current time. A name "a -> b" creates a link.
func stage(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		name, target, isLink := strings.Cut(name, " -> ")
		path := filepath.Join(dir, name)
		if isLink {
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		mode := os.FileMode(0o644)
		if strings.Contains(name, "bin/") {
			mode = 0o711
		}
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(name), mode),
			os.Chmod(path, mode))
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestArchivesDependOnTheCommitOnly checks that the same files give the same bytes, whenever and in whatever order
// they were created, and that another commit gives other bytes.
func TestArchivesDependOnTheCommitOnly(t *testing.T) {
	for _, ending := range []string{".tar.gz", ".zip"} {
		pack := func(info version.Info, names ...string) []byte {
			out := filepath.Join(t.TempDir(), "broker-1.2.3"+ending)
			if err := archive(stage(t, names...), out, info); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		one := pack(release, "usr/bin/broker", "usr/share/a", "usr/share/b")
		other := release
		other.Date = "2026-11-28T19:12:26Z"
		if !bytes.Equal(one, pack(release, "usr/share/b", "usr/share/a", "usr/bin/broker")) {
			t.Errorf("%s: two archives of the same files differ", ending)
		}
		if bytes.Equal(one, pack(other, "usr/bin/broker", "usr/share/a", "usr/share/b")) {
			t.Errorf("%s: the archive does not contain the date of the commit: the test is void", ending)
		}
	}
}

// TestArchiveContent checks names, modes, owners and links in archives. A zip has no links.
func TestArchiveContent(t *testing.T) {
	dir := t.TempDir()
	files, links := stage(t, "usr/share/a", "usr/bin/broker"), stage(t, "usr/share/a", "usr/bin/broker", "usr/share/link -> broker")
	err := errors.Join(archive(links, filepath.Join(dir, "b.tar.gz"), release), archive(files, filepath.Join(dir, "b.zip"), release))
	if err != nil {
		t.Fatal(err)
	}
	if err := archive(files, filepath.Join(dir, "b.rar"), release); err == nil {
		t.Error("archive wrote an unknown kind of archive")
	}
	if err := archive(links, filepath.Join(dir, "links.zip"), release); err == nil || !strings.Contains(err.Error(), "share/link is") {
		t.Errorf("a zip with a link: %v", err)
	}
	for _, name := range []string{"b.rar", "links.zip"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was begun and left: %v", name, err)
		}
	}
	if err := archive(files, filepath.Join(dir, "b.zip"), version.Info{}); !errors.Is(err, errNoCommit) {
		t.Errorf("without a date: %v", err)
	}
	f, err := os.Open(filepath.Join(dir, "b.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		at := h.ModTime.UTC().Format(time.RFC3339)
		if err != nil || h.Uid != 0 || h.Gid != 0 || h.Uname != "root" || at != release.Date {
			t.Errorf("%s: %+v, %v", h.Name, h, err)
		}
		got = append(got, fmt.Sprintf("%s %o %s%s", h.Name, h.Mode, h.Linkname, text))
	}
	want := []string{"b/ 755 ", "b/usr/ 755 ", "b/usr/bin/ 755 ", "b/usr/bin/broker 711 usr/bin/broker",
		"b/usr/share/ 755 ",
		"b/usr/share/a 644 usr/share/a", "b/usr/share/link 777 broker"}
	if !slices.Equal(got, want) {
		t.Errorf("the tar has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	r, err := zip.OpenReader(filepath.Join(dir, "b.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got = nil
	for _, f := range r.File {
		got = append(got, fmt.Sprintf("%s %o", f.Name, f.Mode().Perm()))
	}
	if want := []string{"b/ 755", "b/usr/ 755", "b/usr/bin/ 755", "b/usr/bin/broker 711", "b/usr/share/ 755",
		"b/usr/share/a 644"}; !slices.Equal(got, want) {
		t.Errorf("the zip has %q, want %q", got, want)
	}
}

// TestPackageOwnsItsOwnFilesOnly checks that a package lists each file with its mode, and no directory that
// belongs to the system.
func TestPackageOwnsItsOwnFilesOnly(t *testing.T) {
	var out bytes.Buffer
	dir := stage(t, "usr/bin/broker", "usr/share/licenses/broker/LICENSE", "usr/share/link -> broker")
	if err := run([]string{"nfpm", dir, "arm64"}, release, &out); err != nil {
		t.Fatal(err)
	}
	var c nfpmConfig
	if err := json.Unmarshal(out.Bytes(), &c); err != nil {
		t.Fatal(err)
	}
	if c.Description != description || c.Version != "1.2.3" || c.Arch != "arm64" || c.MTime != release.Date {
		t.Errorf("got %+v", c)
	}
	var got []string
	for _, f := range c.Contents {
		if f.Info.Owner != "root" || f.Info.Group != "root" || f.Info.MTime != release.Date {
			t.Errorf("%s: %+v", f.Destination, f.Info)
		}
		got = append(got, fmt.Sprintf("%s %o %s", f.Destination, f.Info.Mode, f.Type))
	}
	want := []string{"/usr/bin/broker 711 ", "/usr/share/licenses/broker 755 dir",
		"/usr/share/licenses/broker/LICENSE 644 ",
		"/usr/share/link 0 symlink"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := run([]string{"nfpm", t.TempDir(), "arm64"}, release, io.Discard); err == nil {
		t.Error("nfpm accepted a package without files")
	}
	if err := run([]string{"nfpm", dir, "arm64"}, version.Info{Version: "1.2.3"}, io.Discard); !errors.Is(err, errNoCommit) {
		t.Errorf("a release without a date: %v", err)
	}
}

// TestPackageVersions checks that releases have the version of their tag, and that other commits sort before them
// and by date.
func TestPackageVersions(t *testing.T) {
	for _, tt := range []struct {
		info version.Info
		want string
		err  error
	}{
		{release, "1.2.3", nil},
		{version.Info{Version: "1.2.3-rc1", Date: release.Date}, "1.2.3-rc1", nil},
		{version.Info{Version: "devel+fc672e5b07a7", Date: release.Date}, "0.0.0-pre20261128191224", nil},
		{version.Info{Version: "devel"}, "", errNoCommit},
	} {
		if got, err := packageVersion(tt.info); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%+v: got %q, %v, want %q, %v", tt.info, got, err, tt.want, tt.err)
		}
	}
}

// TestReleaseIsWhatItsNameSays checks that a release needs a clean commit, its tag and its section in the
// changelog.
func TestReleaseIsWhatItsNameSays(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("CHANGELOG.md", []byte("# Changelog\n\n## 1.2.3\n\n## 1.2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	devel := release
	devel.Version = "devel+fc672e5b07a7.modified"
	for _, tt := range []struct {
		want string
		info version.Info
		err  string
	}{
		{"v1.2.3", release, ""},
		{"1.2.3", release, "must be a tag such as v1.2.3"},
		{"", release, "must be a tag such as v1.2.3"},
		{"v1.2.3", devel, "this commit is version devel+fc672e5b07a7.modified, not 1.2.3\n" +
			"hint: commit everything, then git tag v1.2.3"},
		{"v1.2.4", release, "this commit is version 1.2.3, not 1.2.4"},
		{"v1.2.4", version.Info{Version: "1.2.4"}, `no section "## 1.2.4"`},
	} {
		err := check(tt.want, tt.info)
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%q, %s: got %v, want %q", tt.want, tt.info.Version, err, tt.err)
		}
	}
}

// TestFormula compares the Homebrew formula with the one in testdata. Its description is that of broker(1).
func TestFormula(t *testing.T) {
	var got bytes.Buffer
	if err := formula(&got, "github.com/owner/broker", release); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/broker.rb.golden")
	if err != nil || got.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s%v", got.String(), want, err)
	}
	page := string(cli.ManPage("", ""))
	if usage := `broker \- ` + strings.ToLower(description[:1]) + description[1:]; !strings.Contains(page, usage+"\n") {
		t.Errorf("broker(1) does not say %s", usage)
	}
	if err := formula(io.Discard, "x", version.Info{}); !errors.Is(err, errNoCommit) {
		t.Errorf("without a commit: %v", err)
	}
}

// TestSums checks that sha256sum accepts the list, and that the list contains neither itself nor its signature.
func TestSums(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"b": "", "a": "abc", sumsName: "old", sumsName + ".minisig": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := sums(dir); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, sumsName))
	want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n" +
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b\n"
	if err != nil || string(got) != want {
		t.Errorf("got\n%s, %v, want\n%s", got, err, want)
	}
}

// TestManPages checks that each program has a manual page, and that the pages of credproc and brokerd have every
// option of the usage text.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	if err := man(dir, release); err != nil {
		t.Fatal(err)
	}
	var credproc, daemon bytes.Buffer
	client.Credproc([]string{"--help"}, &credproc, io.Discard)
	brokerd.Main([]string{"brokerd", "--help"}, nil, &daemon, io.Discard)
	for path, usage := range map[string]string{"man1/broker.1": "", "man1/credproc.1": credproc.String(),
		"man8/brokerd.8": daemon.String()} {
		page, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(page), `\-`, "-")
		if !strings.Contains(text, `"2026-11-28" "Broker 1.2.3"`) || strings.Contains(text, "@") {
			t.Errorf("%s: date and version are missing", path)
		}
		options := 0
		for word := range strings.FieldsSeq(usage) {
			if word = strings.Trim(word, "[]"); strings.HasPrefix(word, "--") {
				options++
				if !strings.Contains(text, `\fB`+word+`\fR`) {
					t.Errorf("%s: %s is missing", path, word)
				}
			}
		}
		if usage != "" && options < 2 {
			t.Errorf("%s: only %d options were found: the test is void", path, options)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "man1/broker.1"))
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestUsage checks that a command with too many or too few words does nothing and prints all commands.
func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"man"}, {"check"}, {"sums", "a", "b"}, {"archive", "x"}, {"frob", "x"}} {
		err := run(args, release, io.Discard)
		if err == nil || !strings.HasPrefix(err.Error(), "usage:\n  dist check VERSION\n") || !strings.HasSuffix(err.Error(), "\n  dist sums DIR") {
			t.Errorf("%q: %v", args, err)
		}
	}
}
