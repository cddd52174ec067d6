package process

import (
	"encoding/json"
	"testing"

	"github.com/99designs/keyring"
	"github.com/godbus/dbus"

	"broker/internal/fault"
	"broker/internal/vault"
)

// TestAdoptFromSecretService: like TestAdoptFromFiles, from a collection as aws-vault creates it into our file
// keyring, so that only the foreign keyring needs the bus.
func TestAdoptFromSecretService(t *testing.T) {
	d := newDesktop(t)
	d.startRing("login-password")
	bus := d.dial()
	defer func() { _ = bus.Close() }()
	// Without a window for the prompt: gnome-keyring has a call for tests.
	var none dbus.Variant
	var session, path dbus.ObjectPath
	service := bus.Object(secretsName, secretsPath)
	if err := service.Call("org.freedesktop.Secret.Service.OpenSession", 0, "plain", dbus.MakeVariant("")).Store(&none, &session); err != nil {
		t.Fatal(err)
	}
	password := struct {
		Session     dbus.ObjectPath
		Parameters  []byte
		Value       []byte
		ContentType string
	}{session, []byte{}, []byte("password"), "text/plain"}
	for _, name := range []string{"awsvault", "granted-aws-iam-credentials"} {
		if err := service.Call("org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface.CreateWithMasterPassword", 0,
			map[string]dbus.Variant{"org.freedesktop.Secret.Collection.Label": dbus.MakeVariant(name)}, password).Store(&path); err != nil {
			t.Fatal(err)
		}
		if collectionName(path) != name {
			t.Errorf("%s is %s", name, path)
		}
	}
	c := fileCaller(t)
	from := vault.Foreign{Backend: vault.SecretService, Collection: "awsvault"}
	if names, err := c.ForeignKeys(t.Context(), vault.Foreign{Backend: vault.SecretService, Collection: "nobodys"}); err != nil ||
		len(names) != 0 {
		t.Errorf("from a missing collection: %q, %v", names, err)
	}
	// Write as the library does; this process has no library connection to that bus.
	want := fill(t, func(it keyring.Item) error {
		data, _ := json.Marshal(it)
		value := password
		value.Value, value.ContentType = data, "application/json"
		return bus.Object(secretsName, secretsPath+"/collection/awsvault").Call("org.freedesktop.Secret.Collection.CreateItem", 0, map[string]dbus.Variant{
			"org.freedesktop.Secret.Item.Label":      dbus.MakeVariant(it.Key),
			"org.freedesktop.Secret.Item.Attributes": dbus.MakeVariant(map[string]string{"profile": it.Key}),
		}, value, true).Err
	})
	names, err := c.ForeignKeys(t.Context(), from)
	if err != nil || !sameNames(names, want) {
		t.Fatalf("%q, %v\nwant %q", names, err, want)
	}
	adoptAll(t, c, from, "")
	if names, err := c.ForeignKeys(t.Context(), vault.Foreign{Backend: vault.SecretService, Collection: "granted-aws-iam-credentials"}); err != nil ||
		len(names) != 0 {
		t.Errorf("from an empty collection: %q, %v", names, err)
	}

	// Locked, and nobody to unlock it.
	if err := service.Call("org.freedesktop.Secret.Service.Lock", 0, []dbus.ObjectPath{secretsPath + "/collection/awsvault"}).Err; err != nil {
		t.Fatal(err)
	}
	if _, err := c.ForeignKeys(t.Context(), from); !fault.Is(err, fault.KeyringLocked) {
		t.Errorf("locked: %v", err)
	}
	d.stop(&d.ring)
	if names, err := c.ForeignKeys(t.Context(), from); err != nil || len(names) != 0 {
		t.Errorf("without a Secret Service: %q, %v", names, err)
	}
}
