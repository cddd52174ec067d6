//go:build clients

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestClientLinkCutShort kills `link` and `unlink` at every call that changes a file, and makes each of these
// calls fail as with a full disk. Nothing is lost, every profile resolves, and the same command completes the
// work.
func TestClientLinkCutShort(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		missing(t, "strace")
	}
	h := newHouse(t)
	const config = "# mine\n[profile a]\nrole_arn = arn:aws:iam::444455556666:role/a # a\nregion = x\nsource_profile = security\n\n[profile b]\nregion = y\n"
	const credentials = "[b]\nrole_arn = arn:aws:iam::444455556666:role/b\nsource_profile = security\n[other]\naws_access_key_id = AKIADEMOROBOTFAKE333\naws_secret_access_key = x\n"
	const registry = "[source security]\naccess_key_id = " + keyID + "\n"
	files := []string{h.awsConfig(), filepath.Join(h.home, ".aws/credentials"), h.registry()}
	reset := func() {
		_ = os.RemoveAll(filepath.Join(h.home, ".aws"))
		_ = os.RemoveAll(filepath.Join(h.home, ".config"))
		_ = os.RemoveAll(filepath.Join(h.home, ".local"))
		for i, text := range []string{config, credentials, registry} {
			must(t, h.write(files[i], text))
		}
	}
	read := func() (all [3]string) {
		for i, f := range files {
			b, err := os.ReadFile(f)
			must(t, err)
			all[i] = string(b)
		}
		return all
	}
	resolves := func(what string) {
		t.Helper()
		var list []struct{ Name, Problem string }
		must(t, json.Unmarshal([]byte(h.ok(t, "broker", "profiles", "list", "--json")), &list))
		n := 0
		for _, p := range list {
			if p.Problem == "" && (p.Name == "a" || p.Name == "b" || p.Name == "security") {
				n++
			}
		}
		if n != 3 {
			t.Fatalf("%s: not every profile resolves: %v", what, list)
		}
	}
	reset()
	start := read()
	h.ok(t, "broker", "profiles", "link", "--all")
	linked := read()
	hits := 0
	for _, verb := range []string{"link", "unlink"} {
		for _, call := range []string{"fsync", "renameat", "renameat2", "linkat", "unlinkat"} {
			for _, fault := range []string{"signal=KILL", "error=ENOSPC"} {
				for n := 1; n <= 30; n++ {
					reset()
					if verb == "unlink" {
						h.ok(t, "broker", "profiles", "link", "--all")
					}
					what := fmt.Sprintf("%s, %s %s of call %d", verb, fault, call, n)
					r := h.run("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:%s:when=%d", call, fault, n),
						filepath.Join(h.bin, "broker"), "profiles", verb, "--all")
					resolves(what)
					again := h.run("broker", "profiles", verb, "--all")
					want := linked
					if verb == "unlink" {
						want = start
					}
					if got := read(); again.code != 0 || got != want {
						t.Fatalf("%s: afterwards %v\n%q\nwant\n%q", what, again, got, want)
					}
					h.ok(t, "broker", "profiles", "unlink", "--all")
					if got := read(); got != start {
						t.Fatalf("%s: unlinked\n%q\nwant\n%q", what, got, start)
					}
					left, _ := filepath.Glob(filepath.Join(h.home, ".aws", ".*broker*"))
					if len(left) > 0 && strings.Contains(strings.Join(left, " "), "saved") {
						t.Fatalf("%s: %v", what, left)
					}
					if r.code == 0 {
						break // there is no further call
					}
					hits++
				}
			}
		}
	}
	if hits < 20 {
		t.Errorf("only %d faults took effect: the test is void", hits)
	}
	t.Logf("%d faults", hits)
}
