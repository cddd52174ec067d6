package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBrokerdIsFound checks that brokerd is found next to the real file of the program that starts it, as with
// Homebrew and Nix, then on the daemon's own PATH, but never on the PATH of a shell. If brokerd or credproc is
// missing, the message says what to do.
func TestBrokerdIsFound(t *testing.T) {
	t.Parallel()
	h := demo(t)
	must(t, h.stopDaemon())
	links := filepath.Join(h.dir, "links")
	must(t, os.Mkdir(links, 0o755))
	for _, name := range []string{"broker", "credproc"} {
		must(t, os.Symlink(filepath.Join(h.bin, name), filepath.Join(links, name)))
	}
	if r := h.run(filepath.Join(links, "credproc"), "product_prod_paul"); r.code != 0 {
		t.Errorf("through a link: %v", r)
	}
	h.ok(t, filepath.Join(links, "broker"), "keyring", "test")
	if out := h.ok(t, filepath.Join(links, "broker"), "service", "install", "--dry-run"); !strings.Contains(out, "/bin/brokerd") {
		t.Errorf("the unit: %s", out)
	}
	must(t, h.stopDaemon())

	brokerd := filepath.Join(h.bin, "brokerd")
	nix := filepath.Join(h.home, ".nix-profile/bin")
	must(t, os.MkdirAll(nix, 0o755))
	must(t, os.Rename(brokerd, filepath.Join(nix, "brokerd")))
	h.credentials(t, "product_prod_paul")
	h.ok(t, "broker", "keyring", "test")
	must(t, h.stopDaemon())

	shells := filepath.Join(h.dir, "shells")
	must(t, os.Mkdir(shells, 0o755))
	must(t, os.Rename(filepath.Join(nix, "brokerd"), filepath.Join(shells, "brokerd")))
	t.Cleanup(func() { must(t, os.Rename(filepath.Join(shells, "brokerd"), brokerd)) })
	h.env = append(h.env, "PATH="+shells+":"+os.Getenv("PATH"))
	missing := "brokerd, the daemon program, is neither in " + h.bin + " nor on the PATH of the daemon"
	for _, argv := range [][]string{{"credproc", "product_prod_paul"}, {"broker", "daemon"}, {"broker", "keyring", "test"},
		{"broker", "service", "install"}, {"broker", "exec", "product_prod_paul", "--", "true"}} {
		r := h.run(filepath.Join(h.bin, argv[0]), argv[1:]...)
		if r.code == 0 || !strings.Contains(r.stderr, missing) || !strings.HasSuffix(r.stderr, "\nhint: command -v broker brokerd credproc\n") {
			t.Errorf("%v: %v", argv, r)
		}
	}
	credproc := filepath.Join(h.bin, "credproc")
	must(t, os.Rename(credproc, credproc+".away"))
	r := h.run(filepath.Join(h.bin, "broker"), "profiles", "link", "product_prod_paul", "--yes")
	must(t, os.Rename(credproc+".away", credproc))
	if r.code == 0 || !strings.HasSuffix(r.stderr, "side by side\nhint: command -v broker brokerd credproc\n") {
		t.Errorf("link without credproc: %v", r)
	}
	for _, argv := range [][]string{{"broker", "profiles", "list"}, {"broker", "explain", "product_prod_paul"}, {"broker", "version"}} {
		if r := h.run(filepath.Join(h.bin, argv[0]), argv[1:]...); r.code != 0 {
			t.Errorf("%v must work without brokerd: %v", argv, r)
		}
	}
}

// TestBrokerdOfAnotherVersion checks that a brokerd of another version serves requests, and that status shows both
// versions. As a vault process it refuses requests of this broker, and nothing is stored.
func TestBrokerdOfAnotherVersion(t *testing.T) {
	t.Parallel()
	h := demo(t)
	must(t, h.stopDaemon())
	own, other := filepath.Join(h.bin, "brokerd"), filepath.Join(otherBuild(t, "new1234"), "brokerd")
	must(t, os.Remove(own))
	must(t, os.Symlink(other, own))
	h.credentials(t, "product_prod_paul")
	if out := h.ok(t, "broker", "status"); !strings.Contains(out, "new1234") || !strings.Contains(out, "; broker service restart\n") {
		t.Errorf("status does not show the versions:\n%s", out)
	}
	r := h.runWith(`{"AccessKeyId":"`+robotKeyID+`","SecretAccessKey":"fake/demo+secret/of+robot/fake/demo+3333"}`, "broker", "add", "robot", "--stdin")
	if r.code != 1 || !strings.Contains(r.stderr, "the vault process is brokerd ") || !strings.Contains(r.stderr, "new1234") ||
		strings.Contains(r.stdout+r.stderr, "fake/demo+secret") {
		t.Errorf("add: %v", r)
	}
	must(t, os.Remove(own))
	must(t, linkOrCopy(filepath.Join(binaries, "brokerd"), own))
	if r := h.run("broker", "keyring", "test"); r.code != 0 {
		t.Errorf("with its own brokerd again: %v", r)
	}
	if out := h.ok(t, "broker", "profiles", "list"); strings.Contains(out, "robot") {
		t.Errorf("the source was stored:\n%s", out)
	}
}
