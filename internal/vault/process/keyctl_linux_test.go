package process

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/vault"
)

// TestKeyctlOtherSession: a process in another session, which possesses none of our keys, reads and replaces the
// key.
func TestKeyctlOtherSession(t *testing.T) {
	needs(t, "keyctl")
	c, ctx, name := keyctlBed(t).caller(t), t.Context(), unique(t, "security")
	put(t, c, testKey(name))
	other := keyctlBed(t).caller(t)
	other.Registry = c.Registry
	script := filepath.Join(t.TempDir(), "vault")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\nexec setsid -w keyctl session - '"+c.Exe+"' \"$@\"\n"), 0o700))
	other.Exe = script
	if info, err := other.Describe(ctx, name); err != nil || info.AccessKeyID != testKeyID {
		t.Errorf("describe: %+v, %v", info, err)
	}
	must(t, other.SetSeed(ctx, name, secret.New(testSeed)))
	if info, err := c.Describe(ctx, name); err != nil || !info.HasSeed {
		t.Errorf("after the write by the other session: %+v, %v", info, err)
	}
}

// TestKeyctlLeavesNothing: wherever a writer is killed, the session in which it ran holds nothing of the key.
func TestKeyctlLeavesNothing(t *testing.T) {
	needs(t, "keyctl", "strace")
	c, name := keyctlBed(t).caller(t), unique(t, "security")
	put(t, c, testKey(name))
	key := testKey(name)
	key.AccessKeyID, key.Replace = otherKeyID, true
	request := filepath.Join(t.TempDir(), "request")
	must(t, os.WriteFile(request, written(t, vault.Keyctl, c, putRequest(key, profiles.Endpoint{}, false)), 0o600))
	for when := 1; when <= 12; when++ {
		script := fmt.Sprintf("strace -f -qq -o /dev/null -e trace=keyctl -e inject=keyctl:signal=SIGKILL:when=%d '%s' vault <'%s' >/dev/null 2>&1; keyctl list @s", when, c.Exe, request)
		out, err := exec.Command("keyctl", "session", "-", "sh", "-c", script).CombinedOutput()
		if err != nil || bytes.Contains(out, []byte(itemKey(name))) {
			t.Errorf("killed at keyctl %d: %v\n%s", when, err, out)
		}
	}
}

// TestKeyctlExpiry: the error for a key that the kernel expired says so, and the key can be stored again.
func TestKeyctlExpiry(t *testing.T) {
	for what, spoil := range map[string]func(id int) error{
		"expired": func(id int) error { _, err := unix.KeyctlInt(unix.KEYCTL_SET_TIMEOUT, id, 1, 0, 0); return err },
		"revoked": func(id int) error { _, err := unix.KeyctlInt(unix.KEYCTL_REVOKE, id, 0, 0, 0); return err },
	} {
		t.Run(what, func(t *testing.T) {
			c, ctx, name := keyctlBed(t).caller(t), t.Context(), unique(t, "security")
			put(t, c, testKey(name))
			id, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "user", itemKey(name), 0)
			must(t, err)
			must(t, spoil(id))
			gone := func(err error) bool { return fault.Is(err, fault.NotFound) }
			for !gone(err) {
				if _, err = c.Describe(ctx, name); err != nil && !gone(err) {
					t.Fatal(err)
				}
			}
			if !strings.Contains(err.Error(), "expired") || fault.Of(err).Hint == "" {
				t.Errorf("%v", err)
			}
			put(t, c, testKey(name))
			if _, err := c.Describe(ctx, name); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestKeyctlQuota: a write beyond the quota fails and keeps the old key, for a user with the usual quota.
func TestKeyctlQuota(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: needs root to become a user without keys")
	}
	if err := lookKeyctl(); err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	home, err := os.MkdirTemp("/tmp", "quota")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	must(t, os.Chmod(home, 0o711))
	exe := filepath.Join(home, "exe")
	data, err := os.ReadFile(vaultExe(t))
	must(t, err)
	must(t, os.WriteFile(exe, data, 0o755))
	uid := 3000000 + os.Getpid() // an unused uid
	must(t, os.Mkdir(home+"/his", 0o700))
	must(t, os.Chown(home+"/his", uid, uid))
	c := &vault.Caller{StateDir: home + "/his/state", Registry: home + "/his/config"}
	as := func(q *request) error {
		t.Helper()
		cmd := exec.Command(exe, "vault")
		cmd.Stdin = bytes.NewReader(written(t, vault.Keyctl, c, q))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		out, err := cmd.Output()
		must(t, err)
		var a answer
		must(t, json.Unmarshal(out, &a))
		if a.Fault == nil {
			return nil
		}
		return a.Fault.Unpack()
	}
	must(t, as(putRequest(testKey("security"), profiles.Endpoint{}, false)))
	var full error
	fillers := 0
	for _, size := range []int{4000, 1000, 100, 1} { // each as often as there is space
		for {
			if full = as(sealRequest(fmt.Sprint("filler ", fillers), secret.New(strings.Repeat("x", size)))); full != nil {
				break
			}
			fillers++
		}
	}
	if !fault.Is(full, fault.Keyring) || !strings.Contains(full.Error(), "quota") {
		t.Fatalf("full: %v", full)
	}
	if err := as(&request{Op: vault.OpDescribe, Source: "security"}); err != nil {
		t.Errorf("the existing key: %v", err)
	}
	if err := as(seedRequest("security", secret.New(testSeed))); err == nil || !strings.Contains(err.Error(), "old item stays") {
		t.Errorf("a write without space: %v", err)
	}
	if err := as(&request{Op: vault.OpDescribe, Source: "security"}); err != nil {
		t.Errorf("the old item: %v", err)
	}
	for i := range fillers {
		must(t, as(&request{Op: vault.OpForget, Source: fmt.Sprint("filler ", i)}))
	}
	must(t, as(&request{Op: vault.OpRemove, Source: "security"}))
}
