//go:build linux

package daemon

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/wire"
)

// logins are logins whose answers are known beforehand.
type logins struct {
	began   []string // the redirects
	mu      sync.Mutex
	ended   []string // the sources; several may end at once
	kept    []string // the names of LoginNames
	locked  error    // of LoginNames
	answers []error  // of FinishLogin
}

func (l *logins) BeginLogin(_ context.Context, s profiles.Source, redirect string) (session.Login, error) {
	l.began = append(l.began, s.Name+" "+redirect)
	return session.Login{URL: "https://x", Redirect: redirect, State: "s", Interval: time.Second,
		Proof: secret.New("the-proof-of-the-page")}, nil
}

func (l *logins) FinishLogin(
	_ context.Context, _ profiles.Source, login session.Login, code secret.String,
) (time.Time, error) {
	if login.Proof.Reveal() != "the-proof-of-the-page" || code.Reveal() != "the-code-of-the-page" {
		return time.Time{}, fault.New(fault.Internal, "it was given %+v", login)
	}
	err := l.answers[0]
	l.answers = l.answers[1:]
	return time.Time{}, err
}

func (l *logins) EndLogin(_ context.Context, s profiles.Source) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = append(l.ended, s.Name+" "+s.StartURL)
	return nil
}

func (l *logins) LoginNames(context.Context, string) ([]string, error) { return l.kept, l.locked }

// TestLogoutOfOtherFiles: a login that only the AWS file of a request knows is ended, also by a daemon that has
// not used it.
func TestLogoutOfOtherFiles(t *testing.T) {
	dir := t.TempDir()
	const portal = "[sso-session my-sso]\nsso_start_url = https://my.awsapps.com/start\nsso_region = eu-west-1\n"
	config := filepath.Join(dir, "config")
	if err := os.WriteFile(config, []byte(portal+"[profile admin]\nsso_session = my-sso\n"+
		"sso_account_id = 111122223333\nsso_role_name = Admin\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	store := new(profiles.Store)
	set, err := store.Load(profiles.Files{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	trust, err := set.Trust("admin")
	if err != nil {
		t.Fatal(err)
	}
	h := build(t, dir, registry+"\n[trust admin]\nsha256 = "+trust.SHA256+"\n")
	pages := &logins{}
	h.Broker = newBroker(t, h, pages)
	h.run(t)
	for _, name := range []string{"my-sso", ""} {
		pages.ended = nil
		if resp := h.ask(t, wire.Request{Verb: wire.Logout, Profile: name, AWSConfig: config}); resp.Err != nil {
			t.Errorf("%+v", resp)
		}
		if got := strings.Join(pages.ended, ", "); got != "my-sso https://my.awsapps.com/start" {
			t.Errorf("logout of %q ended %q", name, got)
		}
	}
}

// TestLogoutOfLostLogins: the names of logins that no file names may be those of another program, so they are escaped.
// Each has a line in the audit log. If the keyring is locked, nobody is told that it keeps nothing.
func TestLogoutOfLostLogins(t *testing.T) {
	dir := t.TempDir()
	h := build(t, dir, registry)
	path := filepath.Join(dir, "audit.log")
	log := audit.New(path, func(err error) { t.Error(err) })
	t.Cleanup(func() { _ = log.Close() })
	h.Audit = log
	pages := &logins{kept: []string{"old\x1b[2J\nbroker: x"}}
	h.Broker = newBroker(t, h, pages)
	h.run(t)
	resp := h.ask(t, wire.Request{Verb: wire.Logout})
	want := []string{`ended the login of old\x1b[2J broker: x, which your files do not name`}
	if resp.Err != nil || resp.Count != 1 || !slices.Equal(resp.Warnings, want) {
		t.Errorf("%+v", resp)
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), `"event":"logout"`) != 2 || !strings.Contains(string(text), `"source":"old`) {
		t.Errorf("%v: %s", err, text)
	}
	pages.kept, pages.locked = nil, fault.New(fault.KeyringLocked, "locked")
	resp = h.ask(t, wire.Request{Verb: wire.Logout})
	if resp.Err != nil || len(resp.Warnings) != 1 || !strings.Contains(resp.Warnings[0], "the keyring is locked") {
		t.Errorf("%+v", resp)
	}
}

// newBroker returns a Broker whose logins are known beforehand.
func newBroker(t *testing.T, h *house, pages *logins) *session.Broker {
	return session.New(t.Context(), session.Config{Profiles: h.Store, Vault: h.aws, Logins: pages, STS: h.aws,
		Who: session.Who{User: "paul", Host: "host"}})
}

// TestLoginOnAPage: a client gets the page, and the page again while nobody has confirmed, with the time that AWS asks
// for. The audit log has a line for the page and one for the login, without the code and the proof.
func TestLoginOnAPage(t *testing.T) {
	dir := t.TempDir()
	h := build(t, dir, registry+`
[sso-session my-sso]
sso_start_url = https://my.awsapps.com/start
sso_region = eu-west-1
`)
	path := filepath.Join(dir, "audit.log")
	log := audit.New(path, func(err error) { t.Error(err) })
	t.Cleanup(func() { _ = log.Close() })
	h.Audit = log
	pages := &logins{answers: []error{
		fault.New(fault.LoginNeeded, "%w", session.ErrPending),
		fault.New(fault.LoginNeeded, "%w", session.ErrSlowDown),
		fault.New(fault.Denied, "declined"),
		nil,
	}}
	h.Broker = newBroker(t, h, pages)
	h.run(t)
	const redirect = "http://127.0.0.1:1/oauth/callback"
	begin := wire.Request{Verb: wire.BeginLogin, Profile: "my-sso", Page: &wire.Page{Redirect: redirect}}
	resp := h.ask(t, begin)
	if resp.Err != nil || resp.Page == nil || resp.Page.Redirect != redirect || resp.Page.Proof.IsZero() {
		t.Fatalf("%+v", resp)
	}
	finish := wire.Request{Verb: wire.FinishLogin, Profile: "my-sso", Page: resp.Page,
		Code: secret.New("the-code-of-the-page")}
	if resp = h.ask(t, finish); resp.Page == nil || resp.Page.Interval != time.Second {
		t.Errorf("pending: %+v", resp)
	}
	if resp = h.ask(t, finish); resp.Page == nil || resp.Page.Interval != 6*time.Second || resp.Page.State != "s" {
		t.Errorf("asked too often: %+v", resp)
	}
	if resp = h.ask(t, finish); !refusedAs(resp, fault.Denied) {
		t.Errorf("declined: %+v", resp)
	}
	if resp = h.ask(t, finish); resp.Err != nil || resp.Page != nil || resp.Status.Sessions[0].Source != "my-sso" ||
		resp.Status.Sessions[0].Expires != nil || resp.Credential != nil {
		t.Errorf("done: %+v", resp)
	}
	if resp = h.ask(t, wire.Request{Verb: wire.BeginLogin, Profile: "security"}); !refusedAs(resp, fault.Usage) {
		t.Errorf("a page for an IAM user: %+v", resp)
	}
	if resp = h.ask(t, wire.Request{Verb: wire.Get, Profile: "my-sso"}); resp.Err == nil || resp.Credential != nil {
		t.Errorf("the token was handed out: %+v", resp)
	}
	h.ask(t, wire.Request{Verb: wire.Lock})
	refused(t, "a page while locked", h.ask(t, begin))
	refused(t, "a login while locked", h.ask(t, finish))
	if len(pages.began) != 1 || len(pages.answers) != 0 {
		t.Errorf("began %q, %d answers left", pages.began, len(pages.answers))
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for want, n := range map[string]int{`"event":"login_begun"`: 1, `"event":"login"`: 1, `"kind":"denied"`: 1,
		"the-code-of-the-page": 0, "the-proof-of-the-page": 0} {
		if got := strings.Count(string(text), want); got != n {
			t.Errorf("%s is there %d times, want %d", want, got, n)
		}
	}
}
