package process

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/99designs/keyring"
	"github.com/godbus/dbus" // the import path that the library uses, to share its connection

	"broker/internal/fault"
	"broker/internal/vault"
	"broker/internal/vault/process/nodbus"
)

// The Secret Service on the session bus, which gnome-keyring and others provide.
// https://specifications.freedesktop.org/secret-service-spec/latest/
const (
	secretsName      = "org.freedesktop.secrets"
	secretsPath      = dbus.ObjectPath("/org/freedesktop/secrets")
	loginCollection  = "login" // the collection that the desktop login unlocks
	loginPath        = secretsPath + "/collection/" + loginCollection
	collectionLocked = "org.freedesktop.Secret.Collection.Locked"

	// askTimeout limits each of our calls; the two calls before a typed error take less than two seconds together.
	askTimeout = 800 * time.Millisecond
	// startTimeout limits the first call, which may start the service.
	startTimeout = 1500 * time.Millisecond
)

// secretServiceRing stores items in the login collection.
type secretServiceRing struct {
	libraryRing
	bus *dbus.Conn
}

// openSecretService checks the service before the library does, which has no timeouts: is the service running,
// does it have the login collection, and is that unlocked or can a prompt unlock it?
func openSecretService(ctx context.Context, q *request) (ring, error) {
	bus, err := sessionBus(vault.SecretService)
	if err != nil {
		return nil, err
	}
	r := &secretServiceRing{bus: bus}
	locked, err := r.locked(ctx)
	if err != nil {
		return nil, err
	}
	if locked && !display() {
		return nil, collectionIsLocked()
	}
	lib, err := openLibrary(keyring.Config{LibSecretCollectionName: loginCollection}, keyring.SecretServiceBackend)
	if err != nil {
		return nil, libraryError("open the Secret Service", err)
	}
	r.libraryRing = libraryRing{writerLock{q.StateDir}, lib, blameSecretService}
	return r, nil
}

func collectionIsLocked() error {
	return fault.New(fault.KeyringLocked, "the login keyring is locked, and there is no display to ask for its password; log in to the desktop, or give it to the keyring on stdin").
		WithHint("gnome-keyring-daemon --unlock --components=secrets")
}

// sessionBus returns the library's own connection, made in its init.
func sessionBus(backend string) (*dbus.Conn, error) {
	if nodbus.Hidden() {
		return nil, noBus(backend, errors.New("DBUS_SESSION_BUS_ADDRESS is not set, and there is no socket $XDG_RUNTIME_DIR/bus"))
	}
	bus, err := dbus.SessionBus()
	if err != nil {
		return nil, noBus(backend, errors.New("DBUS_SESSION_BUS_ADDRESS is set, but: "+fault.Line(err.Error())))
	}
	return bus, nil
}

func noBus(backend string, tried error) error {
	return fault.New(fault.Keyring, "no session bus for the keyring %s (%w); log in to a desktop, or set keyring_backend = file", backend, tried).
		WithHint("broker keyring list")
}

// property reads one property, with a timeout. The old D-Bus library has no call for that.
func (r *secretServiceRing) property(
	ctx context.Context,
	timeout time.Duration,
	path dbus.ObjectPath,
	name string,
) (dbus.Variant, error) {
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

// errNoService means that no Secret Service is on the bus.
var errNoService = errors.New("no Secret Service")

// collections returns the paths of all collections.
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
		return nil, fault.New(fault.Keyring, "the Secret Service returned no list of collections")
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

// locked reports whether the login collection is locked; it returns a fault if there is none.
func (r *secretServiceRing) locked(ctx context.Context) (bool, error) {
	paths, err := r.collections(ctx)
	if err != nil {
		return false, err
	}
	if !slices.Contains(paths, loginPath) {
		return false, fault.New(fault.Keyring, "the Secret Service has no collection %q: the login keyring was never created; log in to the desktop with a password once, or set keyring_backend = file", loginCollection).
			WithHint("broker keyring list")
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

func (r *secretServiceRing) asks() bool { return display() }

// blameSecretService makes a fault from an error of the library.
func blameSecretService(doing string, err error) error {
	var answered dbus.Error
	switch {
	case !errors.As(err, &answered):
		return nil
	case answered.Name == "org.freedesktop.Secret.Error.IsLocked": // nobody unlocked it, or the prompt was dismissed
		return collectionIsLocked()
	}
	return libraryError(doing, err)
}

func (r *secretServiceRing) set(ctx context.Context, key, label string, data []byte) error {
	err := r.libraryRing.set(ctx, key, label, data)
	if err == nil {
		r.label(ctx, key, label)
	}
	return err
}

// label gives the item a name that people can read in their keyring's window, where the library shows the key.
// Failures are ignored: the label is only a convenience.
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

// keys asks the service directly, because the library would return the labels. A locked service hides its
// attributes and so looks empty; therefore the library unlocks it first.
func (r *secretServiceRing) keys(ctx context.Context) ([]string, error) {
	locked, err := r.locked(ctx)
	if err == nil && locked {
		if _, err = r.libraryRing.keys(ctx); err == nil {
			err = r.check(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	v, err := r.property(ctx, startTimeout, loginPath, "org.freedesktop.Secret.Collection.Items")
	if err != nil {
		return nil, libraryError("list the keyring", err)
	}
	items, ok := v.Value().([]dbus.ObjectPath)
	if !ok {
		return nil, fault.New(fault.Keyring, "the Secret Service returned no list of items")
	}
	var keys []string
	for _, item := range items {
		v, err := r.property(ctx, askTimeout, item, "org.freedesktop.Secret.Item.Attributes")
		if err != nil {
			return nil, libraryError("list the keyring", err)
		}
		if attributes, ok := v.Value().(map[string]string); ok {
			keys = append(keys, attributes["profile"])
		}
	}
	return ours(keys), nil
}
