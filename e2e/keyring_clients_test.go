//go:build clients

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"broker/internal/testbus"
)

// backendHouses prepare a house with an open keyring of each kind, as after a login.
var backendHouses = map[string]func(*testing.T, *house){
	"file": func(*testing.T, *house) {},
	"secret-service": func(t *testing.T, h *house) {
		h.startBus(t)
		h.serve(t, "login-password", []string{"gnome-keyring-daemon", "--foreground", "--components=secrets", "--unlock"},
			"org.freedesktop.secrets", "/org/freedesktop/secrets/collection/login", "org.freedesktop.DBus.Properties.Get", "string:org.freedesktop.Secret.Collection", "string:Locked")
	},
	"kwallet": func(t *testing.T, h *house) {
		h.startBus(t)
		h.env = append(h.env, "QT_QPA_PLATFORM=offscreen")
		hash := "array:byte:" + strings.TrimSuffix(strings.Repeat("7,", 56), ",") // of a password, in the form in which PAM provides it
		h.serve(t, "", []string{"kwalletd5"}, "org.kde.kwalletd5", "/modules/kwalletd5", "org.kde.KWallet.pamOpen", "string:kdewallet", hash, "int32:0")
	},
	"pass": func(t *testing.T, h *house) {
		for _, name := range []string{"pass", "gpg"} {
			if len(installed(name)) == 0 {
				missing(t, name)
			}
		}
		dir, err := os.MkdirTemp("", "gpg") // the agent's socket needs a short path
		must(t, err)
		t.Cleanup(func() {
			_ = exec.Command("gpgconf", "--homedir", dir, "--kill", "all").Run()
			_ = os.RemoveAll(dir)
		})
		h.env = append(h.env, "GNUPGHOME="+dir, "PASSWORD_STORE_DIR="+filepath.Join(h.dir, "store"))
		h.more += "gnupg_home = " + dir + "\npassword_store_dir = " + filepath.Join(h.dir, "store") + "\n"
		h.ok(t, "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "paul@example.com", "future-default", "default", "never")
		h.ok(t, "pass", "init", "paul@example.com")
	},
	"keyctl": func(t *testing.T, h *house) {
		if len(installed("keyctl")) == 0 {
			missing(t, "keyctl")
		}
		if out, err := exec.Command("keyctl", "describe", "@u").CombinedOutput(); err != nil {
			missing(t, "the kernel's keyring: "+string(out))
		}
		// The kernel has one keyring for each uid. That of a uid without processes is empty, whatever another test, or the
		// person who runs the tests, keeps in theirs.
		if os.Geteuid() == 0 {
			h.uid = 50000 + os.Getpid()%10000
		}
	},
}

// startBus gives the house a session bus.
func (h *house) startBus(t *testing.T) {
	if len(installed("dbus-send")) == 0 {
		missing(t, "dbus-send")
	}
	runtime, err := os.MkdirTemp("", "bus")
	must(t, err)
	t.Cleanup(func() {
		must(t, h.stopDaemon()) // its socket is there, too
		_ = os.RemoveAll(runtime)
	})
	h.env = append(h.env, "XDG_RUNTIME_DIR="+runtime, "DBUS_SESSION_BUS_ADDRESS="+testbus.Address(runtime))
	bus := testbus.Start(t, runtime)
	t.Cleanup(func() {
		_ = bus.Process.Kill()
		_ = bus.Wait()
	})
}

// start starts a program that runs until the test ends.
func (h *house) start(t *testing.T, stdin, name string, args ...string) {
	t.Helper()
	if len(installed(name)) == 0 {
		missing(t, name)
	}
	cmd := h.command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

// serve starts a keyring and sends it a request over the bus until it answers.
func (h *house) serve(t *testing.T, stdin string, command []string, service, object, method string, args ...string) {
	t.Helper()
	h.start(t, stdin, command[0], command[1:]...)
	until(t, command[0]+" answers", func() bool {
		return h.run("dbus-send", append([]string{"--session", "--print-reply", "--dest=" + service, object, method}, args...)...).code == 0
	})
}

// keyringRow returns the row of a keyring in `broker keyring list --json`.
func (h *house) keyringRow(t *testing.T, backend string) (row struct {
	Backend, State string
	InUse          bool `json:"in_use"`
}) {
	t.Helper()
	var rows []json.RawMessage
	must(t, json.Unmarshal([]byte(h.ok(t, "broker", "keyring", "list", "--json")), &rows))
	for _, raw := range rows {
		must(t, json.Unmarshal(raw, &row))
		if row.Backend == backend {
			return row
		}
	}
	t.Fatalf("no %s in %s", backend, rows)
	return row
}

// TestClientsKeyrings runs the programs with each keyring, without a desktop: add, use, rotate, move and remove a
// key.
func TestClientsKeyrings(t *testing.T) {
	for backend, furnish := range backendHouses {
		t.Run(backend, func(t *testing.T) {
			h := newHouse(t)
			must(t, h.startSim())
			furnish(t, h)
			must(t, h.write(h.registry(), "[settings]\nkeyring_backend = "+backend+"\nsts_endpoint = "+h.sim.url+"\n"+h.more))
			must(t, h.write(h.awsConfig(), demoConfig))
			must(t, h.makeKeyring())
			if h.uid != 0 {
				h.give(t, h.uid)
			}
			credentials := func(profile string) {
				t.Helper()
				if _, err := parseDocument(h.ok(t, "credproc", profile)); err != nil {
					t.Error(err)
				}
			}
			t.Cleanup(func() { h.run("broker", "remove", "security", "--yes") })

			must(t, h.furnish(true))
			if row := h.keyringRow(t, backend); row.State != "works" && backend != "file" || !row.InUse {
				t.Errorf("%+v", row)
			}
			h.ok(t, "broker", "keyring", "test")
			credentials("product_prod_paul")
			h.counted(t, "GetSessionToken", 1)

			// Store the item again, with its seed.
			csv := filepath.Join(h.dir, "again.csv")
			must(t, h.write(csv, fmt.Sprintf("Access key ID,Secret access key\n%s,%s\n", keyID, keySecret)))
			h.ok(t, "broker", "add", "security", "--csv", csv)
			must(t, h.freshCodes())
			h.ok(t, "broker", "logout", "security")
			credentials("product_dev_paul")
			h.counted(t, "GetSessionToken", 2)

			// A new daemon finds the stored session.
			must(t, h.stopDaemon())
			credentials("product_prod_paul")
			h.counted(t, "GetSessionToken", 2)

			// Move the keys to another keyring and back while the daemon keeps running. It asks the new keyring,
			// since the old one is empty.
			if backend != "file" {
				for _, to := range []string{"file", backend} {
					h.ok(t, "broker", "keyring", "migrate", "--to", to, "--delete-old")
					must(t, h.freshCodes())
					h.ok(t, "broker", "logout", "security")
					credentials("product_prod_paul")
				}
				h.counted(t, "GetSessionToken", 4)
			}
			h.ok(t, "broker", "remove", "security", "--yes")
			if err := checkFailure(h.run("credproc", "product_prod_paul"), "3", "credproc", nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestClientsKeyringMigrateTerminal moves keys to a file keyring that does not exist yet. The command asks for its
// passphrase and gives it to the daemon; it deletes the old keys only after a yes.
func TestClientsKeyringMigrateTerminal(t *testing.T) {
	h := newHouse(t)
	must(t, h.startSim())
	backendHouses["pass"](t, h)
	h.env = append(h.env, "BROKER_KEYRING_PASSPHRASE_FILE=")
	must(t, h.write(h.registry(), "[settings]\nkeyring_backend = pass\nsts_endpoint = "+h.sim.url+"\n"+h.more))
	must(t, h.write(h.awsConfig(), demoConfig))
	must(t, h.furnish(true))
	h.ok(t, "credproc", "product_prod_paul") // starts a daemon
	ask := func(dialog []line, args ...string) result {
		t.Helper()
		r, shown, err := converse(h.command("broker", append([]string{"keyring", "migrate", "--to", "file"}, args...)...), dialog)
		if err != nil || r.code != 0 || strings.Contains(shown, passphrase) {
			t.Fatalf("%v: %v\n%s", err, r, shown)
		}
		return r
	}
	r := ask([]line{{false, "New passphrase: "}, {true, passphrase}, {false, "The same again: "}, {true, passphrase},
		{false, "Delete the old keys from pass? [y/N] "}, {true, "n"}})
	if !strings.Contains(r.stdout, "copied 1 key from pass to file") || !strings.Contains(r.stdout, "still in pass") {
		t.Error(r)
	}
	item := filepath.Join(h.dir, "store", "broker", "broker-source-*.gpg")
	if left, _ := filepath.Glob(item); len(left) != 1 {
		t.Errorf("the old keys: %q", left)
	}
	r = ask([]line{{false, "Passphrase of the keyring: "}, {true, passphrase}, {false, "Delete the old keys from pass? [y/N] "}, {true, "y"}}, "--from", "pass")
	if left, _ := filepath.Glob(item); len(left) != 0 || !strings.Contains(r.stdout, "deleted the old keys from pass") {
		t.Errorf("the old keys: %q, %v", left, r)
	}
	must(t, h.freshCodes())
	h.ok(t, "broker", "logout", "security")
	h.ok(t, "credproc", "product_prod_paul") // the daemon has the key of the keyring, so there is no prompt
}

// TestClientsKeyringMigrateOvertaken replaces a key in the old keyring just before the settings name the new one.
// The old keyring keeps that key, and the command says so.
func TestClientsKeyringMigrateOvertaken(t *testing.T) {
	h := newHouse(t)
	must(t, h.startSim())
	backendHouses["pass"](t, h)
	must(t, h.write(h.registry(), "[settings]\nkeyring_backend = pass\nsts_endpoint = "+h.sim.url+"\n"+h.more))
	must(t, h.write(h.awsConfig(), demoConfig))
	store := func(withSeed bool) string {
		t.Helper()
		must(t, h.furnish(withSeed))
		items, err := filepath.Glob(filepath.Join(h.dir, "store", "broker", "broker-source-*.gpg"))
		if must(t, err); len(items) != 1 {
			t.Fatalf("the items: %q", items)
		}
		return items[0]
	}
	newer := filepath.Join(h.dir, "newer")
	must(t, os.Rename(store(false), newer))
	item := store(true)
	gpg, err := exec.LookPath("gpg")
	must(t, err)
	bin := filepath.Join(h.dir, "bin")
	must(t, os.MkdirAll(bin, 0o700))
	must(t, os.WriteFile(filepath.Join(bin, "gpg"), fmt.Appendf(nil, "#!/bin/sh\nif grep -q 'keyring_backend = file' %q; then mv %q %q 2>/dev/null; fi\nexec %q \"$@\"\n",
		h.registry(), newer, item, gpg), 0o700))
	registry("[settings]", "[settings]\npath = "+bin)(t, h)
	r := h.run("broker", "keyring", "migrate", "--to", "file", "--delete-old")
	if err := checkFailure(r, "1", "broker", nil); err != nil || !strings.Contains(r.stderr, `file holds another key for source "security"`) {
		t.Errorf("%v: %v", err, r)
	}
	if _, err := os.Stat(item); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(newer); err == nil {
		t.Error("no key was replaced in the meantime")
	}
	h.ok(t, "credproc", "product_prod_paul")
}
