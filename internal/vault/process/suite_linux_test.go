package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/godbus/dbus"
	"golang.org/x/sys/unix"

	"broker/internal/vault"
)

func init() {
	beds[vault.SecretService], beds[vault.KWallet], beds[vault.Keyctl] = secretServiceBed, kwalletBed, keyctlBed
}

func secretServiceBed(t *testing.T) *bed {
	d := newDesktop(t)
	d.startRing("the right one")
	restart := func(password string) func(*testing.T) {
		return func(*testing.T) {
			d.stop(&d.ring)
			d.startRing(password)
		}
	}
	return &bed{backend: vault.SecretService,
		caller: func(*testing.T) *vault.Caller { return d.caller() },
		lock:   restart("a wrong one"), unlock: restart("the right one"),
		mute:   func(*testing.T) func() { return d.startPrompter() },
		stop:   func(*testing.T) { d.stop(&d.ring); d.stop(&d.bus) },
		start:  func(*testing.T) { d.startBus(); d.startRing("the right one") },
		freeze: func(*testing.T) func() { return d.freeze(d.ring) },
		spoil:  d.spoilSecret,
	}
}

func (d *desktop) freeze(cmd *exec.Cmd) (thaw func()) {
	_ = cmd.Process.Signal(syscall.SIGSTOP)
	return func() { _ = cmd.Process.Signal(syscall.SIGCONT) }
}

// spoilSecret writes an item as another program would.
func (d *desktop) spoilSecret(t *testing.T, key string, data []byte) {
	t.Helper()
	bus := d.dial()
	defer func() { _ = bus.Close() }()
	var output dbus.Variant
	var talk dbus.ObjectPath
	must(t, bus.Object(secretsName, secretsPath).Call("org.freedesktop.Secret.Service.OpenSession", 0, "plain", dbus.MakeVariant("")).Store(&output, &talk))
	value := struct {
		Session    dbus.ObjectPath
		Parameters []byte
		Value      []byte
		Type       string
	}{talk, nil, data, "text/plain"}
	must(t, bus.Object(secretsName, loginPath).Call("org.freedesktop.Secret.Collection.CreateItem", 0, map[string]dbus.Variant{
		"org.freedesktop.Secret.Item.Label":      dbus.MakeVariant("damaged"),
		"org.freedesktop.Secret.Item.Attributes": dbus.MakeVariant(map[string]string{"profile": key}),
	}, value, true).Err)
}

// kwalletBed is the real kwalletd5, without a display. It opens the wallet through PAM, as a desktop login does.
func kwalletBed(t *testing.T) *bed {
	needs(t, "kwalletd5")
	d := newDesktop(t)
	must(t, os.MkdirAll(filepath.Join(d.home, "config"), 0o700))
	d.startWallet(true)
	restart := func(open bool) func(*testing.T) {
		return func(*testing.T) {
			d.stop(&d.ring)
			d.startWallet(open)
		}
	}
	return &bed{backend: vault.KWallet,
		caller: func(t *testing.T) *vault.Caller {
			c := d.caller()
			c.Backend = func() string { return vault.KWallet }
			return c
		},
		lock: restart(false), unlock: restart(true),
		mute:   func(*testing.T) func() { return func() {} },
		stop:   func(*testing.T) { d.stop(&d.ring); d.stop(&d.bus) },
		start:  func(*testing.T) { d.startBus(); d.startWallet(true) },
		freeze: func(*testing.T) func() { return d.freeze(d.ring) },
		spoil:  d.spoilWallet,
	}
}

// startWallet starts kwalletd5. With open it opens the wallet, and creates it if there is none.
func (d *desktop) startWallet(open bool) {
	d.t.Helper()
	d.ring = exec.Command("kwalletd5")
	d.ring.Env = append(os.Environ(), "QT_QPA_PLATFORM=offscreen", "DISPLAY=")
	if err := d.ring.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.wait("kwalletd5", func() bool {
		bus := d.dial()
		defer func() { _ = bus.Close() }()
		service := bus.Object(kwalletName, kwalletPath)
		var is bool
		if service.Call("org.kde.KWallet.isEnabled", 0).Store(&is) != nil || !open {
			return is
		}
		hash := make([]byte, 56) // what PAM derives from the password for the cipher
		_ = service.Call("org.kde.KWallet.pamOpen", 0, wallet, hash, int32(0))
		return service.Call("org.kde.KWallet.isOpen", 0, wallet).Store(&is) == nil && is
	})
}

func (d *desktop) spoilWallet(t *testing.T, key string, data []byte) {
	t.Helper()
	bus := d.dial()
	defer func() { _ = bus.Close() }()
	service := bus.Object(kwalletName, kwalletPath)
	var handle, failed int32
	must(t, service.Call("org.kde.KWallet.open", 0, wallet, int64(0), kwalletID).Store(&handle))
	must(t, service.Call("org.kde.KWallet.writeEntry", 0, handle, kwalletDir, key, data, kwalletID).Store(&failed))
	if failed != 0 {
		t.Fatalf("writeEntry: %d", failed)
	}
}

// keyctlBed is the keyring of this user, who has only one. The tests clean up after themselves.
func keyctlBed(t *testing.T) *bed {
	if err := lookKeyctl(); err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	state := t.TempDir()
	return &bed{backend: vault.Keyctl,
		caller: func(t *testing.T) *vault.Caller {
			return callerOn(t, vault.Keyctl, filepath.Join(state, "state"))
		},
		spoil: func(t *testing.T, key string, data []byte) {
			if len(data) == 0 {
				data = []byte(" ") // the kernel has no empty keys
			}
			_, err := unix.AddKey("user", key, data, unix.KEY_SPEC_USER_KEYRING) // updates an existing key
			must(t, err)
		},
		crash: map[string]int{"keyctl": 12, "add_key": 2, "/^rename": 1, "/^unlink": 1},
	}
}
