package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/wire"
)

// aLogin returns a login whose pauses take no time, and the output.
func aLogin(stdin string, source profiles.Source) (*pageLogin, *bytes.Buffer) {
	out := new(bytes.Buffer)
	p := newProgram(strings.NewReader(stdin), out, io.Discard)
	p.pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return &pageLogin{program: p, name: source.Name, source: source, elsewhere: true, patience: pagePatience}, out
}

var aPortal = profiles.Source{Name: "my-sso", Kind: profiles.Portal, StartURL: "https://my.awsapps.com/start"}

// TestDeviceLoginGoesOn: a login goes on while nobody has confirmed, with the time that each answer says, and while the
// network fails. It ends with any other failure.
func TestDeviceLoginGoesOn(t *testing.T) {
	l, out := aLogin("", aPortal)
	var waited []time.Duration
	l.pause = func(_ context.Context, d time.Duration) error {
		waited = append(waited, d)
		return nil
	}
	page := wire.Page{URL: "https://my.awsapps.com/start/#/device", UserCode: "ABCD-EFGH", Interval: 2 * time.Second,
		Proof: secret.New("proof")}
	l.begin = func(_ context.Context, redirect string) (wire.Page, error) {
		if redirect != "" {
			t.Errorf("asked for a page with the redirect %q", redirect)
		}
		return page, nil
	}
	asked := 0
	l.finish = func(_ context.Context, p wire.Page, code secret.String) (*wire.Page, error) {
		asked++
		if p.Proof.Reveal() != "proof" || !code.IsZero() {
			t.Errorf("finished %+v", p)
		}
		switch asked {
		case 1:
			return &p, nil
		case 2:
			p.Interval += 5 * time.Second
			return &p, nil
		case 3:
			return nil, fault.New(fault.Network, "no route")
		}
		return nil, nil
	}
	if err := l.run(t.Context()); err != nil || fmt.Sprint(waited) != "[2s 2s 7s 7s]" {
		t.Errorf("waited %v, %v", waited, err)
	}
	for _, want := range []string{"portal my.awsapps.com", page.URL + "\n", "compare the code ABCD-EFGH"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q: %s", want, out)
		}
	}
	page.Interval, waited = 0, nil
	l.finish = func(context.Context, wire.Page, secret.String) (*wire.Page, error) {
		return nil, fault.New(fault.Denied, "access_denied")
	}
	if err := l.run(t.Context()); !fault.Is(err, fault.Denied) || fmt.Sprint(waited) != "[1s]" {
		t.Errorf("waited %v, %v", waited, err)
	}
	page.Expires = time.Now().Add(-time.Second)
	if err := l.run(t.Context()); !fault.Is(err, fault.LoginNeeded) || fault.Of(err).Hint != "broker login my-sso" {
		t.Errorf("an expired code: %v", err)
	}
}

// TestLoginNamesTheAccount: a login for a profile says which account and permission set it is for.
func TestLoginNamesTheAccount(t *testing.T) {
	registry := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(registry, []byte("[sso-session my-sso]\n"+
		"sso_start_url = https://my.awsapps.com/start\nsso_region = eu-west-1\n"+
		"[profile dev]\nsso_session = my-sso\nsso_account_id = 111122223333\nsso_role_name = Admin\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := new(profiles.Store).Load(profiles.Files{Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"my-sso": "my-sso: log in, at the portal my.awsapps.com\nhttps://page\n",
		"dev":    "my-sso: log in, at the portal my.awsapps.com, for Admin in account 111122223333\nhttps://page\n",
	} {
		out := new(bytes.Buffer)
		l, err := newProgram(strings.NewReader(""), out, io.Discard).newPageLogin(set, name, aPortal, pageOptions{device: true})
		if err != nil {
			t.Fatal(err)
		}
		if l.explain("log in", wire.Page{URL: "https://page"}); out.String() != want {
			t.Errorf("%s: %s", name, out)
		}
	}
}

func TestRemoteLoginReadsTheText(t *testing.T) {
	text := base64.StdEncoding.EncodeToString([]byte("state=own&code=right"))
	for name, tt := range map[string]struct{ text, want string }{
		"as shown":      {text + "\n", "right"},
		"in two lines":  {text[:10] + "\r\n" + text[10:], "right"},
		"without =":     {strings.TrimRight(text, "="), "right"},
		"plain":         {"state=own&code=right", "right"},
		"another login": {base64.StdEncoding.EncodeToString([]byte("state=other&code=right")), "another login"},
		"no state":      {base64.StdEncoding.EncodeToString([]byte("code=right")), "another login"},
		"no code":       {base64.StdEncoding.EncodeToString([]byte("state=own")), "not the text"},
		"nonsense":      {"right%zz", "not the text"},
	} {
		l, _ := aLogin(tt.text, profiles.Source{Name: "paul", Kind: profiles.ConsoleLogin,
			ARN: "arn:aws:iam::111122223333:user/paul"})
		l.begin = func(context.Context, string) (wire.Page, error) {
			return wire.Page{URL: "https://x", State: "own"}, nil
		}
		got := ""
		l.finish = func(_ context.Context, _ wire.Page, code secret.String) (*wire.Page, error) {
			got = code.Reveal()
			return nil, nil
		}
		if err := l.run(t.Context()); err != nil {
			got = err.Error()
			if !fault.Is(err, fault.Usage) || strings.Contains(got, "right") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// TestBrowserLoginOutlastsItsBrowser: a browser that cannot be run does not end the login, because the person can open
// the address. A page that leads back before the browser is done counts.
func TestBrowserLoginOutlastsItsBrowser(t *testing.T) {
	l, out := aLogin("", aPortal)
	l.elsewhere, l.browser.Words = false, []string{"no-such-browser"}
	l.begin = func(_ context.Context, redirect string) (wire.Page, error) {
		go func() {
			for _, query := range []string{"state=stale&code=wrong", "state=own&code=right"} {
				if resp, err := http.Get(redirect + "?" + query); err == nil {
					_ = resp.Body.Close()
				}
			}
		}()
		if u, err := url.Parse(redirect); err != nil || u.Hostname() != "127.0.0.1" || u.Path != "/oauth/callback" {
			t.Errorf("the redirect is %q", redirect)
		}
		return wire.Page{URL: "https://oidc.example.com/authorize", State: "own"}, nil
	}
	var got []string
	l.finish = func(_ context.Context, _ wire.Page, code secret.String) (*wire.Page, error) {
		got = append(got, code.Reveal())
		return nil, nil
	}
	if err := l.run(t.Context()); err != nil || fmt.Sprint(got) != "[right]" ||
		!strings.Contains(out.String(), "\nhttps://oidc.example.com/authorize\n") {
		t.Errorf("finished with %q, %v: %s", got, err, out)
	}
}

// TestBrowserThatNeverComesBack: a login ends after its time, with the command to try again, whether the page was never
// opened or the person does not go on.
func TestBrowserThatNeverComesBack(t *testing.T) {
	for name, elsewhere := range map[string]bool{"browser": false, "device": true} {
		l, _ := aLogin("", aPortal)
		l.elsewhere, l.patience, l.browser.Words = elsewhere, 20*time.Millisecond, []string{"no-such-browser"}
		l.pause = func(ctx context.Context, _ time.Duration) error {
			<-ctx.Done()
			return ctx.Err()
		}
		l.begin = func(context.Context, string) (wire.Page, error) {
			return wire.Page{URL: "https://oidc.example.com/authorize", State: "own"}, nil
		}
		l.finish = func(context.Context, wire.Page, secret.String) (*wire.Page, error) {
			t.Errorf("%s: the login was finished", name)
			return nil, nil
		}
		err := l.run(t.Context())
		if !fault.Is(err, fault.LoginNeeded) || fault.Of(err).Hint != "broker login my-sso" ||
			!strings.Contains(err.Error(), "nobody logged in to my-sso within") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBrowserHere(t *testing.T) {
	for _, name := range []string{"SSH_CONNECTION", "SSH_TTY", "WSL_DISTRO_NAME", "WSL_INTEROP", "DISPLAY", "WAYLAND_DISPLAY"} {
		t.Setenv(name, "")
	}
	t.Setenv("DISPLAY", ":0")
	if isRemote() || !hasDisplay() {
		t.Error("a display is not used")
	}
	for _, name := range []string{"SSH_CONNECTION", "SSH_TTY", "WSL_DISTRO_NAME", "WSL_INTEROP"} {
		t.Setenv(name, "x")
		if !isRemote() {
			t.Errorf("%s is ignored", name)
		}
		t.Setenv(name, "")
	}
}
