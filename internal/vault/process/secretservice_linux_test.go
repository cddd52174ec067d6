package process

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/testbus"
	"broker/internal/vault"
)

// desktop is a private session bus and gnome-keyring for a test.
type desktop struct {
	t    *testing.T
	home string
	bus  *exec.Cmd
	ring *exec.Cmd
}

func newDesktop(t *testing.T) *desktop {
	t.Helper()
	needs(t, "gnome-keyring-daemon")
	home, err := os.MkdirTemp("", "desktop") // the path of t.TempDir is too long for a socket
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
		"XDG_CACHE_HOME": home + "/cache", "DBUS_SESSION_BUS_ADDRESS": testbus.Address(d.home), "DISPLAY": "", "WAYLAND_DISPLAY": "",
	} {
		t.Setenv(name, value)
	}
	d.startBus()
	return d
}

func (d *desktop) startBus() { d.bus = testbus.Start(d.t, d.home) }

// startRing starts gnome-keyring. The password unlocks the login keyring, and creates it if there is none.
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
	bus, err := dbus.Dial(testbus.Address(d.home))
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

// startPrompter replaces the program that would show gnome-keyring's prompts, and never shows one.
func (d *desktop) startPrompter() (stop func()) {
	d.t.Helper()
	bus := d.dial()
	if _, err := bus.RequestName("org.gnome.keyring.SystemPrompter", dbus.NameFlagDoNotQueue); err != nil {
		d.t.Fatal(err)
	}
	bus.Eavesdrop(make(chan *dbus.Message, 100)) // receives every message and answers none
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

func (d *desktop) caller() *vault.Caller {
	c := freshCaller(d.t)
	c.Backend = func() string { return vault.SecretService }
	return c
}

// TestSecretServiceLabels: one item for a source and one for its session, with labels that a person can read.
func TestSecretServiceLabels(t *testing.T) {
	d := newDesktop(t)
	d.startRing("the right one")
	c, ctx := d.caller(), t.Context()
	must(t, os.WriteFile(callsFile(c.StateDir), nil, 0o600))
	name := "security $(x)\n'\""
	for range 2 {
		key := testKey(name)
		key.Replace = true
		_, err := c.Put(ctx, key, profiles.Endpoint{}, false)
		must(t, err)
	}
	_, err := c.Open(ctx, testSource(name), dayCall(), secret.New("123456"))
	must(t, err)
	bus := d.dial()
	defer func() { _ = bus.Close() }()
	v, err := bus.Object(secretsName, loginPath).GetProperty("org.freedesktop.Secret.Collection.Items")
	must(t, err)
	var labels []string
	for _, item := range v.Value().([]dbus.ObjectPath) {
		label, err := bus.Object(secretsName, item).GetProperty("org.freedesktop.Secret.Item.Label")
		must(t, err)
		labels = append(labels, label.Value().(string))
	}
	slices.Sort(labels)
	if want := []string{`broker: security $(x) '"`, `broker: session of security $(x) '"`}; !slices.Equal(labels, want) {
		t.Errorf("labels %q, want %q", labels, want)
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
	// The library would ask a GUI to create the collection.
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

	// No bus: first no address, then one of a bus that is gone; then the bus of XDG_RUNTIME_DIR, without the
	// variable.
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

// silentBus accepts connections and never responds.
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

// TestSilentBus: such a bus blocks the library in its init, before Main.
func TestSilentBus(t *testing.T) {
	c := freshCaller(t)
	c.Backend = func() string { return vault.SecretService }
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

func TestProbe(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("PASSWORD_STORE_DIR", t.TempDir())
	c := freshCaller(t)
	c.Backend = nil
	trials := c.Probe(t.Context())
	if len(trials) != 5 || trials[0].Works() || trials[1].Works() || trials[2].Works() ||
		trials[3].Backend != vault.File ||
		!trials[3].Works() ||
		!errors.Is(trials[3].Err, vault.ErrNotCreated) ||
		!trials[4].ByName {
		t.Fatalf("%+v", trials)
	}
	if _, err := os.Stat(c.Dir); err == nil {
		t.Error("a probe created the directory")
	}
	if got, err := c.InUse(t.Context()); got != vault.File || err != nil {
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
	if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "secret-service: ") ||
		!strings.Contains(err.Error(), "file: ") ||
		!strings.Contains(err.Error(), "0777") {
		t.Errorf("no usable keyring: %v", err)
	}
}
