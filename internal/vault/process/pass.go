//go:build !windows

package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/99designs/keyring"

	"broker/internal/fault"
	"broker/internal/vault"
	"broker/internal/vault/process/nodbus"
)

// passRing stores items in a password store of pass(1): one file for each item, encrypted by gpg.
// https://www.passwordstore.org/
//
// `pass insert` truncates the old file before gpg has written the new one. So an item is inserted in a staging
// folder, read back, and moved over the old one by `pass mv`, which is one rename. If the store is a git tree,
// pass commits each step.
type passRing struct {
	libraryRing
	dir string // the store's directory
}

const (
	passFolder = "broker" // within the store
	gpgOptions = "PASSWORD_STORE_GPG_OPTS"
	// gpgTimeout limits our own calls of gpg, which may have to start its agent.
	gpgTimeout = 5 * time.Second
)

// openPass checks before the library does whether the programs and the store exist.
func openPass(_ context.Context, q *request) (ring, error) {
	dir, err := passDir()
	if err != nil {
		return nil, err
	}
	for _, program := range []string{"pass", "gpg"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fault.New(fault.Keyring, "there is no program %s on the PATH", program).
				WithHint("broker keyring list")
		}
	}
	if _, err := os.Stat(filepath.Join(dir, ".gpg-id")); err != nil {
		return nil, fault.New(fault.Keyring, "there is no password store in %s; make one, or set password_store_dir", dir).
			WithHint("pass init GPG-ID")
	}
	if nodbus.Hidden() {
		if address := os.Getenv(vault.OuterBus); address != "" {
			_ = os.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
		} else {
			_ = os.Unsetenv("DBUS_SESSION_BUS_ADDRESS")
		}
	}
	if !passAsks() {
		// The agent then uses keys that are already unlocked, and shows no prompt, which nobody would see.
		_ = os.Setenv(gpgOptions, strings.TrimSpace(os.Getenv(gpgOptions)+" "+strings.Join(noPrompt, " ")))
	}
	r := &passRing{dir: dir}
	r.writerLock = writerLock{q.StateDir}
	r.blame = r.blamePass
	r.lib, err = r.library(passFolder)
	return r, err
}

func passDir() (string, error) {
	dir := os.Getenv("PASSWORD_STORE_DIR")
	if dir == "" {
		dir = filepath.Join(os.Getenv("HOME"), ".password-store")
	}
	if !filepath.IsAbs(dir) { // the vault process has another working directory than the user
		return "", fault.New(fault.Keyring, "PASSWORD_STORE_DIR: %q is not an absolute path", dir).WithHint("broker keyring list")
	}
	return filepath.Clean(dir), nil
}

var noPrompt = []string{"--batch", "--no-tty", "--pinentry-mode=error"}

// passAsks reports whether anybody could see a prompt of gpg's agent. The caller passes GPG_TTY on only if it has
// a terminal itself.
func passAsks() bool { return display() || strings.HasPrefix(os.Getenv("GPG_TTY"), "/dev/") }

func (r *passRing) library(folder string) (keyring.Keyring, error) {
	lib, err := openLibrary(keyring.Config{PassDir: r.dir, PassPrefix: folder}, keyring.PassBackend)
	if err != nil {
		return nil, libraryError("open the password store", err)
	}
	return lib, nil
}

func (r *passRing) asks() bool { return passAsks() }

// check encrypts a word to the keys of the store and decrypts it again.
func (r *passRing) check(ctx context.Context) error {
	ids, err := r.recipients()
	if err != nil {
		return err
	}
	args := append([]string{}, noPrompt...)
	for _, id := range ids {
		args = append(args, "-r", id)
	}
	sealed, says, err := runGPG(ctx, []byte(checkText), append(args, "--encrypt")...)
	if err != nil {
		return fault.New(fault.Keyring, "gpg cannot encrypt to the keys of the password store: %s", says).WithHint("gpg --list-keys")
	}
	opened, says, err := runGPG(ctx, sealed, append(noPrompt, "--decrypt")...)
	if err == nil && string(opened) == checkText {
		return nil
	}
	if ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
		// gpg gives the same error for a locked key and for a missing one.
		if _, _, err := runGPG(ctx, nil, append([]string{"--batch", "--no-tty", "--list-secret-keys", "--with-colons"}, ids...)...); err == nil {
			return passIsLocked()
		}
	}
	return fault.New(fault.Keyring, "gpg cannot decrypt what is encrypted to the keys of the password store: %s", says).WithHint("gpg --list-secret-keys")
}

func passIsLocked() error {
	return fault.New(fault.KeyringLocked, "the gpg key of the password store is locked: nobody can be asked for its passphrase, or the prompt was declined; unlock it on a terminal or a desktop").
		WithHint("env GPG_TTY=$(tty) broker keyring test")
}

// recipients returns the keys to which pass encrypts our folder.
func (r *passRing) recipients() ([]string, error) {
	var text string
	for _, dir := range []string{filepath.Join(r.dir, passFolder), r.dir} {
		if text != "" {
			break
		}
		data, err := os.ReadFile(filepath.Join(dir, ".gpg-id"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fault.New(fault.Keyring, "read the keys of the password store: %w", err)
		}
		text = string(data)
	}
	var ids []string
	for line := range strings.Lines(text) {
		id, _, _ := strings.Cut(line, "#")
		if id = strings.TrimSpace(id); id != "" && id[0] != '-' {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, fault.New(fault.Keyring, "the password store in %s names no gpg key", r.dir).WithHint("pass init GPG-ID")
	}
	return ids, nil
}

// runGPG runs gpg with a deadline; says is the last line of its stderr.
func runGPG(ctx context.Context, stdin []byte, args ...string) (out []byte, says string, err error) {
	ctx, cancel := context.WithTimeout(ctx, gpgTimeout)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "gpg", append([]string{"--quiet"}, args...)...)
	cmd.Stdin, cmd.Stderr, cmd.WaitDelay = bytes.NewReader(stdin), &stderr, time.Second
	out, err = cmd.Output()
	if ctx.Err() != nil {
		return nil, fmt.Sprintf("it did not answer within %s; a prompt may be waiting", gpgTimeout), context.DeadlineExceeded
	}
	return out, lastLine(stderr.Bytes()), err
}

func lastLine(text []byte) string {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return fault.Line(strings.TrimSpace(string(lines[len(lines)-1])))
}

// blamePass finds out why gpg failed: the library reports only its exit code.
func (r *passRing) blamePass(doing string, err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*gpgTimeout)
	defer cancel()
	if err := r.check(ctx); err != nil {
		return err
	}
	return nil
}

// path returns the file of an item.
func (r *passRing) path(folder, key string) string {
	return filepath.Join(r.dir, folder, key+".gpg")
}

// has reports whether there is an item, without reading it: seeing or removing an item needs no passphrase.
func (r *passRing) has(_ context.Context, key string) ([]byte, error) {
	_, err := os.Lstat(r.path(passFolder, key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoItem
	}
	if err != nil {
		return nil, fault.New(fault.Keyring, "read the password store: %w", err)
	}
	return nil, nil
}

func (r *passRing) get(ctx context.Context, key string) ([]byte, error) {
	if _, err := r.has(ctx, key); err != nil {
		return nil, err
	}
	return r.libraryRing.get(ctx, key)
}

func (r *passRing) remove(ctx context.Context, key string) error {
	return r.removeWith(ctx, key, r.has)
}

func (r *passRing) set(ctx context.Context, key, label string, data []byte) error {
	if err := r.write(ctx, key, label, data); err != nil {
		if fault.Is(err, fault.KeyringLocked) {
			return err
		}
		return fault.New(fault.Keyring, "write the password store: %w; the old item stays", err)
	}
	return nil
}

func (r *passRing) write(ctx context.Context, key, label string, data []byte) error {
	left, _ := filepath.Glob(filepath.Join(r.dir, passFolder, stagingPattern)) // left by a crash, since we hold the lock
	for _, dir := range left {
		r.discard(ctx, filepath.Join(passFolder, filepath.Base(dir)))
	}
	folder := filepath.Join(passFolder, fmt.Sprintf(".staging-%d", os.Getpid()))
	defer r.discard(ctx, folder)
	lib, err := r.library(folder)
	if err != nil {
		return err
	}
	staged := passRing{libraryRing: libraryRing{lib: lib, blame: r.blame}, dir: r.dir}
	if _, err := guard(func() (struct{}, error) {
		return struct{}{}, lib.Set(keyring.Item{Key: key, Label: label, Data: data})
	}); err != nil {
		return fmt.Errorf("pass insert: %w", err)
	}
	path := r.path(folder, key)
	if err := syncPath(path); err != nil {
		return err
	}
	back, err := staged.libraryRing.get(ctx, key)
	if err != nil {
		return err
	}
	if !bytes.Equal(back, data) {
		return errors.New("the data read back differs from the data written")
	}
	if err := r.run(ctx, "mv", "-f", filepath.Join(folder, key), filepath.Join(passFolder, key)); err != nil {
		return err
	}
	return syncPath(filepath.Join(r.dir, passFolder))
}

// discard removes a staging folder, also from git.
func (r *passRing) discard(ctx context.Context, folder string) {
	path := filepath.Join(r.dir, folder)
	if _, err := os.Lstat(path); err != nil {
		return
	}
	_ = r.run(ctx, "rm", "-r", "-f", folder)
	_ = os.RemoveAll(path)
}

// run runs pass for operations that the library does not have.
func (r *passRing) run(ctx context.Context, args ...string) error {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "pass", args...)
	cmd.Env = append(os.Environ(), "PASSWORD_STORE_DIR="+r.dir)
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("pass %s: %w: %s", args[0], err, lastLine(stderr.Bytes()))
	}
	return nil
}
