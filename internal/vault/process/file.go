package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/99designs/keyring"

	"broker/internal/fault"
	"broker/internal/record"
	"broker/internal/secret"
	"broker/internal/stretch"
	"broker/internal/system"
	"broker/internal/vault"
)

// fileRing wraps the library's file backend. Without the wrapper, that backend would cache a wrong passphrase
// before checking it, truncate files in place, and accept a directory that is open to others.
//
// The directory holds one encrypted file (JWE) for each item, the key that opens the items, sealed with the
// passphrase (see filekey.go), a lock file, and a staging directory during a write. The check item always exists.
// It shows programs that do not know about the key that their passphrase is wrong.
type fileRing struct {
	dir   string
	given secret.String // from the request: the passphrase, the key of an earlier answer, or nothing
	// missing is set if the directory does not exist yet.
	missing bool
	// readOnly forbids sealing items again with another key.
	readOnly bool

	proved bool          // see prove, which sets the next four fields
	key    secret.String // what opens the items: the key, or the passphrase of an old keyring that cannot be written
	plain  bool          // there was no key file
	old    secret.String // the passphrase, for items that are not sealed with the key yet
	found  secret.String // the key, if it was not given and opens every item: the caller may keep it

	held bool              // we hold the lock
	tell func(line string) // reports problems that do not fail the request
}

const (
	lockName       = ".lock"
	stagingPattern = ".staging-*"
	maxPassphrase  = 1024
	passphraseFile = "BROKER_KEYRING_PASSPHRASE_FILE"
)

// errDamaged means that an item could not be decrypted although the passphrase is right.
var errDamaged = errors.New("it cannot be decrypted or is truncated")

// openFile opens the file backend. It touches nothing; every operation checks the passphrase first.
func openFile(dir string, given secret.String) (*fileRing, error) {
	err := checkKeyringDir(dir)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil, err
	}
	return &fileRing{dir: dir, given: given, missing: missing, tell: func(string) {}}, nil
}

// checkKeyringDir refuses a path that others could read or change, or that is not a directory.
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
			WithHint("%s", record.Mend(dir, system.CloseToOthers(fault.Word(dir), "700")))
	}
	return nil
}

// passphraseFromFile reads the first line of the file that BROKER_KEYRING_PASSPHRASE_FILE names; it returns "" if
// that is not set.
func passphraseFromFile() (secret.String, error) {
	path := os.Getenv(passphraseFile)
	if path == "" {
		return secret.String{}, nil
	}
	if !filepath.IsAbs(path) { // the vault process has another working directory than the user
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
	return secret.String{}, fault.New(fault.Keyring, "%s: %w", passphraseFile, err).WithHint("%s", fault.Of(err).Hint)
}

// readOwn reads a regular file that belongs to us, with mode 0600 or stricter and at most limit bytes. It follows
// no symbolic link.
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
		return nil, fault.New(fault.Keyring, "%s is open to others (mode %04o)", path, access.Perm).
			WithHint("%s", record.Mend(path, system.CloseToOthers(fault.Word(path), "600")))
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

// library opens the library's backend on a directory. Each use opens it again, so that it caches no passphrase.
func library(dir string, passphrase secret.String) (keyring.Keyring, error) {
	return openLibrary(keyring.Config{
		FileDir:          dir,
		FilePasswordFunc: func(string) (string, error) { return passphrase.Reveal(), nil },
	}, keyring.FileBackend)
}

// decrypt reads one item in a directory of ours with the key.
func (r *fileRing) decrypt(dir, name string) ([]byte, error) {
	it, err := decryptWith(r.key, dir, name)
	return it.Data, err
}

// decryptWith reads one item in a directory of ours; the error is errNoItem, errWrongKey or errDamaged.
func decryptWith(key secret.String, dir, name string) (keyring.Item, error) {
	// The library follows symlinks and blocks on a fifo, so check the file first. Nobody else can change it
	// meanwhile, because only we can write to the directory.
	if _, err := readOwn(filepath.Join(dir, name), maxItemBytes); errors.Is(err, fs.ErrNotExist) {
		return keyring.Item{}, errNoItem
	} else if err != nil {
		return keyring.Item{}, err
	}
	lib, err := library(dir, key)
	if err != nil {
		return keyring.Item{}, err
	}
	found, err := guard(func() (keyring.Item, error) { return lib.Get(name) })
	switch {
	case err == nil && found.Key == name:
		return found, nil
	case errors.Is(err, keyring.ErrKeyNotFound):
		return keyring.Item{}, errNoItem
	case err != nil && strings.Contains(err.Error(), keyUnwrapFailed):
		return keyring.Item{}, errWrongKey
	}
	return keyring.Item{}, errDamaged
}

// keyUnwrapFailed is an error of the AES key wrap in JWE: another passphrase, or a damaged wrapped key.
const keyUnwrapFailed = "KeyUnwrap(): integrity check failed"

var errWrongKey = errors.New("it is encrypted with another passphrase")

// prove checks that the passphrase or key in the request opens this keyring, before anything is read or written
// with it.
func (r *fileRing) prove(ctx context.Context) error {
	if r.proved {
		return nil
	}
	err := r.findKey(ctx)
	if errors.Is(err, vault.ErrWrongPassphrase) && r.plain {
		// Another process may have given the keyring its key meanwhile.
		if files, ferr := readKeyFiles(r.dir); ferr == nil && len(files) > 0 {
			err = r.findKey(ctx)
		}
	}
	r.proved = err == nil
	return err
}

// tryPassphrase checks the passphrase of an old keyring, which has no key file. If the check item is lost or
// damaged, any item that opens is proof enough: usable keys must stay accessible.
func (r *fileRing) tryPassphrase(items []string) error {
	data, err := r.decrypt(r.dir, checkKey)
	switch {
	case err == nil && string(data) == checkText:
		return nil
	case errors.Is(err, errWrongKey):
		return wrongPassphrase()
	}
	items = slices.DeleteFunc(items, func(name string) bool { return name == checkKey })
	for _, name := range items {
		if _, err := r.decrypt(r.dir, name); err == nil {
			return nil
		}
	}
	if len(items) > 0 {
		return wrongPassphrase()
	}
	return fault.New(fault.Keyring, "the check item %s of the keyring is damaged: %w", filepath.Join(r.dir, checkKey), err)
}

// items returns the names of all sealed items in the keyring.
func (r *fileRing) items() ([]string, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return ours(names), nil
}

func (r *fileRing) check(ctx context.Context) error { return r.prove(ctx) }

// asks is false: the passphrase comes with the request.
func (r *fileRing) asks() bool { return false }

func (r *fileRing) keys(ctx context.Context) ([]string, error) {
	if err := r.prove(ctx); err != nil {
		return nil, err
	}
	items, err := r.items()
	if err != nil {
		return nil, libraryError("list the keyring", err)
	}
	return slices.DeleteFunc(items, func(name string) bool { return name == checkKey }), nil
}

func (r *fileRing) get(ctx context.Context, key string) ([]byte, error) {
	if err := r.prove(ctx); err != nil {
		return nil, err
	}
	data, err := r.decrypt(r.dir, key)
	if errors.Is(err, errWrongKey) && r.plain {
		// Another process may have given the keyring its key meanwhile.
		if err := r.proveAgain(ctx); err != nil {
			return nil, err
		}
		data, err = r.decrypt(r.dir, key)
	}
	if errors.Is(err, errWrongKey) && !r.old.IsZero() {
		var it keyring.Item
		it, err = decryptWith(r.old, r.dir, key)
		data = it.Data
	}
	if err == nil || errors.Is(err, errNoItem) {
		return data, err
	}
	return nil, fault.New(fault.Keyring, "the keyring's item %s is damaged and was left as it is: %w", filepath.Join(r.dir, key), err)
}

func (r *fileRing) proveAgain(ctx context.Context) error {
	r.proved = false
	return r.prove(ctx)
}

func (r *fileRing) set(ctx context.Context, key, label string, data []byte) error {
	if err := r.prove(ctx); err != nil {
		return err
	}
	if err := r.write(key, label, data); err != nil {
		return fault.New(fault.Keyring, "write the keyring: %w; the old item stays", err)
	}
	return nil
}

func (r *fileRing) remove(ctx context.Context, key string) error {
	// Deleting a session needs no passphrase, so that logout also works while Broker is locked.
	if r.missing || !strings.HasPrefix(key, keptPrefix) {
		if err := r.prove(ctx); err != nil {
			return err
		}
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

// create makes the keyring with its first passphrase. It refuses if there is one.
func (r *fileRing) create(ctx context.Context) error {
	passphrase, err := r.passphrase()
	if err != nil {
		return err
	}
	if len(passphrase.Reveal()) > maxPassphrase {
		return fault.New(fault.Usage, "the passphrase is longer than %d bytes", maxPassphrase)
	}
	if r.missing {
		if err := os.MkdirAll(filepath.Dir(r.dir), 0o700); err != nil {
			return fault.New(fault.Keyring, "create the keyring directory: %w", err)
		}
		if err := system.MakePrivate(r.dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return fault.New(fault.Keyring, "create the keyring directory: %w", err)
		}
		if err := checkKeyringDir(r.dir); err != nil {
			return err
		}
		if err := syncPath(filepath.Dir(r.dir)); err != nil {
			return fault.New(fault.Keyring, "create the keyring directory: %w", err)
		}
		r.missing = false
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	items, err := r.items()
	if err != nil {
		return libraryError("list the keyring", err)
	}
	if len(items) > 0 {
		return &fault.Error{Kind: fault.Failed, Message: fmt.Sprintf("the keyring in %s already has a passphrase", r.dir), Err: vault.ErrExists}
	}
	if r.key, err = r.firstKey(passphrase); err != nil {
		return fault.New(fault.Keyring, "create the keyring: %w", err)
	}
	if err := r.write(checkKey, "broker: proof of the passphrase", []byte(checkText)); err != nil {
		return fault.New(fault.Keyring, "create the keyring: %w", err)
	}
	r.proved, r.found = true, r.key
	if why := stretch.Weak(passphrase.Reveal()); why != "" {
		r.tell("the passphrase of the keyring is weak: " + why)
	}
	return nil
}

// firstKey makes the key of an empty keyring. If an interrupted create left a key, it is used if the passphrase
// opens it; otherwise it is replaced, because nothing is sealed with it.
func (r *fileRing) firstKey(passphrase secret.String) (secret.String, error) {
	if files, err := readKeyFiles(r.dir); err == nil {
		if f, key, ok := openAny(files, passphrase); ok {
			return key, r.placeKeyFile(f)
		}
	} else if errors.Is(err, errNewerKeyFile) {
		return secret.String{}, err
	}
	for _, name := range keyFileNames {
		if err := os.Remove(filepath.Join(r.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return secret.String{}, err
		}
	}
	f, key, err := newKeyFile(passphrase)
	if err != nil {
		return secret.String{}, err
	}
	return key, r.placeKeyFile(f)
}

// write lets the library write into a staging directory, reads the item back, syncs it and renames it over the old
// item. A crash at any moment leaves the old item or the new one.
func (r *fileRing) write(name, label string, data []byte) error {
	return r.place(name, func(path string) error {
		staging := filepath.Dir(path)
		lib, err := library(staging, r.key)
		if err != nil {
			return err
		}
		if _, err = guard(func() (struct{}, error) {
			return struct{}{}, lib.Set(keyring.Item{Key: name, Label: label, Data: data})
		}); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		back, err := r.decrypt(staging, name)
		if err != nil {
			return fmt.Errorf("read back what was written: %w", err)
		}
		if string(back) != string(data) {
			return errors.New("the data read back differs from the data written")
		}
		return nil
	})
}

// place lets make write a file in a staging directory, syncs it and renames it to name. The caller holds the lock.
func (r *fileRing) place(name string, make func(path string) error) error {
	if left, err := os.ReadDir(r.dir); err == nil { // left by a crash, since we hold the lock
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
	staged := filepath.Join(staging, name)
	if err := make(staged); err != nil {
		return err
	}
	if err := syncPath(staged); err != nil {
		return err
	}
	if err := os.Rename(staged, filepath.Join(r.dir, name)); err != nil {
		return err
	}
	return syncPath(r.dir)
}

// syncPath makes a file, or the names in a directory, durable.
func syncPath(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return system.SyncDir(path)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) // Windows flushes only files that are open for writing
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
	if r.held { // by the same request
		return func() {}, nil
	}
	free, err := lockFile(ctx, filepath.Join(r.dir, lockName))
	if err != nil {
		return nil, err
	}
	r.held = true
	return func() { r.held = false; free() }, nil
}

// lockFile takes a lock file for this process. The kernel releases the lock when the process ends in any way.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|system.NoFollow|system.NonBlock, 0o600)
	if err != nil {
		return nil, fault.New(fault.Keyring, "lock the keyring: %w", err)
	}
	switch err = system.LockUntil(ctx, f); {
	case err == nil:
		return func() { _ = f.Close() }, nil
	case errors.Is(err, system.ErrLocked):
		err = fault.New(fault.Keyring, "another process holds the lock of the keyring: %s", path)
	default:
		err = fault.New(fault.Keyring, "lock the keyring: %w", err)
	}
	_ = f.Close()
	return nil, err
}
