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

// readKeyFiles reads the sealed key of a keyring: of its two files those that are whole, one if they are equal, none if
// there is no such file. The error is that no file is whole, or that a newer program wrote one.
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

// readKeyFile reads one of the two files. The error wraps fs.ErrNotExist for a missing one, and damagedKeyFile if its
// bytes are not what was written.
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

// damagedKeyFile is an error about the bytes of a key file.
type damagedKeyFile struct{ error }

func (f *keyFile) equal(g *keyFile) bool {
	a, aerr := json.Marshal(f)
	b, berr := json.Marshal(g)
	return aerr == nil && berr == nil && bytes.Equal(a, b)
}

// openAny opens the first of some key files that the passphrase opens.
func openAny(files []*keyFile, passphrase secret.String) (f *keyFile, key secret.String, ok bool) {
	for _, f := range files {
		if key, ok := f.open(passphrase); ok {
			return f, key, true
		}
	}
	return nil, secret.String{}, false
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

// mendKeyFiles writes those of the two files again that are lost or damaged. A damaged one is set aside. f is the whole
// one that opened; with other set, a file that says something else counts as damaged. What is not mended is told.
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
			names, _ = bad() // another process may have been quicker
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
	files, err := readKeyFiles(r.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if !f.sealed(r.given) {
			continue
		}
		if r.key = r.given; !r.readOnly {
			r.mendKeyFiles(ctx, f, false) // nothing shows that the passphrase opens this one
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
	if f != nil { // else both were written just now
		r.mendKeyFiles(ctx, f, true)
	}
	if err := r.reseal(ctx); err != nil {
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
