package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/99designs/keyring"

	"broker/internal/fault"
	"broker/internal/foreign"
	"broker/internal/secret"
	"broker/internal/vault"
)

func (e *errand) foreignKeys(ctx context.Context) (*answer, error) {
	r, err := openForeign(ctx, e.request)
	if err != nil || r == nil {
		return &answer{}, err
	}
	names, err := r.names()
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !isForeignKey(name) })
	slices.Sort(names)
	return &answer{Names: slices.Compact(names)}, nil
}

// isForeignKey reports whether a name can be that of a key. A name that is too long or not text cannot be a
// source's name either. In a shared collection our own items appear under their labels.
func isForeignKey(name string) bool {
	return checkName(name) == nil && !foreign.IsSession(name) && !strings.HasPrefix(name, itemLabel(""))
}

// adopt reads the foreign item, and then does what put does.
func (e *errand) adopt(ctx context.Context, own ring) (*answer, error) {
	r, err := openForeign(ctx, e.request)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, noForeignKey(e.ForeignKey, *e.Foreign)
	}
	data, err := r.get(e.ForeignKey)
	if errors.Is(err, errNoItem) {
		return nil, noForeignKey(e.ForeignKey, *e.Foreign)
	}
	if err != nil {
		return nil, err
	}
	id, key, err := foreign.DecodeKey(data)
	if err != nil {
		return nil, fault.New(fault.Failed, "the item %q in %s is not a key that can be used: %w", e.ForeignKey, *e.Foreign, err)
	}
	it := item{Name: e.Source, AccessKeyID: id, Secret: key, Created: time.Now().UTC().Truncate(time.Second)}
	e.hide = append(e.hide, it.secrets()...)
	if err := checkKeyPair(id, key); err != nil {
		return nil, fault.New(fault.Failed, "the item %q in %s is not a key that can be used: %w", e.ForeignKey, *e.Foreign, err)
	}
	if e.KeyID != "" && e.KeyID != id {
		return nil, because(
			fault.Failed,
			vault.ErrExists,
			fmt.Sprintf(
				"source %q has the key %s, but the item in %s has the key %s",
				e.Source,
				secret.Tail(e.KeyID),
				*e.Foreign,
				secret.Tail(id),
			),
			fault.Hintf("broker remove %s", e.Source),
		)
	}
	a, err := e.putItem(ctx, own, it)
	if err != nil {
		return nil, err
	}
	a.Info = &vault.Info{AccessKeyID: id, Created: it.Created}
	return a, nil
}

func noForeignKey(key string, from vault.Foreign) error {
	return fault.New(fault.NotFound, "there is no key %q in %s", key, from)
}

// foreignRing is a read-only keyring.
type foreignRing interface {
	names() ([]string, error)
	get(key string) ([]byte, error) // errNoItem if it is missing
}

// openForeign opens a foreign keyring. It returns nil if this system has no such keyring.
func openForeign(ctx context.Context, q *request) (foreignRing, error) {
	if q.Foreign == nil {
		return nil, fault.New(fault.Internal, "the request to the vault names no foreign keyring")
	}
	switch q.Foreign.Backend {
	case vault.SecretService:
		return openForeignCollection(ctx, q.Foreign.Collection)
	case vault.File:
		return openForeignDir(q.Foreign.Dir, secret.New(q.ForeignPhrase))
	}
	return nil, fault.New(fault.Usage, "keys cannot be read from a keyring of the kind %q", q.Foreign.Backend)
}

// foreignDir is a directory of the library's file backend: one encrypted file for each item. The name of the file
// is that of the item, with "/" and "%" as %2F and %25.
type foreignDir struct {
	dir   string
	pass  secret.String
	files map[string]string // by name
}

func openForeignDir(dir string, pass secret.String) (foreignRing, error) {
	err := checkKeyringDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, libraryError("list the keyring", err)
	}
	r := &foreignDir{dir, pass, map[string]string{}}
	for _, e := range entries {
		if name, err := url.PathUnescape(e.Name()); err == nil && e.Type().IsRegular() {
			r.files[name] = e.Name()
		}
	}
	return r, nil
}

func (r *foreignDir) names() ([]string, error) {
	var names []string
	for name := range r.files {
		names = append(names, name)
	}
	return names, nil
}

func (r *foreignDir) get(key string) ([]byte, error) {
	file, ok := r.files[key]
	if !ok {
		return nil, errNoItem
	}
	if _, err := readOwn(filepath.Join(r.dir, file), maxItemBytes); err != nil {
		return nil, fault.New(fault.Keyring, "the item %q cannot be read: %w", key, err)
	}
	if r.pass.IsZero() {
		return nil, foreignPassphrase(r.dir, "needs its passphrase")
	}
	lib, err := library(r.dir, r.pass)
	if err != nil {
		return nil, libraryError("open "+r.dir, err)
	}
	found, err := guard(func() (keyring.Item, error) { return lib.Get(key) })
	switch {
	case err == nil && found.Key == key:
		return found.Data, nil
	case err != nil && strings.Contains(err.Error(), keyUnwrapFailed):
		return nil, foreignPassphrase(r.dir, "has another passphrase")
	}
	return nil, fault.New(fault.Keyring, "the item %q in %s cannot be decrypted or is cut short", key, r.dir)
}

func foreignPassphrase(dir, what string) error {
	return because(fault.KeyringLocked, vault.ErrForeignPassphrase, "the keyring in "+dir+" "+what, "broker import --help")
}
