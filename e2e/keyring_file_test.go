package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeyringPassphraseStaysOut checks that the daemon keeps the key of the file keyring until it is locked, and
// never receives the passphrase, whether typed or in a file.
func TestKeyringPassphraseStaysOut(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: only root can read the daemon's memory")
	}
	for what, file := range map[string]bool{"typed": false, "in a file": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := demo(t)
			if pid := h.daemonProcess(); pid != 0 {
				must(t, kill(pid))
			}
			if !file {
				h.env = append(h.env, "BROKER_KEYRING_PASSPHRASE_FILE=")
				if r := h.run("credproc", "product_prod_paul"); r.code != 7 {
					t.Fatalf("void: there was no prompt for the passphrase: %v", r)
				}
				if r := h.runWith("not-the-passphrase-8812\n", "broker", "unlock", "--stdin"); r.code != 7 {
					t.Errorf("a wrong passphrase: %v", r)
				}
				if r := h.runWith(passphrase+"\n", "broker", "unlock", "--stdin"); r.code != 0 {
					t.Fatal(r)
				}
			}
			holds := func() (key bool) {
				memory, err := readMemory(h.daemonPID(t))
				must(t, err)
				for _, p := range []string{passphrase, "not-the-passphrase-8812"} {
					if inAny(memory, lookFor(map[string]string{"passphrase": p})) {
						t.Error("the daemon's memory holds a passphrase")
					}
				}
				return inAny(memory, wanted{"key": []byte("broker-key-1.")})
			}
			h.credentials(t, "product_prod_paul")
			if !holds() {
				t.Error("void: the daemon's memory does not even contain the key")
			}
			// The key is enough: there is no prompt, and no file is read.
			must(t, os.Rename(filepath.Join(h.dir, "passphrase"), filepath.Join(h.dir, "passphrase.away")))
			h.ok(t, "broker", "logout")
			must(t, h.freshCodes())
			h.credentials(t, "product_prod_paul")
			// Lock makes the daemon forget the key.
			h.ok(t, "broker", "lock")
			if r := h.run("broker", "unlock"); r.code == 0 {
				t.Errorf("unlocked without the passphrase: %v", r)
			}
			holds()
		})
	}
}

// TestOlderProgramUnlocks checks that a client of an older version, which sends the passphrase itself, can still
// unlock, and that the daemon keeps only the key.
func TestOlderProgramUnlocks(t *testing.T) {
	t.Parallel()
	h := demo(t)
	if pid := h.daemonProcess(); pid != 0 {
		must(t, kill(pid))
	}
	h.env = append(h.env, "BROKER_KEYRING_PASSPHRASE_FILE=")
	if r := h.run("credproc", "product_prod_paul"); r.code != 7 { // starts the daemon
		t.Fatalf("void: there was no prompt for the passphrase: %v", r)
	}
	ask := func(pass string) string {
		t.Helper()
		conn, err := net.Dial("unix", h.socket())
		must(t, err)
		defer func() { _ = conn.Close() }()
		_, err = fmt.Fprintf(conn, `{"v":1,"verb":"unlock","passphrase":%q}`+"\n", pass)
		must(t, err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		must(t, err)
		return line
	}
	if answer := ask("wrong-one"); !strings.Contains(answer, "wrong passphrase for the file keyring") {
		t.Errorf("a wrong passphrase: %s", answer)
	}
	if r := h.run("credproc", "product_prod_paul"); r.code != 7 {
		t.Errorf("unlocked by a wrong passphrase: %v", r)
	}
	if answer := ask(passphrase); strings.Contains(answer, "error") {
		t.Errorf("the right passphrase: %s", answer)
	}
	h.credentials(t, "product_prod_paul")
}

// TestPassphraseFileMended checks that the error for a passphrase file that others can read gives the command that
// fixes it, and that after this command the next request is served.
func TestPassphraseFileMended(t *testing.T) {
	t.Parallel()
	h := demo(t)
	if pid := h.daemonProcess(); pid != 0 {
		must(t, kill(pid))
	}
	file := filepath.Join(h.home, ".config/broker/passphrase")
	must(t, os.WriteFile(file, []byte(passphrase+"\n"), 0o600))
	must(t, os.Chmod(file, 0o644))
	h.env = append(h.env, "BROKER_KEYRING_PASSPHRASE_FILE="+file)
	for range 2 {
		r := h.run("credproc", "product_prod_paul")
		if r.code != 1 || !strings.Contains(r.stderr, file+" is open to others (mode 0644)\nhint: chmod 600 "+file+"\n") {
			t.Fatal(r)
		}
	}
	must(t, os.Chmod(file, 0o600))
	h.credentials(t, "product_prod_paul")
}

// TestDamagedItemNamesItsSource checks that the error for an item that cannot be decrypted names the source, and
// that the hint helps.
func TestDamagedItemNamesItsSource(t *testing.T) {
	t.Parallel()
	h := demo(t)
	items, err := filepath.Glob(filepath.Join(h.keyring(), "broker-source-*"))
	must(t, err)
	if len(items) != 1 {
		t.Fatal(items)
	}
	must(t, os.Truncate(items[0], 40))
	r := h.run("credproc", "product_prod_paul")
	if r.code != 1 || !strings.HasPrefix(r.stderr, `credproc: the key of source "security" cannot be used: `) ||
		!strings.HasSuffix(r.stderr, "\nhint: broker remove security\n") {
		t.Fatal(r)
	}
	h.ok(t, "broker", "remove", "--yes", "security")
}
