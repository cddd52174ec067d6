package process

import (
	"bytes"
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
	"strings"

	"broker/internal/fault"
	"broker/internal/record"
	"broker/internal/secret"
	"broker/internal/stretch"
	"broker/internal/vault"
)

// The items of the file keyring are sealed with a random 256-bit key. That key is stored beside them, sealed with
// the passphrase, which argon2id stretches first. So the passphrase is stretched once for each unlock and not for
// each item, and no item can be guessed faster than argon2id allows.

const (
	keyFileVersion = 1
	maxKeyFile     = 4 << 10
	// keyPrefix marks the text form of the key, so that no passphrase is mistaken for a key. 32 bytes of base64url
	// follow.
	keyPrefix = "broker-key-1."
)

// keyFileNames are the files with the sealed key. Both have the same content: without the key every item is lost,
// so there is a copy.
var keyFileNames = []string{"key.json", "key-copy.json"}

// errNewerKeyFile means that a newer version of Broker wrote the file. It is left unchanged.
var errNewerKeyFile = errors.New("a newer version of Broker wrote it")

// newStretch is stretch.New; tests use cheaper parameters.
var newStretch = stretch.New

// keyFile is the JSON content of a file with the sealed key. Sealed authenticates all other fields.
type keyFile struct {
	Version int            `json:"version"`
	Stretch stretch.Params `json:"argon2id"`
	Sum     []byte         `json:"key_sha256"` // SHA-256 of the key's text, which is too random to be guessed from it
	Sealed  []byte         `json:"sealed"`     // nonce and the key's text, encrypted with AES-256-GCM
}

// newKeyFile makes a key and seals it.
func newKeyFile(passphrase secret.String) (*keyFile, secret.String, error) {
	raw := make([]byte, stretch.KeyLength)
	_, _ = rand.Read(raw) // crypto/rand never fails
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

// cipher stretches the passphrase. It returns the cipher and the additional data that it authenticates.
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

// sealed reports whether this is the key, without stretching anything.
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
		return nil, fmt.Errorf("%w (version %d, this program reads version %d)", errNewerKeyFile, version.Version,
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

// readKeyFiles reads the sealed key of a keyring. It returns those of the two files that are intact, only one if
// they are equal, and none if neither file exists. It fails if the files that exist are all damaged, or if a newer
// program wrote one.
func readKeyFiles(dir string) (whole []*keyFile, err error) {
	for _, name := range keyFileNames {
		f, ferr := readKeyFile(dir, name)
		switch {
		case errors.Is(ferr, errNewerKeyFile):
			return nil, ferr
		case ferr == nil && (len(whole) == 0 || !whole[0].equal(f)):
			whole = append(whole, f)
		case ferr != nil && !errors.Is(ferr, fs.ErrNotExist) && err == nil:
			err = ferr
		}
	}
	if len(whole) > 0 {
		err = nil
	}
	return whole, err
}

// readKeyFile reads one of the two files. The error wraps fs.ErrNotExist if the file is missing, and
// damagedKeyFile if its content is damaged.
func readKeyFile(dir, name string) (*keyFile, error) {
	path := filepath.Join(dir, name)
	data, err := readOwn(path, maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var f *keyFile
	var hint fault.Hint
	if err != nil {
		hint = fault.Of(err).Hint
	} else if f, err = decodeKeyFile(data); err != nil && !errors.Is(err, errNewerKeyFile) {
		err = damagedKeyFile{err}
	}
	if err != nil {
		return nil, fault.New(fault.Keyring, "the key of the keyring in %s cannot be used and was left as it is: %w",
			path, err).WithHint("%s", hint)
	}
	return f, nil
}

// damagedKeyFile is an error about the content of a key file.
type damagedKeyFile struct{ error }

func (f *keyFile) equal(g *keyFile) bool {
	a, aerr := json.Marshal(f)
	b, berr := json.Marshal(g)
	return aerr == nil && berr == nil && bytes.Equal(a, b)
}

// openAny returns the first key file that the passphrase opens.
func openAny(files []*keyFile, passphrase secret.String) (f *keyFile, key secret.String, ok bool) {
	for _, f := range files {
		if key, ok := f.open(passphrase); ok {
			return f, key, true
		}
	}
	return nil, secret.String{}, false
}

// placeKeyFile writes those of the key files that are missing. The caller holds the lock.
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

// mendKeyFiles rewrites a key file that is lost or damaged. A damaged file is set aside first. f is the intact
// file that was opened; if other is set, a file with different content counts as damaged. If a file cannot be
// repaired, mendKeyFiles reports it.
func (r *fileRing) mendKeyFiles(ctx context.Context, f *keyFile, other bool) {
	bad := func() (names []string, damage error) {
		for _, name := range keyFileNames {
			g, err := readKeyFile(r.dir, name)
			switch {
			case errors.Is(err, fs.ErrNotExist), errors.As(err, new(damagedKeyFile)), err == nil && other && !g.equal(f):
				names = append(names, name)
			case err != nil:
				damage = err
			}
		}
		return names, damage
	}
	names, err := bad()
	if err == nil && len(names) == 0 {
		return
	}
	if err == nil {
		var unlock func()
		if unlock, err = r.lock(ctx); err == nil {
			defer unlock()
			names, _ = bad() // another process may have been faster
			for _, name := range names {
				if path := filepath.Join(r.dir, name); isThere(path) && err == nil {
					_, err = record.SetAside(path)
				}
			}
			if err == nil {
				err = r.placeKeyFile(f)
			}
		}
	}
	switch {
	case err != nil:
		r.tell("one of the two files with the key of the keyring is lost, and the other one is used: " + err.Error())
	case len(names) > 0:
		r.tell(strings.Join(names, " and ") + " of the keyring was lost or damaged, and was written again from the other file")
	}
}

// findKey finds what opens the items of this keyring: the key from an earlier answer, or the key that the
// passphrase opens. Items that are still sealed with the passphrase itself, from before there were key files, are
// then sealed with the key.
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
	files, err := readKeyFiles(r.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if !f.sealed(r.given) {
			continue
		}
		if r.key = r.given; !r.readOnly {
			r.mendKeyFiles(ctx, f, false) // nothing proves that the passphrase opens this file
		}
		return nil
	}
	if len(files) == 0 && isKey(r.given) {
		return lostKey(r.dir)
	}
	passphrase, err := r.passphrase()
	if err != nil {
		return err
	}
	f, key, ok := openAny(files, passphrase)
	if len(files) == 0 {
		r.key, r.plain = passphrase, true
		if err := r.tryPassphrase(items); errors.Is(err, vault.ErrWrongPassphrase) {
			return maybeLostKey(r.dir)
		} else if err != nil {
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
	} else if r.key = key; !ok {
		return wrongPassphrase()
	}
	r.plain, r.old = false, passphrase
	if r.readOnly {
		return nil
	}
	if f != nil { // otherwise both were written just now
		r.mendKeyFiles(ctx, f, true)
	}
	if err := r.reseal(ctx); err != nil {
		r.tell("a part of the keyring is still sealed with its passphrase alone, and works as before: " + err.Error())
		return nil
	}
	r.found = r.key
	return nil
}

// passphrase returns the passphrase from the request, else the one in the passphrase file. A key of another
// keyring in the request counts as no passphrase.
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

// makeKey gives an old keyring its key. Another process may have been faster.
func (r *fileRing) makeKey(ctx context.Context, passphrase secret.String) (secret.String, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return secret.String{}, err
	}
	defer unlock()
	files, err := readKeyFiles(r.dir)
	if err != nil {
		return secret.String{}, err
	}
	if len(files) > 0 {
		if _, key, ok := openAny(files, passphrase); ok {
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

// reseal seals with the key all items that only the passphrase opens: those of an old keyring, those that an
// interrupted run left, and those restored from a backup. Each item is replaced atomically, so at any moment one
// of the two opens it. The key is returned to the caller only once it opens all items.
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

// sealedWithPassphrase returns the names of the items that the passphrase opens and the key does not. An item that
// neither opens is damaged; get reports that.
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
