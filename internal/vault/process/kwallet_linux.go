package process

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/99designs/keyring"
	"github.com/godbus/dbus"

	"broker/internal/fault"
	"broker/internal/vault"
)

// KWallet on the session bus. The library knows only the name of KDE Frameworks 5; kwalletd6 provides it too.
// https://api.kde.org/frameworks/kwallet/html/
const (
	kwalletName = "org.kde.kwalletd5"
	kwalletPath = dbus.ObjectPath("/modules/kwalletd5")
	kwalletID   = "broker"    // the name that the desktop shows in its prompt
	kwalletDir  = "broker"    // the folder within the wallet
	wallet      = "kdewallet" // the wallet that the desktop login unlocks
)

// kwalletRing stores items in a folder of the wallet that the desktop login unlocks.
type kwalletRing struct {
	libraryRing
	bus *dbus.Conn
	// handle is our handle of the wallet; 0 until it is opened.
	handle int32
}

// openKWallet checks KWallet before the library does, which has no timeouts and treats every failure of KWallet as
// an empty wallet. The first use opens the wallet itself.
func openKWallet(ctx context.Context, q *request) (ring, error) {
	bus, err := sessionBus(vault.KWallet)
	if err != nil {
		return nil, err
	}
	r := &kwalletRing{bus: bus}
	r.writerLock = writerLock{q.StateDir}
	r.blame = blameKWallet
	open, err := r.isOpen(ctx)
	if err != nil {
		return nil, err
	}
	if !open && !display() {
		return nil, walletIsLocked()
	}
	return r, nil
}

func walletIsLocked() error {
	return fault.New(fault.KeyringLocked, "the wallet %s is closed, and there is no display to ask for its password; log in to the desktop", wallet).
		WithHint("broker keyring list")
}

// call calls KWallet, for at most timeout.
func (r *kwalletRing) call(ctx context.Context, timeout time.Duration, into any, method string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := r.bus.Object(kwalletName, kwalletPath).CallWithContext(ctx, "org.kde.KWallet."+method, 0, args...)
	err := done.Err
	if err == nil && into != nil {
		err = done.Store(into)
	}
	var answered dbus.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answered) && (answered.Name == "org.freedesktop.DBus.Error.ServiceUnknown" || answered.Name == "org.freedesktop.DBus.Error.NameHasNoOwner"):
		return fault.New(fault.Keyring, "the session bus has no KWallet (%s): start it, or set keyring_backend = file", kwalletName).
			WithHint("broker keyring list")
	case ctx.Err() != nil:
		return fault.New(fault.Keyring, "KWallet (%s) does not answer", kwalletName)
	}
	return libraryError("ask KWallet", err)
}

// isOpen reports whether the wallet is open; it returns a fault if there is no wallet.
func (r *kwalletRing) isOpen(ctx context.Context) (bool, error) {
	var enabled, open bool
	var wallets []string
	if err := r.call(ctx, startTimeout, &enabled, "isEnabled"); err != nil {
		return false, err
	}
	if !enabled {
		return false, fault.New(fault.Keyring, "KWallet is switched off in the system settings; switch it on, or set keyring_backend = file").
			WithHint("broker keyring list")
	}
	if err := r.call(ctx, askTimeout, &wallets, "wallets"); err != nil {
		return false, err
	}
	if !slices.Contains(wallets, wallet) {
		return false, fault.New(fault.Keyring, "KWallet has no wallet %q: it was never created; log in to the desktop with a password once, or set keyring_backend = file", wallet).
			WithHint("broker keyring list")
	}
	err := r.call(ctx, askTimeout, &open, "isOpen", wallet)
	return open, err
}

func (r *kwalletRing) check(ctx context.Context) error {
	open, err := r.isOpen(ctx)
	if err == nil && !open {
		return walletIsLocked()
	}
	return err
}

func (r *kwalletRing) asks() bool { return display() }

// ready opens the wallet. That may show a prompt until the deadline: for the password, or for permission.
func (r *kwalletRing) ready(ctx context.Context) error {
	if r.handle > 0 {
		return nil
	}
	timeout := startTimeout
	if deadline, ok := ctx.Deadline(); ok && display() {
		timeout = time.Until(deadline)
	}
	var handle int32
	if err := r.call(ctx, timeout, &handle, "open", wallet, int64(0), kwalletID); err != nil {
		return err
	}
	if handle <= 0 {
		return fault.New(fault.KeyringLocked, "KWallet did not open the wallet %s: the prompt was declined", wallet).
			WithHint("broker keyring list")
	}
	lib, err := openLibrary(
		keyring.Config{ServiceName: wallet, KWalletAppID: kwalletID, KWalletFolder: kwalletDir},
		keyring.KWalletBackend,
	)
	if err != nil {
		return libraryError("open KWallet", err)
	}
	r.handle, r.lib = handle, lib
	return nil
}

func blameKWallet(doing string, err error) error {
	var answered dbus.Error
	if errors.As(err, &answered) {
		return libraryError(doing, err)
	}
	return nil
}

func (r *kwalletRing) get(ctx context.Context, key string) ([]byte, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	data, err := r.libraryRing.get(ctx, key)
	if !errors.Is(err, errNoItem) {
		return data, err
	}
	// The library also reports this if the wallet was closed meanwhile, or if the item is empty.
	has, err := r.has(ctx, key)
	switch {
	case err != nil:
		return nil, err
	case has:
		return nil, damaged(key)
	}
	return nil, errNoItem
}

// has reports whether there is such an item. The wallet must be open.
func (r *kwalletRing) has(ctx context.Context, key string) (bool, error) {
	var open, has bool
	if err := r.call(ctx, askTimeout, &open, "isOpen", r.handle); err != nil {
		return false, err
	}
	if !open {
		return false, walletIsLocked()
	}
	err := r.call(ctx, askTimeout, &has, "hasEntry", r.handle, kwalletDir, key, kwalletID)
	return has, err
}

func (r *kwalletRing) set(ctx context.Context, key, label string, data []byte) error {
	if err := r.ready(ctx); err != nil {
		return err
	}
	// The library ignores a refusal by KWallet; our callers read back what they wrote.
	if err := r.libraryRing.set(ctx, key, label, data); err != nil {
		return err
	}
	return r.sync(ctx)
}

// sync makes KWallet write the wallet to disk now; by itself it waits some seconds.
func (r *kwalletRing) sync(ctx context.Context) error {
	return r.call(ctx, 2*startTimeout, nil, "sync", r.handle, kwalletID)
}

func (r *kwalletRing) remove(ctx context.Context, key string) error {
	if err := r.removeWith(ctx, key, r.get); err != nil {
		return err
	}
	return r.sync(ctx)
}

func (r *kwalletRing) keys(ctx context.Context) ([]string, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	keys, err := r.libraryRing.keys(ctx)
	if err != nil || len(keys) > 0 {
		return keys, err
	}
	_, err = r.has(ctx, checkKey) // checks that the wallet is open
	return nil, err
}
