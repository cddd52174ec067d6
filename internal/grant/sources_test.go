//go:build linux

package grant

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"broker/internal/audit"
	"broker/internal/session"
	"broker/internal/wire"
)

// toOther changes the registry, so that the sessions of dev come from another source.
func (k *Keeper) toOther(t *testing.T) {
	t.Helper()
	text := strings.ReplaceAll(registry, "= security", "= other") +
		"[source other]\naccess_key_id = AKIAIOSFODNN7EXAMPL2\nmfa_serial = arn:aws:iam::111122223333:mfa/o\n" +
		"mfa_seed = keyring\n"
	if err := os.WriteFile(k.Files.Registry, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		set, err := k.Store.Load(k.Files)
		if err == nil {
			if chain, err := set.Resolve("dev"); err == nil && chain.Source.Name == "other" {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatal("the new registry is not seen")
		}
	}
}

// hook is called for each audit event.
type hook func(audit.Event)

func (f hook) Record(all ...audit.Event) error {
	for _, e := range all {
		f(e)
	}
	return nil
}

// publish publishes dev.
func (k *Keeper) publish(t *testing.T) {
	t.Helper()
	ask := Request{By: self(), Requests: []session.Request{{Profile: "dev", Files: k.Files}}}
	if err := k.Publish(t.Context(), ask, &wire.Request{}, func(wire.Response) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

// TestLogoutFindsTheNewSource: once a section has a session of another source, a logout of that source finds it,
// even if the daemon ended at that moment.
func TestLogoutFindsTheNewSource(t *testing.T) {
	dir := t.TempDir()
	k := keeper(t, dir)
	k.publish(t)
	k.toOther(t)
	ctx, end := context.WithCancel(t.Context())
	k.Audit = hook(func(audit.Event) { end() })
	k.again(func(*held) bool { return true })
	k.renew(ctx)
	k.renewals.Wait()
	if ctx.Err() == nil {
		t.Fatal("the test proves nothing: nothing was renewed")
	}
	if !strings.Contains(k.shared(t), "[dev]") {
		t.Fatal("the test proves nothing: it was not published")
	}
	next := keeper(t, dir)
	next.adopt()
	if err := next.Logout("other"); err != nil {
		t.Fatal(err)
	}
	if text := next.shared(t); text != "" {
		t.Errorf("logged out, but the file is %q", text)
	}
}

// TestLogoutFindsTheOldSource: while the session of a new source cannot be written, a logout of the old source
// removes the old session.
func TestLogoutFindsTheOldSource(t *testing.T) {
	k := keeper(t, t.TempDir())
	k.publish(t)
	k.toOther(t)
	if err := os.Chmod(k.Files.Credentials, 0o400); err != nil {
		t.Fatal(err)
	}
	k.again(func(*held) bool { return true })
	k.renew(t.Context())
	k.renewals.Wait()
	if err := os.Chmod(k.Files.Credentials, 0o600); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(k.shared(t), "[dev]") {
		t.Fatal("the test proves nothing: it is gone")
	}
	if err := k.Logout("security"); err != nil {
		t.Fatal(err)
	}
	if text := k.shared(t); text != "" {
		t.Errorf("logged out, but the file is %q", text)
	}
}

// TestEndpointOfANewSource: an endpoint that answered with a session of another source is shut by a logout of that
// source.
func TestEndpointOfANewSource(t *testing.T) {
	k := keeper(t, t.TempDir())
	h := &held{Grant: endpoint(t)}
	h.Sources = []string{"security"}
	if err := k.add(h); err != nil {
		t.Fatal(err)
	}
	ask := func() int {
		r := httptest.NewRequest(http.MethodGet, h.path(), nil)
		r.Host, r.RequestURI = h.host(), h.path()
		r.Header.Set("Authorization", "x")
		w := httptest.NewRecorder()
		k.endpoints.ServeHTTP(w, r)
		return w.Code
	}
	k.toOther(t)
	if code := ask(); code != http.StatusOK {
		t.Fatalf("the test proves nothing: %d", code)
	}
	if err := k.Logout("other"); err != nil {
		t.Fatal(err)
	}
	if code := ask(); code != http.StatusForbidden {
		t.Errorf("logged out, but it answers %d", code)
	}
}
