package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDirectoryOfAnotherUser: a file .broker that another user could have written holds every request from its
// directory. The daemon runs as a user that cannot look into its own helpers, so the directory is that of the program
// that started the helper.
func TestDirectoryOfAnotherUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := demo(t)
	repo := filepath.Join(h.home, "repo")
	file := filepath.Join(repo, ".broker")
	must(t, os.MkdirAll(repo, 0o755))
	must(t, os.WriteFile(file, []byte("profiles = product_dev_paul\n"), 0o644))
	if r := h.run("broker", "profiles", "trust", "--directory", repo, "--yes"); r.code != 0 {
		t.Fatal(r)
	}
	if r := h.run("broker", "daemon", "--stop"); r.code != 0 {
		t.Fatal(r)
	}
	const user = 12345
	h.give(t, user)
	defer h.asOther(t, user, "broker", "daemon", "--stop")
	get := func(dir, profile string) result {
		t.Helper()
		cmd := h.command("sh", "-c", `cd "$0" && credproc "$1"; exit $?`, dir, profile)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: user, Gid: user}
		cmd.Dir = "/"
		return finish(cmd)
	}
	for _, c := range []struct {
		owner        int
		dir, profile string
		says         string // empty if a session is given
	}{
		{user, repo, "product_dev_paul", ""},
		{user, repo, "product_prod_paul", "it does not belong to " + repo + " (.broker)"},
		{user, h.home, "product_prod_paul", ""},
		{nobody, repo, "product_dev_paul", file + " belongs to another user (uid 65534)"},
		{nobody, repo, "product_prod_paul", file + " belongs to another user (uid 65534)"},
		{nobody, h.home, "product_prod_paul", ""},
		{user, repo, "product_dev_paul", ""},
	} {
		must(t, os.Chown(file, c.owner, c.owner))
		r := get(c.dir, c.profile)
		switch {
		case c.says == "" && r.code != 0:
			t.Errorf("%+v: %v", c, r)
		case c.says != "":
			if err := checkFailure(r, "8", "credproc", nil); err != nil || !strings.Contains(r.stderr, c.says) {
				t.Errorf("%+v: %v, %v", c, err, r)
			}
		}
	}
}
