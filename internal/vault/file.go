package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/99designs/keyring"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/system"
)

// fileRing wraps the library's file backend, which alone would memorise a wrong passphrase
// before checking it, truncate files in place and take a directory that is open to others.
//
// The directory holds one encrypted file (JWE, PBES2) for each item, the check item that
// proves the passphrase, a lock file, and a staging directory while a write is under way.
type fileRing struct {
	dir  string
	pass secret.String
	// missing is set where the directory or the check item is not there yet.
	missing bool
	proved  bool // see prove
}

const (
	lockName       = ".lock"
	stagingPattern = ".staging-*"
	maxPassphrase  = 1024
	passphraseFile = "BROKER_KEYRING_PASSPHRASE_FILE"
)

// errDamaged says that an item could not be decrypted although the passphrase is right.
var errDamaged = errors.New("it cannot be decrypted or is cut short")

// openFile opens the file backend. It touches nothing; every operation proves the passphrase first.
func openFile(dir string, pass secret.String) (*fileRing, error) {
	if err := checkKeyringDir(dir); errors.Is(err, fs.ErrNotExist) {
		return &fileRing{dir: dir, pass: pass, missing: true}, nil
	} else if err != nil {
		return nil, err
	}
	return &fileRing{dir: dir, pass: pass}, nil
}

// checkKeyringDir refuses a directory that others could read or change, or that is not one.
func checkKeyringDir(dir string) error {
	if !filepath.IsAbs(dir) {
		return fault.New(fault.Keyring, "the keyring directory %q is not an absolute path", dir)
	}
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return fault.New(fault.Keyring, "the keyring directory cannot be used: %w", err)
	}
	if info.Mode()&os.ModeSymlink != 0 || !info.IsDir() {
		return fault.New(fault.Keyring, "the keyring directory %s is not a directory (a symbolic link is not followed)", dir)
	}
	access, err := system.AccessOfPath(dir)
	switch {
	case err != nil:
		return fault.New(fault.Keyring, "the keyring directory %s cannot be used: %w", dir, err)
	case !access.Ours:
		return fault.New(fault.Keyring, "the keyring directory %s belongs to another user", dir)
	case access.Perm&0o077 != 0:
		return fault.New(fault.Keyring, "the keyring directory %s is open to others (mode %04o)", dir, access.Perm).
			WithHint("%s", system.CloseToOthers(fault.Word(dir), "700"))
	}
	return nil
}

// passphraseFromFile reads the first line of the file that BROKER_KEYRING_PASSPHRASE_FILE names; empty where it is unset.
func passphraseFromFile() (secret.String, error) {
	path := os.Getenv(passphraseFile)
	if path == "" {
		return secret.String{}, nil
	}
	if !filepath.IsAbs(path) { // the vault does not run where the user stands
		return secret.String{}, fault.New(fault.Keyring, "%s: %q is not an absolute path", passphraseFile, path)
	}
	data, err := readOwn(path, 64<<10)
	if err == nil {
		line, _, _ := strings.Cut(string(data), "\n")
		line = strings.TrimSuffix(line, "\r")
		if line != "" {
			return secret.New(line), nil
		}
		err = errors.New("its first line is empty")
	}
	return secret.String{}, fault.New(fault.Keyring, "%s: %w", passphraseFile, err)
}

// readOwn reads a regular file of ours with mode 0600 or less, of at most limit bytes, through no symlink.
func readOwn(path string, limit int64) ([]byte, error) {
	f, info, err := system.OpenRegular(path, system.NoFollow)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link", path)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	access, err := system.AccessOf(f)
	switch {
	case err != nil:
		return nil, err
	case !access.Ours:
		return nil, fmt.Errorf("%s belongs to another user", path)
	case access.Perm&0o077 != 0:
		return nil, fmt.Errorf("%s is open to others (mode %04o; %s)", path, access.Perm, system.CloseToOthers("it", "600"))
	case info.Size() > limit:
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	data := make([]byte, info.Size())
	n, err := f.ReadAt(data, 0)
	if n < len(data) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

// library opens the library's backend on a directory. Each use has its own, so that no passphrase is memorised.
func (r *fileRing) library(dir string) (keyring.Keyring, error) {
	return openLibrary(keyring.Config{
		FileDir:          dir,
		FilePasswordFunc: func(string) (string, error) { return r.pass.Reveal(), nil },
	}, keyring.FileBackend)
}

// decrypt reads one item of a directory of ours; errNoItem, errWrongPassphrase or errDamaged say why not.
func (r *fileRing) decrypt(dir, key string) ([]byte, error) {
	// The library follows symlinks and waits on a fifo, so the file is looked at first; nobody
	// else can change it, since the directory is ours alone.
	if _, err := readOwn(filepath.Join(dir, key), maxItemBytes); errors.Is(err, fs.ErrNotExist) {
		return nil, errNoItem
	} else if err != nil {
		return nil, err
	}
	lib, err := r.library(dir)
	if err != nil {
		return nil, err
	}
	found, err := guard(func() (keyring.Item, error) { return lib.Get(key) })
	switch {
	case err == nil && found.Key == key:
		return found.Data, nil
	case errors.Is(err, keyring.ErrKeyNotFound):
		return nil, errNoItem
	case err != nil && strings.Contains(err.Error(), keyUnwrapFailed):
		return nil, errWrongKey
	}
	return nil, errDamaged
}

// keyUnwrapFailed is of the AES key wrap of the JWE: another passphrase, or damage within the wrapped key.
const keyUnwrapFailed = "KeyUnwrap(): integrity check failed"

var errWrongKey = errors.New("it is encrypted with another passphrase")

// prove makes sure that the passphrase is the one of this keyring, before anything is read or
// written with it. Where the check item was lost or damaged, any item that opens is proof enough:
// a key that works must stay within reach.
func (r *fileRing) prove() error {
	if r.proved {
		return nil
	}
	err := r.tryPassphrase()
	r.proved = err == nil
	return err
}

func (r *fileRing) tryPassphrase() error {
	if r.missing {
		return notCreated(r.dir)
	}
	data, err := []byte(nil), errNoItem
	if !r.pass.IsZero() {
		data, err = r.decrypt(r.dir, checkKey)
	} else if _, statErr := os.Lstat(filepath.Join(r.dir, checkKey)); statErr == nil {
		return noPassphrase()
	}
	if err == nil && string(data) == checkText {
		return nil
	}
	keys, listErr := r.items()
	if listErr != nil {
		return libraryError("list the keyring", listErr)
	}
	if len(keys) == 0 && errors.Is(err, errNoItem) {
		return notCreated(r.dir)
	}
	if r.pass.IsZero() {
		return noPassphrase()
	}
	if errors.Is(err, errWrongKey) {
		return wrongPassphrase()
	}
	for _, key := range keys {
		if _, err := r.decrypt(r.dir, key); err == nil {
			return nil
		}
	}
	if len(keys) > 0 {
		return wrongPassphrase()
	}
	return fault.New(fault.Keyring, "the check item %s of the keyring is damaged: %w", filepath.Join(r.dir, checkKey), err)
}

// items are the keys of the sources that are stored.
func (r *fileRing) items() ([]string, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), itemPrefix) {
			keys = append(keys, e.Name())
		}
	}
	return keys, nil
}

func (r *fileRing) check(context.Context) error { return r.prove() }

// asks is false: the passphrase comes with the request.
func (r *fileRing) asks() bool { return false }

func (r *fileRing) keys(context.Context) ([]string, error) {
	if err := r.prove(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, libraryError("list the keyring", err)
	}
	var keys []string
	for _, e := range entries {
		if e.Name() != checkKey {
			keys = append(keys, e.Name())
		}
	}
	return ours(keys), nil
}

func (r *fileRing) get(_ context.Context, key string) ([]byte, error) {
	if err := r.prove(); err != nil {
		return nil, err
	}
	data, err := r.decrypt(r.dir, key)
	if err == nil || errors.Is(err, errNoItem) {
		return data, err
	}
	return nil, fault.New(fault.Keyring, "the keyring's item %s is damaged and was left as it is: %w", filepath.Join(r.dir, key), err)
}

func (r *fileRing) set(_ context.Context, key, label string, data []byte) error {
	if err := r.prove(); err != nil {
		return err
	}
	if err := r.write(key, label, data); err != nil {
		return fault.New(fault.Keyring, "write the keyring: %w; the old item stays", err)
	}
	return nil
}

func (r *fileRing) remove(_ context.Context, key string) error {
	// What is not there needs no passphrase to be gone.
	if _, err := os.Lstat(filepath.Join(r.dir, key)); errors.Is(err, fs.ErrNotExist) && !r.missing && strings.HasPrefix(key, keptPrefix) {
		return errNoItem
	}
	if err := r.prove(); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(r.dir, key))
	if errors.Is(err, fs.ErrNotExist) {
		return errNoItem
	}
	if err == nil {
		err = syncPath(r.dir)
	}
	if err != nil {
		return fault.New(fault.Keyring, "remove from the keyring: %w", err)
	}
	return nil
}

// create makes the keyring with its first passphrase. An existing one is refused.
func (r *fileRing) create(ctx context.Context) error {
	switch n := len(r.pass.Reveal()); {
	case n == 0:
		return noPassphrase()
	case n > maxPassphrase:
		return fault.New(fault.Usage, "the passphrase is longer than %d bytes", maxPassphrase)
	}
	if r.missing {
		if err := os.MkdirAll(filepath.Dir(r.dir), 0o700); err != nil {
			return fault.New(fault.Keyring, "make the keyring directory: %w", err)
		}
		if err := system.MakePrivate(r.dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return fault.New(fault.Keyring, "make the keyring directory: %w", err)
		}
		if err := checkKeyringDir(r.dir); err != nil {
			return err
		}
		if err := syncPath(filepath.Dir(r.dir)); err != nil {
			return fault.New(fault.Keyring, "make the keyring directory: %w", err)
		}
		r.missing = false
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	keys, err := r.items()
	if err != nil {
		return libraryError("list the keyring", err)
	}
	if _, err := os.Lstat(filepath.Join(r.dir, checkKey)); err == nil || len(keys) > 0 {
		return &fault.Error{Kind: fault.Failed, Message: fmt.Sprintf("the keyring in %s has a passphrase already", r.dir), Err: ErrExists}
	}
	if err := r.write(checkKey, "broker: proof of the passphrase", []byte(checkText)); err != nil {
		return fault.New(fault.Keyring, "create the keyring: %w", err)
	}
	r.proved = false
	return r.prove()
}

// write lets the library write into a staging directory, reads that back, syncs it and renames it over
// the old item: a crash at any moment leaves the old item or the new one.
func (r *fileRing) write(key, label string, data []byte) (err error) {
	if left, globErr := os.ReadDir(r.dir); globErr == nil { // of a crash; the lock is ours
		for _, e := range left {
			if ok, _ := filepath.Match(stagingPattern, e.Name()); ok {
				_ = os.RemoveAll(filepath.Join(r.dir, e.Name()))
			}
		}
	}
	staging, err := os.MkdirTemp(r.dir, stagingPattern)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(staging) }()
	lib, err := r.library(staging)
	if err != nil {
		return err
	}
	if _, err = guard(func() (struct{}, error) {
		return struct{}{}, lib.Set(keyring.Item{Key: key, Label: label, Data: data})
	}); err != nil {
		return err
	}
	staged := filepath.Join(staging, key)
	if err = os.Chmod(staged, 0o600); err != nil {
		return err
	}
	if err = syncPath(staged); err != nil {
		return err
	}
	back, err := r.decrypt(staging, key)
	if err != nil {
		return fmt.Errorf("read back what was written: %w", err)
	}
	if string(back) != string(data) {
		return errors.New("what was written does not read back the same")
	}
	if err = os.Rename(staged, filepath.Join(r.dir, key)); err != nil {
		return err
	}
	return syncPath(r.dir)
}

// syncPath makes a file, or the names in a directory, last.
func syncPath(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return system.SyncDir(path)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) // Windows flushes only what may be written
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return f.Sync()
}

func (r *fileRing) lock(ctx context.Context) (func(), error) {
	if r.missing {
		return nil, notCreated(r.dir)
	}
	return lockFile(ctx, filepath.Join(r.dir, lockName))
}

// lockFile takes a lock file for this process. The kernel gives it back however the process ends.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|system.NoFollow|system.NonBlock, 0o600)
	if err != nil {
		return nil, fault.New(fault.Keyring, "lock the keyring: %w", err)
	}
	switch err = system.LockUntil(ctx, f); {
	case err == nil:
		return func() { _ = f.Close() }, nil
	case errors.Is(err, system.ErrLocked):
		err = fault.New(fault.Keyring, "another process holds the keyring: %s did not become free", path)
	default:
		err = fault.New(fault.Keyring, "lock the keyring: %w", err)
	}
	_ = f.Close()
	return nil, err
}
