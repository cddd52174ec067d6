package vault

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// desktop is a session bus and a gnome-keyring of a test's own.
type desktop struct {
	t    *testing.T
	home string
	bus  *exec.Cmd
	ring *exec.Cmd
}

func newDesktop(t *testing.T) *desktop {
	t.Helper()
	for _, program := range []string{"dbus-daemon", "gnome-keyring-daemon"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not installed, and CI is set: the Secret Service must be tested", program)
			}
			t.Skipf("NOT TESTED: %s is not installed (Debian: apt install dbus gnome-keyring)", program)
		}
	}
	home, err := os.MkdirTemp("", "desktop") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	d := &desktop{t: t, home: home}
	t.Cleanup(func() {
		d.stop(&d.ring)
		d.stop(&d.bus)
		_ = os.RemoveAll(home)
	})
	for name, value := range map[string]string{
		"HOME": home, "XDG_DATA_HOME": home + "/share", "XDG_RUNTIME_DIR": home, "XDG_CONFIG_HOME": home + "/config",
		"XDG_CACHE_HOME": home + "/cache", "DBUS_SESSION_BUS_ADDRESS": d.address(), "DISPLAY": "", "WAYLAND_DISPLAY": "",
	} {
		t.Setenv(name, value)
	}
	d.startBus()
	return d
}

func (d *desktop) address() string { return "unix:path=" + d.home + "/bus" }

// startBus starts a bus that starts no services by itself.
func (d *desktop) startBus() {
	d.t.Helper()
	config := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>` + d.address() + `</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
	file := filepath.Join(d.home, "bus.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		d.t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(d.home, "bus"))
	d.bus = exec.Command("dbus-daemon", "--nofork", "--config-file="+file)
	if err := d.bus.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.wait("the session bus", func() bool {
		conn, err := net.Dial("unix", filepath.Join(d.home, "bus"))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// startRing starts gnome-keyring; a password opens the login keyring, and makes it if there is none.
func (d *desktop) startRing(password string) {
	d.t.Helper()
	args := []string{"--foreground", "--components=secrets"}
	if password != "" {
		args = append(args, "--unlock")
	}
	d.ring = exec.Command("gnome-keyring-daemon", args...)
	d.ring.Stdin = strings.NewReader(password)
	if err := d.ring.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.wait("gnome-keyring", func() bool {
		bus := d.dial()
		defer func() { _ = bus.Close() }()
		v, err := bus.Object(secretsName, secretsPath).GetProperty("org.freedesktop.Secret.Service.Collections")
		if err != nil {
			return false
		}
		return password == "" || strings.Contains(fmt.Sprint(v.Value()), string(loginPath))
	})
}

// dial connects the test itself to the bus.
func (d *desktop) dial() *dbus.Conn {
	d.t.Helper()
	bus, err := dbus.Dial(d.address())
	if err == nil {
		if err = bus.Auth(nil); err == nil {
			err = bus.Hello()
		}
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return bus
}

// startPrompter takes the place of the program that would show gnome-keyring's prompts, and shows none for ever.
func (d *desktop) startPrompter() (stop func()) {
	d.t.Helper()
	bus := d.dial()
	if _, err := bus.RequestName("org.gnome.keyring.SystemPrompter", dbus.NameFlagDoNotQueue); err != nil {
		d.t.Fatal(err)
	}
	bus.Eavesdrop(make(chan *dbus.Message, 100)) // takes every message and answers none
	return func() {
		bus.Eavesdrop(nil) // Close would close the channel twice
		_ = bus.Close()
	}
}

func (d *desktop) wait(what string, ready func() bool) {
	d.t.Helper()
	for give := time.Now().Add(patience); time.Now().Before(give); time.Sleep(10 * time.Millisecond) {
		if ready() {
			return
		}
	}
	d.t.Fatalf("%s did not start", what)
}

func (d *desktop) stop(cmd **exec.Cmd) {
	if *cmd != nil {
		_ = (*cmd).Process.Kill()
		_ = (*cmd).Wait()
		*cmd = nil
	}
}

func (d *desktop) caller() *Caller {
	c := freshCaller(d.t)
	c.Backend = func() string { return SecretService }
	return c
}

// itself fails if the call had no answer of its own until the far deadline.
func itself(t *testing.T, call func() error) error {
	t.Helper()
	err := call()
	if unanswered(err) {
		t.Errorf("it took all of its time: %v", err)
	}
	return err
}

func TestSecretService(t *testing.T) {
	d := newDesktop(t)
	d.startRing("the right one")
	c, ctx := d.caller(), t.Context()
	if err := c.Check(ctx); err != nil {
		t.Fatal(err)
	}
	name := "security $(x)\n'\""
	if _, err := c.Open(ctx, testSource(name), plainCall(), secret.String{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("open of what is not there: %v", err)
	}
	if _, err := c.Put(ctx, testKey(name), profiles.Endpoint{}, true); err != nil {
		t.Fatal(err)
	}
	if creds, err := c.Open(ctx, testSource(name), plainCall(), secret.String{}); err != nil || creds.Subject != testKeyID+"/wJal/0" {
		t.Errorf("open: %v", err)
	}
	if err := c.SetSeed(ctx, name, secret.New(testSeed)); err != nil {
		t.Fatal(err)
	}
	key := testKey(name)
	key.AccessKeyID, key.Replace, key.KeepSeed = "AKIAIOSFODNN7REPLACE", true, true
	if _, err := c.Put(ctx, key, profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	if info, err := c.Describe(ctx, name); err != nil || info.AccessKeyID != "AKIAIOSFODNN7REPLACE" || !info.HasSeed {
		t.Errorf("after replace: %+v, %v", info, err)
	}

	// One item, with a label that a person can read.
	bus := d.dial()
	defer func() { _ = bus.Close() }()
	v, err := bus.Object(secretsName, loginPath).GetProperty("org.freedesktop.Secret.Collection.Items")
	if err != nil {
		t.Fatal(err)
	}
	items := v.Value().([]dbus.ObjectPath)
	if len(items) != 1 {
		t.Fatalf("%d items, want 1", len(items))
	}
	label, err := bus.Object(secretsName, items[0]).GetProperty("org.freedesktop.Secret.Item.Label")
	if err != nil || label.Value().(string) != `broker: security $(x) '"` {
		t.Errorf("label %v, %v", label, err)
	}

	if err := c.Remove(ctx, name); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(ctx, name); !fault.Is(err, fault.NotFound) {
		t.Errorf("second remove: %v", err)
	}
	t.Run("kept session", func(t *testing.T) { keptInSecretService(t, d, bus) })

	// FAULTS 23: the bus dies and comes back, the caller stays.
	d.stop(&d.ring)
	d.stop(&d.bus)
	if err := itself(t, func() error { return c.Check(ctx) }); !fault.Is(err, fault.Keyring) {
		t.Errorf("without a bus: %v", err)
	}
	d.startBus()
	d.startRing("the right one")
	if err := c.Check(ctx); err != nil {
		t.Errorf("the bus is back: %v", err)
	}
}

// keptInSecretService: what is kept serves another caller, is labelled, and goes when it is told to or with its source.
func keptInSecretService(t *testing.T, d *desktop, bus *dbus.Conn) {
	c, ctx := d.caller(), t.Context()
	state := c.StateDir
	must(t, os.WriteFile(callsFile(state), nil, 0o600))
	if _, err := c.Put(ctx, testKey("security"), profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	find := func() []dbus.ObjectPath {
		var items []dbus.ObjectPath
		if err := bus.Object(secretsName, loginPath).Call("org.freedesktop.Secret.Collection.SearchItems", 0, map[string]string{"profile": sessionKey("security")}).Store(&items); err != nil {
			t.Fatal(err)
		}
		return items
	}
	login := func(code string) {
		t.Helper()
		if _, err := c.Open(ctx, testSource("security"), dayCall(), secret.New(code)); err != nil {
			t.Fatal(err)
		}
		if items := find(); len(items) != 1 {
			t.Fatalf("%d items are kept, want 1", len(items))
		}
	}
	login("123456")
	label, err := bus.Object(secretsName, find()[0]).GetProperty("org.freedesktop.Secret.Item.Label")
	if err != nil || label.Value().(string) != "broker: session of security" {
		t.Errorf("label %v, %v", label, err)
	}
	c = d.caller()
	c.StateDir = state
	creds, err := c.Open(ctx, testSource("security"), dayCall(), secret.String{})
	if data, _ := os.ReadFile(callsFile(state)); err != nil || creds.SessionToken.Reveal() != keptToken || strings.Count(string(data), "\n") != 1 {
		t.Errorf("another caller: %v, calls %q", err, data)
	}
	for _, again := range []string{"first", "second"} {
		if err := c.Drop(ctx, "security"); err != nil || len(find()) != 0 {
			t.Errorf("%s drop: %v", again, err)
		}
	}
	login("123457")
	if err := c.Remove(ctx, "security"); err != nil || len(find()) != 0 {
		t.Errorf("remove: %v", err)
	}
}

func TestSecretServiceLocked(t *testing.T) {
	d := newDesktop(t)
	d.startRing("the right one")
	c, ctx := d.caller(), t.Context()
	if _, err := c.Put(ctx, testKey("security"), profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	d.stop(&d.ring)
	d.startRing("a wrong one")
	defer d.startPrompter()()
	for what, call := range map[string]func() error{
		"check": func() error { return c.Check(ctx) },
		"open": func() error {
			_, err := c.Open(ctx, testSource("security"), plainCall(), secret.String{})
			return err
		},
		"put": func() error {
			_, err := c.Put(ctx, testKey("other"), profiles.Endpoint{}, false)
			return err
		},
		"remove": func() error { return c.Remove(ctx, "security") },
		"drop":   func() error { return c.Drop(ctx, "security") },
	} {
		err := itself(t, call)
		if !fault.Is(err, fault.KeyringLocked) || !strings.Contains(fault.Of(err).Hint, "--unlock") {
			t.Errorf("%s: %v, hint %q", what, err, fault.Of(err).Hint)
		}
	}
	trials := c.Probe(ctx)
	if trials[0].Backend != SecretService || !trials[0].Works() || trials[0].Err == nil {
		t.Errorf("a locked keyring is there all the same: %+v", trials)
	}

	// With a display a prompt may come; here nobody answers it, and the deadline ends the vault.
	t.Setenv("DISPLAY", ":4711")
	late := func(err error) bool { return err != nil && strings.Contains(err.Error(), "without an answer") }
	err := eventually(c, late, func() error {
		_, err := c.Open(ctx, testSource("security"), plainCall(), secret.String{})
		return err
	})
	if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "a prompt may be waiting") {
		t.Errorf("with a display: %v", err)
	}
	t.Setenv("DISPLAY", "")

	// Nothing was harmed.
	d.stop(&d.ring)
	d.startRing("the right one")
	if _, err := c.Open(ctx, testSource("security"), plainCall(), secret.String{}); err != nil {
		t.Errorf("unlocked again: %v", err)
	}
}

func TestSecretServiceAbsent(t *testing.T) {
	d := newDesktop(t)
	c, ctx := d.caller(), t.Context()
	err := itself(t, func() error { return c.Check(ctx) })
	if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "no Secret Service (org.freedesktop.secrets)") {
		t.Errorf("a bus without the service: %v", err)
	}

	d.startRing("")
	err = itself(t, func() error { return c.Check(ctx) })
	if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), `no collection "login"`) {
		t.Errorf("a service without the login collection: %v", err)
	}
	// The library would ask a GUI to make the collection.
	err = itself(t, func() error {
		_, err := c.Put(ctx, testKey("security"), profiles.Endpoint{}, false)
		return err
	})
	if !fault.Is(err, fault.Keyring) {
		t.Errorf("put without the login collection: %v", err)
	}
	d.stop(&d.ring)

	d.startRing("the right one")
	_ = d.ring.Process.Signal(syscall.SIGSTOP)
	err = itself(t, func() error { return c.Check(ctx) })
	if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("a stopped service: %v", err)
	}
	_ = d.ring.Process.Signal(syscall.SIGCONT)

	// No bus at all: first none, then one that is gone; then the one of XDG_RUNTIME_DIR, without the variable.
	for _, address := range []string{"", "autolaunch:", "unix:path=" + d.home + "/gone"} {
		t.Setenv("XDG_RUNTIME_DIR", "")
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
		err = itself(t, func() error { return c.Check(ctx) })
		if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "no session bus") {
			t.Errorf("address %q: %v", address, err)
		}
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", d.home)
	if err := c.Check(ctx); err != nil {
		t.Errorf("the bus of XDG_RUNTIME_DIR: %v", err)
	}
}

// silentBus takes connections and says nothing.
func silentBus(t *testing.T) (address string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "bus"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = listener.Close()
		_ = os.RemoveAll(dir)
	})
	return "unix:path=" + dir + "/bus"
}

// TestSilentBus: such a bus stops the library in its init, before Main.
func TestSilentBus(t *testing.T) {
	c := freshCaller(t)
	c.Backend = func() string { return SecretService }
	c.Exe = with(t, c.Exe, "DBUS_SESSION_BUS_ADDRESS="+silentBus(t))
	t.Parallel()
	err := itself(t, func() error { return c.Check(t.Context()) })
	if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("got %v", err)
	}
}

func TestFileNeedsNoBus(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", silentBus(t))
	c := fileCaller(t)
	if err := itself(t, func() error { return c.Check(t.Context()) }); err != nil {
		t.Error(err)
	}
}

func TestSecretServiceDamagedItem(t *testing.T) {
	d := newDesktop(t)
	d.startRing("the right one")
	c, ctx := d.caller(), t.Context()
	if _, err := c.Put(ctx, testKey("security"), profiles.Endpoint{}, false); err != nil {
		t.Fatal(err)
	}
	bus := d.dial()
	defer func() { _ = bus.Close() }()
	var output dbus.Variant
	var talk dbus.ObjectPath
	if err := bus.Object(secretsName, secretsPath).Call("org.freedesktop.Secret.Service.OpenSession", 0, "plain", dbus.MakeVariant("")).Store(&output, &talk); err != nil {
		t.Fatal(err)
	}
	type raw struct {
		Session    dbus.ObjectPath
		Parameters []byte
		Value      []byte
		Type       string
	}
	for _, value := range []string{"", "not json", `{"Data":5}`, `{"Key":"x","Data":"e30="}`, `null`} {
		properties := map[string]dbus.Variant{
			"org.freedesktop.Secret.Item.Label":      dbus.MakeVariant("damaged"),
			"org.freedesktop.Secret.Item.Attributes": dbus.MakeVariant(map[string]string{"profile": itemKey("security")}),
		}
		if err := bus.Object(secretsName, loginPath).Call("org.freedesktop.Secret.Collection.CreateItem", 0, properties, raw{talk, nil, []byte(value), "text/plain"}, true).Err; err != nil {
			t.Fatal(err)
		}
		_, err := c.Open(ctx, testSource("security"), plainCall(), secret.String{})
		if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), itemKey("security")) || !strings.Contains(err.Error(), "left as it is") {
			t.Errorf("%q: %v", value, err)
		}
		key := testKey("security")
		key.Replace = true
		if _, err := c.Put(ctx, key, profiles.Endpoint{}, false); !fault.Is(err, fault.Keyring) {
			t.Errorf("%q: a damaged item was replaced unasked: %v", value, err)
		}
	}
	if err := c.Remove(ctx, "security"); err != nil {
		t.Errorf("remove a damaged item: %v", err)
	}
	if _, err := c.Describe(ctx, "security"); !fault.Is(err, fault.NotFound) {
		t.Errorf("after remove: %v", err)
	}
}

func TestProbe(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", "")
	c := freshCaller(t)
	c.Backend = nil
	trials := c.Probe(t.Context())
	if len(trials) != 2 || trials[0].Works() || trials[1].Backend != File || !trials[1].Works() || !errors.Is(trials[1].Err, ErrNotCreated) {
		t.Fatalf("%+v", trials)
	}
	if _, err := os.Stat(c.Dir); err == nil {
		t.Error("a probe made the directory")
	}
	if got, err := c.InUse(t.Context()); got != File || err != nil {
		t.Errorf("InUse: %q, %v", got, err)
	}

	c = freshCaller(t)
	c.Backend = nil
	if err := os.Mkdir(c.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(c.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := c.InUse(t.Context())
	if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "secret-service: ") || !strings.Contains(err.Error(), "file: ") || !strings.Contains(err.Error(), "0777") {
		t.Errorf("no keyring at all: %v", err)
	}
}
