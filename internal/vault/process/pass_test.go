//go:build !windows

package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/vault"
)

func init() { beds[vault.Pass] = passBed }

const gpgPassphrase = "the passphrase of the gpg key"

// passBed is a password store whose gpg key has a passphrase that gpg's agent knows.
func passBed(t *testing.T) *bed {
	needs(t, "pass", "gpg", "gpgconf", "gpg-connect-agent")
	home, err := os.MkdirTemp("", "pass") // the path of t.TempDir is too long for a socket
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	store := filepath.Join(home, "store")
	for _, dir := range []string{home + "/gnupg", store} {
		must(t, os.Mkdir(dir, 0o700))
	}
	full := smallDisk(t, store)
	for name, value := range map[string]string{
		"HOME": home, "GNUPGHOME": home + "/gnupg", "PASSWORD_STORE_DIR": store, "DISPLAY": "", "WAYLAND_DISPLAY": "", "GPG_TTY": "", "XDG_RUNTIME_DIR": home,
	} {
		t.Setenv(name, value)
	}
	// A pinentry that nobody sees. If the file `answer` exists, it acts as a person who knows the passphrase.
	must(t, os.WriteFile(home+"/pinentry", []byte("#!/bin/sh\necho $$ >>"+home+"/prompts\necho OK\nwhile read -r line; do\n"+
		"case $line in\nGETPIN*) if [ -e '"+home+"/answer' ]; then echo 'D "+gpgPassphrase+"'; echo OK; else exec sleep 3600; fi ;;\n*) echo OK ;;\nesac\ndone\n"), 0o700))
	t.Cleanup(func() {
		data, _ := os.ReadFile(home + "/prompts")
		for _, pid := range strings.Fields(string(data)) {
			_ = exec.Command("kill", "-KILL", pid).Run()
		}
	})
	must(t, os.WriteFile(home+"/gnupg/gpg-agent.conf", []byte("pinentry-program "+home+"/pinentry\nallow-loopback-pinentry\ns2k-count 65536\n"), 0o600))
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", home+"/gnupg", "--kill", "all").Run() })
	loopback := []string{"--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", gpgPassphrase}
	run("gpg", append(loopback, "--quick-gen-key", "paul@example.com", "future-default", "default", "never")...)
	run("pass", "init", "paul@example.com")
	sealed := home + "/word.gpg"
	must(t, os.WriteFile(home+"/word", []byte("word"), 0o600))
	run("gpg", "--batch", "--quiet", "-r", "paul@example.com", "-o", sealed, "--encrypt", home+"/word")
	open := func(t *testing.T) { run("gpg", append(loopback, "-o", "/dev/null", "--yes", "--decrypt", sealed)...) }
	kill := func(t *testing.T) { run("gpgconf", "--kill", "gpg-agent") }
	open(t)

	b := &bed{backend: vault.Pass, lock: kill, unlock: open, stop: kill, start: open, full: full}
	state := filepath.Join(home, "broker/state")
	b.caller = func(t *testing.T) *vault.Caller {
		return callerOn(t, vault.Pass, state)
	}
	b.mute = func(t *testing.T) func() { return func() { kill(t) } }
	b.freeze = func(t *testing.T) func() {
		out, err := exec.Command("gpg-connect-agent", "getinfo pid", "/bye").Output()
		must(t, err)
		var pid int
		if _, err := fmt.Sscanf(string(out), "D %d", &pid); err != nil {
			t.Fatalf("%v: %q", err, out)
		}
		run("kill", "-STOP", fmt.Sprint(pid))
		return func() { run("kill", "-CONT", fmt.Sprint(pid)) }
	}
	b.spoil = func(t *testing.T, key string, data []byte) {
		file := filepath.Join(home, "spoilt")
		must(t, os.WriteFile(file, data, 0o600))
		run("gpg", "--batch", "--quiet", "--yes", "-r", "paul@example.com", "-o", filepath.Join(store, passFolder, key+".gpg"), "--encrypt", file)
	}
	b.crash = map[string]int{"/^rename": 12, "/^unlink": 12, "/^mkdir": 6, "write": 40, "fsync": 6, "ftruncate": 6, "execve": 3, "/^wait": 12}
	b.left = func() int {
		left, _ := filepath.Glob(filepath.Join(store, passFolder, stagingPattern))
		return len(left)
	}
	return b
}

// TestPassAbsent: the error names what is missing, and nothing is created.
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
		c.Backend = func() string { return vault.Pass }
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
	c.Backend = func() string { return vault.Pass }
	if err := c.Check(t.Context()); !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "no program pass") {
		t.Errorf("without pass: %v", err)
	}
}

// TestPassWithoutTheSecretKey: a store that is encrypted to somebody else's key does not count as locked.
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

// TestPassAsks: a person answers the prompt of gpg's agent; storing a key shows the prompt too.
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
	if err := c.Try(ctx, vault.Pass); err != nil {
		t.Errorf("try: %v", err)
	}
	b.lock(t)
	if err := c.Check(ctx); !fault.Is(err, fault.KeyringLocked) {
		t.Errorf("a check showed a prompt: %v", err)
	}
}

// TestPassInGit: a store in a git tree is left clean, and its history has all changes.
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

// TestPassEnvironment: a vault process of this backend gets the variables of gpg and pass; one of another backend
// does not.
func TestPassEnvironment(t *testing.T) {
	from := []string{
		"GNUPGHOME=/g",
		"PASSWORD_STORE_DIR=/p",
		"DBUS_SESSION_BUS_ADDRESS=unix:path=/b",
		"GPG_TTY=/dev/pts/9",
		"AWS_SECRET_ACCESS_KEY=x",
	}
	pass, file := strings.Join(
		vault.Environment(from, []string{vault.Pass}),
		"\n",
	), strings.Join(
		vault.Environment(from, []string{vault.File}),
		"\n",
	)
	for _, want := range []string{"GNUPGHOME=/g", "PASSWORD_STORE_DIR=/p", vault.OuterBus + "=unix:path=/b"} {
		if !strings.Contains(pass, want) || strings.Contains(file, want) {
			t.Errorf("%s: pass %q, file %q", want, pass, file)
		}
	}
	if strings.Contains(pass, "AWS_SECRET") {
		t.Error("an AWS key is in the environment")
	}
}
