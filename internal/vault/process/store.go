package process

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/secret"
)

const (
	itemVersion = 1
	// itemVersionUnfinished is the version of an item with a second key or an unfinished enrollment.
	itemVersionUnfinished = 2
	maxName               = 1024
	maxSecret             = 4096
	ourPrefix             = "broker-"
	itemPrefix            = ourPrefix + "source-"
	checkKey              = "broker-check" // the file backend's test item for the passphrase
	checkText             = "broker keyring v1"
	maxItemBytes          = 64 << 10
)

// item is what is stored for one source. While its key is rotated it has two keys; the registry says which of them is
// in use.
type item struct {
	Name        string
	AccessKeyID string
	Secret      secret.String
	Second      exchange.Keys // zero if there is only one key
	Seed        secret.String // empty if no seed is stored
	Created     time.Time     // when the key was stored, in UTC, whole seconds
	Enrolling   enrolling
	belongs
}

// using returns the item with the key of this id first. If the item has no such key, it is returned unchanged.
func (it item) using(id string) item {
	if id != "" && id == it.Second.AccessKeyID {
		first := it.pair()
		it.AccessKeyID, it.Secret, it.Second = it.Second.AccessKeyID, it.Second.Secret, first
	}
	return it
}

// pair returns the first key of the item.
func (it item) pair() exchange.Keys {
	return exchange.Keys{AccessKeyID: it.AccessKeyID, Secret: it.Secret}
}

// ids returns the ids of the keys of the item.
func (it item) ids() []string {
	ids := []string{it.AccessKeyID}
	if it.Second.AccessKeyID != "" {
		ids = append(ids, it.Second.AccessKeyID)
	}
	return ids
}

// ring is one backend. Its errors are faults; get and remove return errNoItem if there is no such item. set
// replaces the whole item, or leaves the old one.
type ring interface {
	// lock excludes other writers, in all processes, until unlock.
	lock(ctx context.Context) (unlock func(), err error)
	get(ctx context.Context, key string) ([]byte, error)
	set(ctx context.Context, key, label string, data []byte) error
	remove(ctx context.Context, key string) error
	// keys returns the names of all our items.
	keys(ctx context.Context) ([]string, error)
	// check verifies that the keyring can be used now, without a prompt.
	check(ctx context.Context) error
	// asks reports whether using a locked keyring would show a prompt for its password.
	asks() bool
}

var (
	errNoItem  = errors.New("no such item in the keyring")
	errExpired = fmt.Errorf("%w: it has expired", errNoItem)
)

// itemKey returns the name of a source's item. The name of a source may contain anything; keys in a keyring may
// not.
func itemKey(name string) string { return hashedKey(itemPrefix, name) }

func hashedKey(prefix, name string) string {
	sum := sha256.Sum256([]byte(name))
	return prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

func itemLabel(name string) string { return fault.Line("broker: " + name) }

func checkName(name string) error {
	switch {
	case name == "":
		return fault.New(fault.Usage, "the name of the source is empty")
	case len(name) > maxName:
		return fault.New(fault.Usage, "the name of the source is longer than %d bytes", maxName)
	case !utf8.ValidString(name):
		return fault.New(fault.Usage, "the name of the source is not UTF-8")
	}
	return nil
}

// checkKeyPair refuses what cannot be a long-lived key. Session keys begin with ASIA and expire within hours:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids
func checkKeyPair(id string, key secret.String) error {
	if len(id) < 16 || len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) {
		return fault.New(fault.Usage, "invalid access key id (16 to 128 capital letters and digits, such as AKIA…)")
	}
	if strings.HasPrefix(id, "ASIA") {
		return fault.New(fault.Usage, "the access key id %s is of a session, which expires; the keyring is for long-lived keys", secret.Tail(id))
	}
	text := key.Reveal()
	if text == "" || len(text) > maxSecret || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fault.New(fault.Usage, "the secret access key is empty, too long or has invalid characters")
	}
	return nil
}

// load reads the item of a source.
func load(ctx context.Context, r ring, name string) (item, error) {
	data, err := r.get(ctx, itemKey(name))
	if errors.Is(err, errExpired) {
		return item{}, fault.New(fault.NotFound, "the key of source %q has expired in the keyring", name).WithHint("broker add %s", name)
	}
	if errors.Is(err, errNoItem) {
		return item{}, noKey(name)
	}
	if errors.Is(err, errDamaged) || errors.Is(err, errWrongKey) {
		return item{}, fault.New(fault.Keyring, "the key of source %q cannot be used: %w", name, err).
			WithHint("broker remove %s", name)
	}
	if err != nil {
		return item{}, err
	}
	it, err := decodeItem(data)
	if err == nil && it.Name != name {
		err = errors.New("it belongs to another source")
	}
	if err != nil {
		return item{}, fault.New(fault.Keyring, "the keyring's item %s of source %q is damaged and was left as it is: %w", itemKey(name), name, err).
			WithHint("broker remove %s", name)
	}
	return it, nil
}

// store writes an item and reads it back. If the result differs, it restores the old item. It writes no item that load
// would refuse.
func store(ctx context.Context, r ring, it item) error {
	data, err := encodeItem(it)
	if err != nil {
		return err
	}
	if _, err := decodeItem(data); err != nil {
		return fault.New(fault.Internal, "what is to be stored for source %q is not an item: %w", it.Name, err)
	}
	key := itemKey(it.Name)
	old, oldErr := r.get(ctx, key)
	if oldErr != nil && !errors.Is(oldErr, errNoItem) {
		return oldErr
	}
	if err := r.set(ctx, key, itemLabel(it.Name), data); err != nil {
		return err
	}
	back, err := r.get(ctx, key)
	if err == nil && bytes.Equal(back, data) {
		return nil
	}
	if oldErr == nil {
		if undo := r.set(ctx, key, itemLabel(it.Name), old); undo != nil {
			return fault.New(fault.Keyring, "the keyring did not keep what was written for source %q, and the old item could not be restored: %w", it.Name, undo)
		}
	}
	return fault.New(fault.Keyring, "the keyring did not return what was written for source %q; the old item stays", it.Name)
}
