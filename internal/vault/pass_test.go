//go:build !windows

package vault

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/secret"
)

// TestPassAbsent: what is missing is named, and nothing is made.
func TestPassAbsent(t *testing.T) {
	needs(t, "pass", "gpg")
	home := t.TempDir()
	store := filepath.Join(home, "store")
	must(t, os.Mkdir(store, 0o700))
	t.Setenv("HOME", home)
	t.Setenv("GNUPGHOME", "")
	t.Setenv("PASSWORD_STORE_DIR", store)
	check := func(want string) {
		t.Helper()
		c := freshCaller(t)
		c.Backend = func() string { return Pass }
		err := itself(t, func() error { return c.Check(t.Context()) })
		if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), want) || fault.Of(err).Hint == "" {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	check("no password store in " + store)
	t.Setenv("PASSWORD_STORE_DIR", "store")
	check("not an absolute path")
	t.Setenv("PASSWORD_STORE_DIR", store)
	must(t, os.WriteFile(filepath.Join(store, ".gpg-id"), []byte("# nothing\n"), 0o600))
	check("names no gpg key")
	must(t, os.WriteFile(filepath.Join(store, ".gpg-id"), []byte("nobody@example.invalid # a comment\n"), 0o600))
	check("gpg cannot encrypt")
	t.Setenv("PATH", home)
	c := freshCaller(t)
	c.Backend = func() string { return Pass }
	if err := c.Check(t.Context()); !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "no program pass") {
		t.Errorf("without pass: %v", err)
	}
}

// TestPassWithoutTheSecretKey: a store that is encrypted to somebody else's key is not one that is locked.
func TestPassWithoutTheSecretKey(t *testing.T) {
	c := passBed(t).caller(t)
	out, err := exec.Command("gpg", "--batch", "--list-keys", "--with-colons", "paul@example.com").Output()
	must(t, err)
	_, rest, _ := strings.Cut(string(out), "\nfpr:::::::::")
	fingerprint, _, _ := strings.Cut(rest, ":")
	if out, err := exec.Command("gpg", "--batch", "--yes", "--delete-secret-keys", fingerprint).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := c.Check(t.Context()); !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "cannot decrypt") {
		t.Errorf("got %v", err)
	}
}

// TestPassAsks: somebody is there, and answers the prompt of gpg's agent; to store a key asks too.
func TestPassAsks(t *testing.T) {
	b := passBed(t)
	c, ctx := b.caller(t), t.Context()
	put(t, c, testKey("security"))
	must(t, os.WriteFile(filepath.Join(os.Getenv("HOME"), "answer"), nil, 0o600))
	t.Setenv("DISPLAY", ":4711")
	b.lock(t)
	if _, err := c.Open(ctx, testSource("security"), plainCall(), secret.String{}); err != nil {
		t.Errorf("open: %v", err)
	}
	b.lock(t)
	put(t, c, testKey("another"))
	b.lock(t)
	if err := c.Try(ctx, Pass); err != nil {
		t.Errorf("try: %v", err)
	}
	b.lock(t)
	if err := c.Check(ctx); !fault.Is(err, fault.KeyringLocked) {
		t.Errorf("a check asked: %v", err)
	}
}

// TestPassInGit: a store that is a git tree is left clean, with what was done in its history.
func TestPassInGit(t *testing.T) {
	needs(t, "git")
	c, ctx := passBed(t).caller(t), t.Context()
	for _, name := range []string{"GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"} {
		t.Setenv(name, "paul")
	}
	must(t, os.WriteFile(filepath.Join(os.Getenv("HOME"), ".gitconfig"), []byte("[user]\n\tname = paul\n\temail = paul@example.com\n"), 0o600))
	if out, err := exec.Command("pass", "git", "init").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	put(t, c, testKey("security"))
	must(t, c.SetSeed(ctx, "security", secret.New(testSeed)))
	clean := func() string {
		t.Helper()
		out, err := exec.Command("git", "-C", os.Getenv("PASSWORD_STORE_DIR"), "status", "--porcelain").Output()
		if err != nil || len(out) > 0 {
			t.Errorf("%v\n%s", err, out)
		}
		log, err := exec.Command("git", "-C", os.Getenv("PASSWORD_STORE_DIR"), "ls-files").Output()
		must(t, err)
		return string(log)
	}
	if files := clean(); !strings.Contains(files, passFolder+"/"+itemKey("security")+".gpg") || strings.Contains(files, "staging") {
		t.Errorf("in git:\n%s", files)
	}
	must(t, c.Remove(ctx, "security"))
	if files := clean(); strings.Contains(files, itemKey("security")) {
		t.Errorf("after remove:\n%s", files)
	}
}

// TestPassEnvironment: a vault of this backend gets what gpg and pass want, and one of another does not.
func TestPassEnvironment(t *testing.T) {
	from := []string{"GNUPGHOME=/g", "PASSWORD_STORE_DIR=/p", "DBUS_SESSION_BUS_ADDRESS=unix:path=/b", "GPG_TTY=/dev/pts/9", "AWS_SECRET_ACCESS_KEY=x"}
	pass, file := strings.Join(environment(from, []string{Pass}), "\n"), strings.Join(environment(from, []string{File}), "\n")
	for _, want := range []string{"GNUPGHOME=/g", "PASSWORD_STORE_DIR=/p", outerBus + "=unix:path=/b"} {
		if !strings.Contains(pass, want) || strings.Contains(file, want) {
			t.Errorf("%s: pass %q, file %q", want, pass, file)
		}
	}
	if strings.Contains(pass, "AWS_SECRET") {
		t.Error("a key of AWS")
	}
}
