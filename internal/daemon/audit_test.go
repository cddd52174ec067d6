//go:build linux

package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/wire"
)

// TestAuditRequired: if its audit line cannot be written, a session is still handed out by default, and status
// warns. With `audit = required`, it is not handed out by any delivery, and nothing can be allowed.
func TestAuditRequired(t *testing.T) {
	ways := map[string]func(*testing.T, *house) wire.Response{
		"get": func(t *testing.T, h *house) wire.Response { return h.get(t, "dev") },
		"overlay": func(t *testing.T, h *house) wire.Response {
			return h.ask(t, wire.Request{Verb: wire.PrivateFiles, Profile: "dev"})
		},
		"console": func(t *testing.T, h *house) wire.Response {
			return h.ask(t, wire.Request{Verb: wire.Console, Profile: "dev"})
		},
		"token": func(t *testing.T, h *house) wire.Response {
			return h.ask(t, aToken("dev"))
		},
		"publish": func(t *testing.T, h *house) wire.Response {
			return h.publishes(t, "dev", filepath.Join(filepath.Dir(h.path), "credentials"))
		},
		"allow": func(t *testing.T, h *house) wire.Response {
			return h.ask(t, wire.Request{Verb: wire.Allow, Profile: "guarded", For: time.Minute, Reason: "r", Everywhere: true})
		},
	}
	for way, ask := range ways {
		for settings, refused := range map[string]bool{"": false, "audit = optional\n": false, "audit = required\n": true, "audit = perhaps\n": true} {
			t.Run(way+" "+settings, func(t *testing.T) {
				guarded := "[profile guarded]\nsource_profile = security\nrole_arn = arn:aws:iam::111122223333:role/x\nconfirm = first\n"
				h := build(t, t.TempDir(), "[settings]\n"+settings+registry+guarded).run(t)
				h.trail.fill(syscall.ENOSPC)
				resp := ask(t, h)
				switch {
				case !refused && resp.Err != nil:
					t.Errorf("refused: %v", resp.Err)
				case refused && (resp.Err == nil || resp.Credential != nil || resp.Files != nil || resp.SignIn != nil ||
					resp.Token != nil || resp.Status != nil):
					t.Errorf("given: %+v", resp)
				case refused && settings == "audit = required\n" && !strings.Contains(resp.Err.Message, "audit = required"):
					t.Error(resp.Err)
				}
				status := h.ask(t, wire.Request{Verb: wire.State}).Status
				if all := strings.Join(status.Warnings, "\n"); !strings.Contains(all, syscall.ENOSPC.Error()) {
					t.Errorf("no warning in status: %q", all)
				}
				// Verbs that hand out nothing still work.
				if resp := h.ask(t, wire.Request{Verb: wire.Lock}); resp.Err != nil {
					t.Error(resp.Err)
				}
			})
		}
	}
}

// TestAuditRequiredServes: an endpoint refuses too, and serves again when the line can be written.
func TestAuditRequiredServes(t *testing.T) {
	h := build(t, t.TempDir(), "[settings]\naudit = required\n"+registry).run(t)
	e := h.lend(t, wire.Request{Verb: wire.Serve, Profile: "dev"})
	h.trail.fill(syscall.ENOSPC)
	if status, body := h.call(t, e); status < 400 || leaks(body) {
		t.Errorf("%d %s", status, body)
	}
	h.trail.fill(nil)
	if status, body := h.call(t, e); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if r := h.get(t, "dev"); r.Err != nil || refusedAs(r, fault.Failed) {
		t.Error(r.Err)
	}
}

// TestAuditRequiredRenews: the daemon does not write a refreshed session into a file either.
func TestAuditRequiredRenews(t *testing.T) {
	h, file := publishingHouse(t, "\n[profile always]\nrole_arn = arn:aws:iam::444455556666:role/always\nsource_profile = security\n"+standing+"\n[settings]\naudit = required\n")
	h.trail.fill(syscall.ENOSPC)
	h.run(t)
	until(t, "it is tried", func() bool { _, assumed := h.aws.calls(); return assumed > 0 })
	h.looked(t)
	if text, err := os.ReadFile(file); err == nil && len(text) > 0 {
		t.Errorf("published nevertheless:\n%s", text)
	}
	h.trail.fill(nil)
	h.grants.Resume()
	becomes(t, file, "[always]", true)
}
