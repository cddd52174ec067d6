package process

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/record"
	"broker/internal/secret"
	"broker/internal/stretch"
)

// The items of the file keyring are sealed with a random key of 256 bits. That key lies beside them, sealed with the
// passphrase, which argon2id stretches first. So the passphrase is stretched once for each unlock and not for each
// item, and no item can be guessed at faster than argon2id allows.

const (
	keyFileVersion = 1
	maxKeyFile     = 4 << 10
	// keyPrefix marks the text form of the key, so that no passphrase is taken for one: 32 bytes of base64url follow.
	keyPrefix = "broker-key-1."
)

// keyFileNames are the files with the sealed key. They hold the same: without it every item is lost, so there are two.
var keyFileNames = []string{"key.json", "key-copy.json"}

// errNewerKeyFile: another program wrote it, which knows more. It is left as it is.
var errNewerKeyFile = errors.New("a newer version of Broker wrote it")

// newStretch is stretch.New; tests take cheaper parameters.
var newStretch = stretch.New

// keyFile is a file with the sealed key, in JSON. All but Sealed is authenticated by it.
type keyFile struct {
	Version int            `json:"version"`
	Stretch stretch.Params `json:"argon2id"`
	Sum     []byte         `json:"key_sha256"` // of the key's text, which is too random to be guessed from it
	Sealed  []byte         `json:"sealed"`     // the key's text in AES-256-GCM, behind its nonce
}

// newKeyFile makes a key and seals it.
func newKeyFile(passphrase secret.String) (*keyFile, secret.String, error) {
	raw := make([]byte, stretch.KeyLength)
	_, _ = rand.Read(raw) // it never fails: crypto/rand
	text := keyPrefix + base64.RawURLEncoding.EncodeToString(raw)
	sum := sha256.Sum256([]byte(text))
	f := &keyFile{Version: keyFileVersion, Stretch: newStretch(), Sum: sum[:]}
	gcm, more, err := f.cipher(passphrase)
	if err != nil {
		return nil, secret.String{}, fault.New(fault.Internal, "seal the key of the keyring: %w", err)
	}
	f.Sealed = gcm.Seal(nil, nil, []byte(text), more)
	return f, secret.New(text), nil
}

// cipher stretches the passphrase. It returns the cipher and what it authenticates beside the key.
func (f *keyFile) cipher(passphrase secret.String) (cipher.AEAD, []byte, error) {
	bare := *f
	bare.Sealed = nil
	more, err := json.Marshal(bare)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(f.Stretch.Key(passphrase.Reveal()))
	if err != nil {
		return nil, nil, err
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	return gcm, more, err
}

// open returns the key if the passphrase is right.
func (f *keyFile) open(passphrase secret.String) (key secret.String, ok bool) {
	gcm, more, err := f.cipher(passphrase)
	if err != nil {
		return secret.String{}, false
	}
	text, err := gcm.Open(nil, nil, f.Sealed, more)
	key = secret.New(string(text))
	return key, err == nil && f.sealed(key)
}

// sealed reports whether this is the key, without any stretching.
func (f *keyFile) sealed(key secret.String) bool {
	sum := sha256.Sum256([]byte(key.Reveal()))
	return isKey(key) && subtle.ConstantTimeCompare(sum[:], f.Sum) == 1
}

// isKey reports whether a text is the key of a file keyring, and not a passphrase.
func isKey(text secret.String) bool {
	raw, ok := strings.CutPrefix(text.Reveal(), keyPrefix)
	return ok && len(raw) == base64.RawURLEncoding.EncodedLen(stretch.KeyLength)
}

// decodeKeyFile reads what newKeyFile wrote. Its errors repeat nothing of it.
func decodeKeyFile(data []byte) (*keyFile, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &version); err == nil && version.Version > keyFileVersion {
		return nil, fmt.Errorf("%w (version %d, this program knows %d)", errNewerKeyFile, version.Version,
			keyFileVersion)
	}
	f := &keyFile{}
	if err := record.DecodeStrict(data, f); err != nil {
		return nil, err
	}
	if f.Version != keyFileVersion || len(f.Sum) != sha256.Size || len(f.Sealed) == 0 {
		return nil, errors.New("it is not the JSON that was expected")
	}
	return f, f.Stretch.Check()
}

// readKeyFile reads the sealed key of a keyring, nil if there is no such file. If one of the two files is missing or
// damaged, the other one counts.
func readKeyFile(dir string) (*keyFile, error) {
	var damage error
	for _, name := range keyFileNames {
		path := filepath.Join(dir, name)
		data, err := readOwn(path, maxKeyFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var f *keyFile
		if err == nil {
			f, err = decodeKeyFile(data)
		}
		if err == nil {
			return f, nil
		}
		err = fault.New(fault.Keyring, "the key of the keyring in %s cannot be used and was left as it is: %w",
			path, err)
		if errors.Is(err, errNewerKeyFile) {
			return nil, err
		}
		if damage == nil {
			damage = err
		}
	}
	return nil, damage
}

// placeKeyFile writes the files with the sealed key that are not there. The lock is held.
func (r *fileRing) placeKeyFile(f *keyFile) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	for _, name := range keyFileNames {
		if _, err := os.Lstat(filepath.Join(r.dir, name)); err == nil {
			continue
		}
		if err := r.place(name, func(path string) error {
			return os.WriteFile(path, append(data, '\n'), 0o600)
		}); err != nil {
			return err
		}
	}
	return nil
}

// mendKeyFile writes that one of the two files again which was lost. f is what the other one says; nil if both were
// written just now.
func (r *fileRing) mendKeyFile(ctx context.Context, f *keyFile) error {
	if f == nil || !slices.ContainsFunc(keyFileNames, func(name string) bool {
		_, err := os.Lstat(filepath.Join(r.dir, name))
		return errors.Is(err, fs.ErrNotExist)
	}) {
		return nil
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return r.placeKeyFile(f)
}

// findKey finds what opens the items of this keyring: a key that an earlier answer gave, or the one that the
// passphrase opens. Items that are sealed with the passphrase itself, as they were before there was a key file, are
// sealed with the key then.
func (r *fileRing) findKey(ctx context.Context) error {
	r.plain = false
	if r.missing {
		return notCreated(r.dir)
	}
	items, err := r.items()
	if err != nil {
		return libraryError("list the keyring", err)
	}
	if len(items) == 0 {
		return notCreated(r.dir)
	}
	f, err := readKeyFile(r.dir)
	if err != nil {
		return err
	}
	if f != nil && f.sealed(r.given) {
		r.key = r.given
		return nil
	}
	passphrase, err := r.passphrase()
	if err != nil {
		return err
	}
	var ok bool
	if f == nil {
		r.key, r.plain = passphrase, true
		if err := r.tryPassphrase(items); err != nil {
			return err
		}
		if r.readOnly {
			return nil
		}
		if r.key, err = r.makeKey(ctx, passphrase); err != nil {
			r.key = passphrase
			r.tell("the keyring is still sealed with its passphrase alone, and works as before: " + err.Error())
			return nil
		}
	} else if r.key, ok = f.open(passphrase); !ok {
		return wrongPassphrase()
	}
	r.plain, r.old = false, passphrase
	if r.readOnly {
		return nil
	}
	err = r.reseal(ctx)
	if err == nil {
		err = r.mendKeyFile(ctx, f)
	}
	if err != nil {
		r.tell("a part of the keyring is still sealed with its passphrase alone, and works as before: " + err.Error())
		return nil
	}
	r.found = r.key
	return nil
}

// passphrase is the one that came with the request, else that of the passphrase file. A key that is not the one of this
// keyring counts as none.
func (r *fileRing) passphrase() (secret.String, error) {
	if !r.given.IsZero() && !isKey(r.given) {
		return r.given, nil
	}
	p, err := passphraseFromFile()
	if err == nil && p.IsZero() {
		err = noPassphrase()
	}
	return p, err
}

// makeKey gives an old keyring its key. Another process may have been quicker.
func (r *fileRing) makeKey(ctx context.Context, passphrase secret.String) (secret.String, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return secret.String{}, err
	}
	defer unlock()
	f, err := readKeyFile(r.dir)
	if err != nil {
		return secret.String{}, err
	}
	if f != nil {
		if key, ok := f.open(passphrase); ok {
			return key, nil
		}
		return secret.String{}, wrongPassphrase()
	}
	f, key, err := newKeyFile(passphrase)
	if err != nil {
		return secret.String{}, err
	}
	return key, r.placeKeyFile(f)
}

// reseal seals with the key what only the passphrase opens: all of an old keyring, what an interrupted run left, and
// what came back from a backup. Each item is replaced whole, so it opens with one of the two at any moment, and the key
// is given away only once it opens them all.
func (r *fileRing) reseal(ctx context.Context) error {
	if names, err := r.sealedWithPassphrase(); err != nil || len(names) == 0 {
		return err
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	names, err := r.sealedWithPassphrase()
	for i := 0; err == nil && i < len(names); i++ {
		it, ierr := decryptWith(r.old, r.dir, names[i])
		if errors.Is(ierr, errNoItem) {
			continue
		}
		if err = ierr; err == nil {
			err = r.write(it.Key, it.Label, it.Data)
		}
	}
	return err
}

// sealedWithPassphrase are the names of the items that the passphrase opens and the key does not. An item that neither
// opens is damaged, and get says so.
func (r *fileRing) sealedWithPassphrase() ([]string, error) {
	all, err := r.items()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range all {
		if _, err := r.decrypt(r.dir, name); !errors.Is(err, errWrongKey) {
			continue
		}
		if _, err := decryptWith(r.old, r.dir, name); err == nil {
			names = append(names, name)
		}
	}
	return names, nil
}
