package e2e

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestContainer runs Broker in a system without D-Bus, XDG_RUNTIME_DIR, a terminal or a desktop, with a read-only
// root and a uid without a name. What docs/containers.md says must be enough.
func TestContainer(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, tool := range []string{"unshare", "mount", "chroot"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing; util-linux and coreutils have it", tool)
		}
	}
	h := newHouse(t)
	must(t, h.startSim())
	const uid = 12345
	root := filepath.Join(h.dir, "root")
	for _, dir := range []string{"proc", "dev", "usr", "broker", "secrets", "data"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	for _, link := range []string{"bin", "lib", "lib64"} { // the links that Debian has
		must(t, os.Symlink("usr/"+link, filepath.Join(root, link)))
	}
	must(t, os.WriteFile(filepath.Join(root, "secrets/passphrase"), []byte(passphrase+"\n"), 0o600))
	must(t, os.Chown(filepath.Join(root, "secrets/passphrase"), uid, uid))
	must(t, os.Chown(filepath.Join(root, "data"), uid, uid))
	must(t, os.Chmod(filepath.Dir(h.dir), 0o755))

	// The script has its own mounts and processes, and only the listed variables in its environment.
	inside := func(script string) result {
		outer := fmt.Sprintf(`set -e
mount --bind %[1]s %[1]s
mount --bind %[1]s/data %[1]s/data
mount -o remount,bind,ro %[1]s
mount --bind -o ro /usr %[1]s/usr
mount --bind -o ro %[2]s %[1]s/broker
mount -t proc proc %[1]s/proc
mount --bind /dev %[1]s/dev
exec chroot --userspec=%[3]d:%[3]d --groups= %[1]s /usr/bin/env -i PATH=/broker:/usr/bin "$@" /bin/sh -c "$SCRIPT"`, root, h.bin, uid)
		cmd := h.command("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", outer, "sh",
			"HOME=/data", "BROKER_KEYRING_PASSPHRASE_FILE=/secrets/passphrase", "KEY="+fmt.Sprintf(`{"AccessKeyId":%q,"SecretAccessKey":%q}`, keyID, keySecret), "SEED="+seed)
		cmd.Env = append(h.env, "SCRIPT="+script)
		return finish(cmd)
	}
	must(t, os.MkdirAll(filepath.Join(root, "data/.config/broker"), 0o700))
	text := "[settings]\nsts_endpoint = " + h.sim.url + "\n\n[profile prod]\nrole_arn = " + prodRole + "\nsource_profile = security\n"
	must(t, os.WriteFile(filepath.Join(root, "data/.config/broker/config"), []byte(text), 0o600))
	for _, path := range []string{"data/.config", "data/.config/broker", "data/.config/broker/config"} {
		must(t, os.Chown(filepath.Join(root, path), uid, uid))
	}
	r := inside(`touch /x 2>/dev/null && echo the root can be written
printf %s "$KEY" | broker add security --stdin --mfa-serial ` + serial + ` &&
printf %s "$SEED" | broker mfa set security --seed-stdin &&
credproc prod >/dev/null && broker exec prod -- env && broker status`)
	for _, want := range []string{"in file", "AWS_SESSION_TOKEN=", "keyring   file"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%q is missing: %v", want, r)
		}
	}
	if r.code != 0 || strings.Contains(r.stdout, "the root is writable") {
		t.Fatal(r)
	}
	requests, err := h.sim.requests()
	must(t, err)
	if name := requests[len(requests)-1].SessionName; !strings.HasPrefix(name, "uid-12345@") {
		t.Errorf("the session's name is %q", name)
	}
	// The next container with that volume still finds the session, in the volume's keyring.
	before, err := h.sim.count("GetSessionToken")
	must(t, err)
	if r := inside("credproc prod"); r.code != 0 {
		t.Error(r)
	}
	h.counted(t, "GetSessionToken", before)
	// Without a volume there is no writable place, and the error says what to do.
	must(t, os.Chown(filepath.Join(root, "data"), 0, 0))
	must(t, os.Rename(filepath.Join(root, "data/.local"), filepath.Join(root, "data/.away")))
	if r := inside("credproc prod"); r.code != 5 || r.stdout != "" || !strings.Contains(r.stderr, "hint: export BROKER_STATE_DIR=") {
		t.Error(r)
	}
}

// TestHelperIsStatic checks that credproc, built as the Makefile does, needs no library of the system: it is copied to
// remote hosts and mounted into any image.
func TestHelperIsStatic(t *testing.T) {
	t.Parallel()
	file, err := elf.Open(filepath.Join(binaries, "credproc"))
	must(t, err)
	defer func() { _ = file.Close() }()
	needed, err := file.ImportedLibraries()
	if err != nil || len(needed) > 0 {
		t.Errorf("it needs %q, %v", needed, err)
	}
	for _, part := range file.Progs {
		if part.Type == elf.PT_INTERP {
			t.Error("it needs a program that loads it")
		}
	}
	makefile, err := os.ReadFile("../Makefile")
	must(t, err)
	if !strings.Contains(string(makefile), "\nCGO_ENABLED ?= 0\n") {
		t.Error("the Makefile builds with cgo")
	}
}
