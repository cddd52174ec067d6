package vault

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/99designs/keyring"
	"github.com/godbus/dbus" // the import path that the library uses, to share its connection

	"broker/internal/fault"
	"broker/internal/vault/nodbus"
)

// The Secret Service on the session bus, which gnome-keyring and others offer.
// https://specifications.freedesktop.org/secret-service-spec/latest/
const (
	secretsName      = "org.freedesktop.secrets"
	secretsPath      = dbus.ObjectPath("/org/freedesktop/secrets")
	loginCollection  = "login" // the one that the desktop's login unlocks
	loginPath        = secretsPath + "/collection/" + loginCollection
	collectionLocked = "org.freedesktop.Secret.Collection.Locked"

	// askTimeout bounds each question of ours; the two before a typed error take less than two seconds together.
	askTimeout = 800 * time.Millisecond
	// startTimeout bounds the first question, which may start the service.
	startTimeout = 1500 * time.Millisecond
)

// secretServiceRing keeps items in the login collection.
type secretServiceRing struct {
	bus      *dbus.Conn
	lib      keyring.Keyring
	stateDir string
}

// openSecretService looks before the library does, which has no time-outs: is the service there, does it
// have the login collection, is that open or is there somebody to ask?
func openSecretService(ctx context.Context, stateDir string) (*secretServiceRing, error) {
	if nodbus.Hidden() {
		return nil, noBus(errors.New("DBUS_SESSION_BUS_ADDRESS is not set, and there is no socket $XDG_RUNTIME_DIR/bus"))
	}
	bus, err := dbus.SessionBus() // the library's own connection, made in its init
	if err != nil {
		return nil, noBus(errors.New("DBUS_SESSION_BUS_ADDRESS is set, but: " + fault.Line(err.Error())))
	}
	r := &secretServiceRing{bus: bus, stateDir: stateDir}
	locked, err := r.locked(ctx)
	if err != nil {
		return nil, err
	}
	if locked && !display() {
		return nil, collectionIsLocked()
	}
	r.lib, err = openLibrary(keyring.Config{LibSecretCollectionName: loginCollection}, keyring.SecretServiceBackend)
	if err != nil {
		return nil, libraryError("open the Secret Service", err)
	}
	return r, nil
}

func noBus(tried error) error {
	return fault.New(fault.Keyring, "the keyring backend secret-service cannot be used: no session bus (%w); log in to a desktop, or set keyring_backend = file", tried).
		WithHint("broker status")
}

// display reports whether a prompt of the keyring could be seen by somebody.
func display() bool { return os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != "" }

// property reads one property, bounded in time. The old D-Bus library has no call for that.
func (r *secretServiceRing) property(ctx context.Context, timeout time.Duration, path dbus.ObjectPath, name string) (dbus.Variant, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dot := strings.LastIndexByte(name, '.')
	var v dbus.Variant
	err := r.bus.Object(secretsName, path).
		CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, name[:dot], name[dot+1:]).Store(&v)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return v, err
}

// errNoService: nobody on the bus keeps secrets.
var errNoService = errors.New("no Secret Service")

// collections are the paths of all collections.
func (r *secretServiceRing) collections(ctx context.Context) ([]dbus.ObjectPath, error) {
	v, err := r.property(ctx, startTimeout, secretsPath, "org.freedesktop.Secret.Service.Collections")
	var answered dbus.Error
	switch {
	case errors.As(err, &answered) && (answered.Name == "org.freedesktop.DBus.Error.ServiceUnknown" || answered.Name == "org.freedesktop.DBus.Error.NameHasNoOwner"):
		return nil, &fault.Error{Kind: fault.Keyring, Err: errNoService, Hint: "gnome-keyring-daemon --start --components=secrets",
			Message: "the session bus has no Secret Service (" + secretsName + "): no keyring such as gnome-keyring is running; start one, or set keyring_backend = file"}
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fault.New(fault.Keyring, "the Secret Service (%s) does not answer", secretsName)
	case err != nil:
		return nil, libraryError("ask the Secret Service for its collections", err)
	}
	paths, ok := v.Value().([]dbus.ObjectPath)
	if !ok {
		return nil, fault.New(fault.Keyring, "the Secret Service gave no list of collections")
	}
	return paths, nil
}

// isLocked reports whether a collection is locked.
func (r *secretServiceRing) isLocked(ctx context.Context, path dbus.ObjectPath) (bool, error) {
	v, err := r.property(ctx, askTimeout, path, collectionLocked)
	if err != nil {
		return false, libraryError("ask the Secret Service whether a keyring is locked", err)
	}
	locked, ok := v.Value().(bool)
	if !ok {
		return false, fault.New(fault.Keyring, "the Secret Service did not say whether the keyring is locked")
	}
	return locked, nil
}

// locked reports whether the login collection is locked; a fault where there is none.
func (r *secretServiceRing) locked(ctx context.Context) (bool, error) {
	paths, err := r.collections(ctx)
	if err != nil {
		return false, err
	}
	if !slices.Contains(paths, loginPath) {
		return false, fault.New(fault.Keyring, "the Secret Service has no collection %q: the login keyring was never made; log in to the desktop with a password once, or set keyring_backend = file", loginCollection).
			WithHint("broker status")
	}
	return r.isLocked(ctx, loginPath)
}

func (r *secretServiceRing) check(ctx context.Context) error {
	locked, err := r.locked(ctx)
	if err == nil && locked {
		return collectionIsLocked()
	}
	return err
}

// lock serialises our own writers; the service itself has no such thing.
func (r *secretServiceRing) lock(ctx context.Context) (func(), error) {
	if !filepath.IsAbs(r.stateDir) {
		return nil, fault.New(fault.Keyring, "the state directory %q is not an absolute path", r.stateDir)
	}
	if err := os.MkdirAll(r.stateDir, 0o700); err != nil {
		return nil, fault.New(fault.Keyring, "lock the keyring: %w", err)
	}
	return lockFile(ctx, filepath.Join(r.stateDir, "keyring.lock"))
}

func (r *secretServiceRing) get(_ context.Context, key string) ([]byte, error) {
	found, err := guard(func() (keyring.Item, error) { return r.lib.Get(key) })
	switch {
	case err == nil:
		return found.Data, nil
	case errors.Is(err, keyring.ErrKeyNotFound):
		return nil, errNoItem
	}
	if isLocked(err) {
		return nil, collectionIsLocked()
	}
	var answered dbus.Error
	if errors.As(err, &answered) {
		return nil, libraryError("read the keyring", err)
	}
	// The library wraps the item in its own JSON; that is what cannot be decoded here.
	return nil, fault.New(fault.Keyring, "the keyring's item %s is damaged and was left as it is", key)
}

func (r *secretServiceRing) set(ctx context.Context, key, label string, data []byte) error {
	_, err := guard(func() (struct{}, error) {
		return struct{}{}, r.lib.Set(keyring.Item{Key: key, Label: label, Data: data})
	})
	if isLocked(err) {
		return collectionIsLocked()
	}
	if err != nil {
		return libraryError("write the keyring; the old item stays", err)
	}
	r.label(ctx, key, label)
	return nil
}

// label gives the item a name that people can read in their keyring's window, where the
// library shows the key. It is a courtesy: a failure changes nothing.
func (r *secretServiceRing) label(ctx context.Context, key, label string) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var items []dbus.ObjectPath
	err := r.bus.Object(secretsName, loginPath).
		CallWithContext(ctx, "org.freedesktop.Secret.Collection.SearchItems", 0, map[string]string{"profile": key}).Store(&items)
	if err != nil || len(items) != 1 {
		return
	}
	r.bus.Object(secretsName, items[0]).
		CallWithContext(ctx, "org.freedesktop.DBus.Properties.Set", 0, "org.freedesktop.Secret.Item", "Label", dbus.MakeVariant(label))
}

func (r *secretServiceRing) remove(ctx context.Context, key string) error {
	if _, err := r.get(ctx, key); errors.Is(err, errNoItem) {
		return err // the library takes a missing item for success
	} else if fault.Is(err, fault.KeyringLocked) {
		return err
	}
	_, err := guard(func() (struct{}, error) { return struct{}{}, r.lib.Remove(key) })
	switch {
	case isLocked(err):
		return collectionIsLocked()
	case err != nil:
		return libraryError("remove from the keyring", err)
	}
	if _, err := r.get(ctx, key); !errors.Is(err, errNoItem) {
		return fault.New(fault.Keyring, "the keyring did not remove %s", key)
	}
	return nil
}

// isLocked reports whether the service refused because nobody unlocked it, or because a prompt was dismissed.
func isLocked(err error) bool {
	var answered dbus.Error
	return errors.As(err, &answered) && answered.Name == "org.freedesktop.Secret.Error.IsLocked"
}
