package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestReadOnlyHome checks a HOME that cannot be written. With a state directory elsewhere Broker serves what is
// there; without one it says what to do. A command that would change a file says why it cannot, and changes
// nothing.
func TestReadOnlyHome(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := demo(t)
	must(t, h.stopDaemon())
	h.give(t, nobody)
	must(t, filepath.WalkDir(h.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chmod(path, info.Mode().Perm()&^0o222)
	}))
	// The earlier state directory must not be writable either.
	r := h.asOther(t, nobody, "credproc", "product_prod_paul")
	if err := checkFailure(r, "5", "credproc", nil); err != nil || !strings.Contains(r.stderr, "permission denied") || !strings.Contains(r.stderr, "hint: export BROKER_STATE_DIR=") {
		t.Errorf("%v: %v", err, r)
	}
	elsewhere := filepath.Join(h.dir, "elsewhere")
	must(t, os.Mkdir(elsewhere, 0o700))
	must(t, os.Chown(elsewhere, nobody, nobody))
	plain := h.env
	h.env = append(plain, "BROKER_STATE_DIR="+filepath.Join(elsewhere, "state"))
	t.Cleanup(func() {
		h.asOther(t, nobody, "broker", "daemon", "--stop") // which waits for its end
	})
	for range 2 {
		r := h.asOther(t, nobody, "credproc", "product_prod_paul")
		if _, err := parseDocument(r.stdout); err != nil || r.code != 0 {
			t.Errorf("%v: %v", err, r)
		}
	}
	before, err := os.ReadFile(h.registry())
	must(t, err)
	for _, args := range [][]string{{"profiles", "alias", "live", "product_prod_paul"}, {"profiles", "link", "--all"}, {"mfa", "remove", "security", "--yes"}} {
		r := h.asOther(t, nobody, "broker", args...)
		if err := checkFailure(r, "1", "broker", args); err != nil || !strings.Contains(r.stderr, "denied") && !strings.Contains(r.stderr, "read-only") {
			t.Errorf("broker %v: %v: %v", args, err, r)
		}
	}
	if after, _ := os.ReadFile(h.registry()); string(after) != string(before) {
		t.Errorf("the registry was changed: %s", after)
	}
	if r := h.asOther(t, nobody, "broker", "exec", "product_prod_paul", "--", "true"); r.code != 0 {
		t.Error(r)
	}
}

// TestOneHomeOfTwo checks that the second user of a HOME gets nothing of the first, and is told why.
func TestOneHomeOfTwo(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := demo(t)
	h.credentials(t, "product_prod_paul")
	must(t, os.Chmod(filepath.Dir(h.dir), 0o755))
	for _, open := range []bool{false, true} {
		if open { // modes that are as careless as possible
			openToAll(t, filepath.Dir(h.socket()))
			must(t, os.Chmod(h.socket(), 0o777))
		}
		for _, args := range [][]string{{"credproc", "product_prod_paul"}, {"broker", "exec", "product_prod_paul", "--", "env"}, {"broker", "export", "product_prod_paul"}} {
			r := h.asOther(t, nobody, args[0], args[1:]...)
			if r.code == 0 || r.stdout != "" || strings.Count(r.stderr, "\n") > 2 || examine(r) != nil {
				t.Errorf("open %v, %v: %v", open, args, r)
			}
		}
		if !open {
			continue
		}
		// Nor can it become the daemon of the first user, whatever it did to the files.
		if r := h.asOther(t, nobody, "broker", "daemon"); r.code != 5 || r.stdout != "" {
			t.Errorf("a daemon in another user's directory: %v", r)
		}
	}
}

// TestUmasks checks that every umask gives the same files with the same modes, and that everything works.
func TestUmasks(t *testing.T) {
	t.Parallel()
	needRoot(t)
	var want string
	for _, mask := range []string{"022", "000", "077", "777"} {
		h := newHouse(t)
		must(t, h.startSim())
		must(t, h.settings(""))
		must(t, h.write(h.awsConfig(), demoConfig))
		h.give(t, nobody)
		key := fmt.Sprintf(`{"AccessKeyId":%q,"SecretAccessKey":%q}`, keyID, keySecret)
		script := "umask " + mask + `
printf '%s' "$KEY" | broker add security --stdin --mfa-serial "$SERIAL" &&
printf '%s' "$SEED" | broker mfa set security --seed-stdin &&
credproc product_prod_paul >/dev/null &&
broker profiles link --all &&
broker profiles alias live product_prod_paul &&
broker publish live &&
broker exec --mode file live -- sh -c 'cat "$AWS_SHARED_CREDENTIALS_FILE" >/dev/null' &&
broker status --json >status.json`
		h.env = append(h.env, "KEY="+key, "SEED="+seed, "SERIAL="+serial)
		if r := h.asOther(t, nobody, "sh", "-c", script); r.code != 0 {
			t.Fatalf("umask %s: %v", mask, r)
		}
		var s status
		text, err := os.ReadFile(filepath.Join(h.home, "status.json"))
		must(t, errors.Join(err, json.Unmarshal(text, &s), os.Remove(filepath.Join(h.home, "status.json"))))
		must(t, syscall.Kill(s.PID, syscall.SIGTERM))
		ended(t, s.PID)
		var modes strings.Builder
		must(t, filepath.WalkDir(h.home, func(path string, d fs.DirEntry, err error) error {
			if err != nil || strings.HasPrefix(d.Name(), "grants-") || strings.Contains(path, "overlays") || strings.HasSuffix(path, ".sock") {
				return err // these files come and go
			}
			info, err := d.Info()
			if err == nil {
				rel, _ := filepath.Rel(h.home, path)
				fmt.Fprintf(&modes, "%v %s\n", info.Mode(), rel)
			}
			return err
		}))
		if want == "" {
			want = modes.String()
			if !strings.Contains(want, "-rw------- .local/state/broker/audit.log") {
				t.Fatalf("unexpected files or modes:\n%s", want)
			}
		}
		if modes.String() != want {
			t.Errorf("umask %s:\n%s\nwith 022:\n%s", mask, modes.String(), want)
		}
	}
}

// TestRuntimeDirectories checks where the socket is if XDG_RUNTIME_DIR is missing, belongs to another user, is too
// long, is a link or is a file.
func TestRuntimeDirectories(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := demo(t)
	must(t, h.stopDaemon())
	plain := h.env
	dir := func(name string) string { return filepath.Join(h.dir, name) }
	long := dir(strings.Repeat("l", 150))
	for _, d := range []string{dir("mine"), dir("foreign"), dir("open"), long} {
		must(t, os.Mkdir(d, 0o700))
	}
	must(t, os.Chown(dir("foreign"), nobody, nobody))
	must(t, os.Chmod(dir("open"), 0o777))
	must(t, os.Symlink(dir("mine"), dir("link")))
	must(t, os.WriteFile(dir("file"), nil, 0o600))
	inState := h.socket()
	for _, row := range []struct{ name, env, socket string }{
		{"none", "", inState},
		{"mine", "XDG_RUNTIME_DIR=" + dir("mine"), dir("mine/broker/broker.sock")},
		{"too long for a socket", "XDG_RUNTIME_DIR=" + long, filepath.Join(long, "broker/broker.sock")},
		{"relative", "XDG_RUNTIME_DIR=mine", inState},
		{"missing", "XDG_RUNTIME_DIR=" + dir("missing"), inState},
		{"another's", "XDG_RUNTIME_DIR=" + dir("foreign"), inState},
		{"a file", "XDG_RUNTIME_DIR=" + dir("file"), inState},
		{"named, and does not exist yet", "BROKER_RUNTIME_DIR=" + dir("new/below"), dir("new/below/broker.sock")},
		{"named, and open to all", "BROKER_RUNTIME_DIR=" + dir("open"), ""},
		{"named, and belongs to another user", "BROKER_RUNTIME_DIR=" + dir("foreign"), ""},
		{"named, and a link", "BROKER_RUNTIME_DIR=" + dir("link"), ""},
		{"named, and a file", "BROKER_RUNTIME_DIR=" + dir("file"), ""},
		{"named, and too long", "BROKER_RUNTIME_DIR=" + long + "/" + strings.Repeat("m", 100), long + "/" + strings.Repeat("m", 100) + "/broker.sock"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h.env = plain
			if row.env != "" {
				h.env = append(plain[:len(plain):len(plain)], row.env)
			}
			r := h.run("credproc", "product_prod_paul")
			if row.socket == "" {
				if err := checkFailure(r, "5", "credproc", nil); err != nil {
					t.Error(err)
				}
				return
			}
			if _, err := parseDocument(r.stdout); err != nil {
				t.Fatalf("%v: %v", err, r)
			}
			if info, err := os.Lstat(row.socket); err != nil || info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("%s: %v %v", row.socket, info, err)
			}
			must(t, h.stopDaemon())
		})
	}
	h.env = plain
}
