//go:build unix

package cli

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"broker/internal/fault"
	"broker/internal/profiles"
)

// TestDeepReadsOnlyOwnFiles: in /tmp, other users can put anything at a path that --deep has seen.
func TestDeepReadsOnlyOwnFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("own"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(at("own"), at("link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	theirs := "/etc/passwd"
	if os.Geteuid() == 0 {
		theirs = at("theirs")
		if err := os.WriteFile(theirs, []byte("text"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(theirs, 1, 1); err != nil {
			t.Skip(err)
		}
	}
	if got := string(readDeep(at("own"))); got != "text" {
		t.Errorf("own file: got %q", got)
	}
	for _, path := range []string{at("link"), at("fifo"), theirs, dir, at("none")} {
		if got := readDeep(path); got != nil {
			t.Errorf("%s was read", path)
		}
	}
}

// TestNoSecretInPipe: a pipe in the place of an AWS file keeps doctor, link and import waiting for nothing. A file that
// is too large is not read.
func TestNoSecretInPipe(t *testing.T) {
	dir := t.TempDir()
	x := &examination{program: new(program)}
	x.paths.Config, x.paths.Credentials = filepath.Join(dir, "config"), filepath.Join(dir, "credentials")
	if err := syscall.Mkfifo(x.paths.Config, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(x.paths.Credentials, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(x.paths.Credentials, 1<<40); err != nil {
		t.Skip(err)
	}
	if found := x.readableSecrets(); len(found) > 0 {
		t.Errorf("found %+v", found)
	}
	for _, d := range []profiles.Document{profiles.ConfigDocument, profiles.CredentialsDocument} {
		if _, err := x.readDocument(d); !fault.Is(err, fault.Config) {
			t.Errorf("%s: %v", x.document(d), err)
		}
	}
}
