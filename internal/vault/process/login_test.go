package process

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/vault"
)

// pageAWS plays IAM Identity Center and the sign-in service. Each refresh makes another refresh token, and the one
// before it is dead then.
type pageAWS struct {
	sts
	mu      sync.Mutex
	life    time.Duration // of access tokens
	issued  int           // number of the last token
	refresh string        // the refresh token that works
	clients map[string]bool
	pending int // how often a device code is not confirmed yet
	arn     string
	fails   error // of CreateToken and CreateConsoleToken
	badOnce bool  // one client is not known
	noRefr  bool  // no refresh tokens
	calls   []string
	ended   []string // access tokens
	endedAt string   // the endpoint of the last one
	during  func()   // called in a refresh
}

func newPageAWS() *pageAWS {
	return &pageAWS{life: time.Hour, clients: map[string]bool{}, arn: testARN}
}

const testARN = "arn:aws:iam::111122223333:user/paul"

func (a *pageAWS) count(call string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, c := range a.calls {
		if strings.HasPrefix(c, call) {
			n++
		}
	}
	return n
}

func (a *pageAWS) RegisterClient(
	_ context.Context, e profiles.Endpoint, start string, scopes []string, device bool,
) (exchange.Registration, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, fmt.Sprintf("register %s %s %s %v", e.Region, start, scopes, device))
	id := fmt.Sprintf("client-%d-%v", len(a.calls), device)
	a.clients[id] = true
	return exchange.Registration{ID: id, Secret: secret.New("CLIENTSECRET-" + id),
		Expires: time.Now().Add(90 * 24 * time.Hour)}, nil
}

func (a *pageAWS) knows(reg exchange.Registration) error {
	if a.badOnce || !a.clients[reg.ID] || reg.Secret.Reveal() != "CLIENTSECRET-"+reg.ID {
		a.badOnce = false
		return &fault.Error{Kind: fault.LoginNeeded, Message: "unknown client", Err: exchange.ErrBadRegistration}
	}
	return nil
}

func (a *pageAWS) StartDevice(
	_ context.Context, _ profiles.Endpoint, reg exchange.Registration, _ string,
) (exchange.DeviceGrant, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, "device")
	if err := a.knows(reg); err != nil {
		return exchange.DeviceGrant{}, err
	}
	if !strings.HasSuffix(reg.ID, "true") {
		return exchange.DeviceGrant{}, errors.New("a client of the other flow")
	}
	return exchange.DeviceGrant{DeviceCode: secret.New("DEVICECODE"), UserCode: "ABCD-EFGH", URL: "https://example.com/d",
		Expires: time.Now().Add(10 * time.Minute), Interval: time.Second}, nil
}

func (a *pageAWS) AuthorizeURL(
	e profiles.Endpoint, reg exchange.Registration, redirect, state, challenge string, scopes []string,
) (string, error) {
	return "https://oidc/authorize?" + url.Values{"client_id": {reg.ID}, "redirect_uri": {redirect}, "state": {state},
		"code_challenge": {challenge}, "scopes": scopes}.Encode(), nil
}

// next makes tokens for a grant.
func (a *pageAWS) next(g exchange.TokenGrant) (access, refresh string, err error) {
	if a.fails != nil {
		return "", "", a.fails
	}
	switch {
	case !g.Refresh.IsZero():
		a.calls = append(a.calls, "refresh")
		if a.during != nil {
			a.during()
		}
		if g.Refresh.Reveal() != a.refresh {
			return "", "", fault.New(fault.LoginNeeded, "the session has ended")
		}
	case !g.Device.IsZero():
		a.calls = append(a.calls, "ask")
		if g.Device.Reveal() != "DEVICECODE" {
			return "", "", errors.New("another device code")
		}
		if a.pending--; a.pending >= 0 {
			return "", "", &fault.Error{Kind: fault.LoginNeeded, Message: "not yet", Err: session.ErrPending}
		}
	default:
		a.calls = append(a.calls, "code "+g.Redirect)
		sum := sha256.Sum256([]byte(g.Verifier.Reveal()))
		if challenge := base64.RawURLEncoding.EncodeToString(sum[:]); g.Code.Reveal() != "CODE"+challenge {
			return "", "", fault.New(fault.LoginNeeded, "another verifier: %s", g.Verifier.Reveal())
		}
	}
	a.issued++
	access = fmt.Sprintf("ACCESSTOKEN-%d", a.issued)
	if !a.noRefr {
		refresh = fmt.Sprintf("REFRESHTOKEN-%d", a.issued)
		a.refresh = refresh
	}
	return access, refresh, nil
}

func (a *pageAWS) CreateToken(
	_ context.Context, _ profiles.Endpoint, reg exchange.Registration, g exchange.TokenGrant,
) (exchange.Token, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.knows(reg); err != nil {
		return exchange.Token{}, err
	}
	access, refresh, err := a.next(g)
	if err != nil {
		return exchange.Token{}, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	return exchange.Token{Access: secret.New(access), Refresh: secret.New(refresh), Issued: now,
		Expires: now.Add(a.life)}, nil
}

func (a *pageAWS) EndPortal(_ context.Context, e profiles.Endpoint, access secret.String) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended, a.endedAt = append(a.ended, access.Reveal()), e.URL
	return a.fails
}

func (a *pageAWS) ConsoleRedirect(profiles.Endpoint) (string, error) {
	return "https://signin.example/v1/sessions/confirmation", nil
}

func (a *pageAWS) ConsoleAuthorizeURL(_ profiles.Endpoint, client, redirect, state, challenge string) (string, error) {
	return "https://signin.example/v1/authorize?" + url.Values{"client_id": {client}, "redirect_uri": {redirect},
		"state": {state}, "code_challenge": {challenge}}.Encode(), nil
}

func (a *pageAWS) CreateConsoleToken(
	_ context.Context, e profiles.Endpoint, key *ecdsa.PrivateKey, client string, g exchange.TokenGrant,
) (exchange.ConsoleToken, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if key == nil || client == "" || e.Region != "eu-west-1" {
		return exchange.ConsoleToken{}, errors.New("a part is missing")
	}
	access, refresh, err := a.next(g)
	if err != nil {
		return exchange.ConsoleToken{}, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	t := exchange.ConsoleToken{Refresh: secret.New(refresh), Credentials: session.Credentials{AccessKeyID: "ASIACONSOLE",
		SecretAccessKey: secret.New("CONSOLESECRET-" + access), SessionToken: secret.New(access), Issued: now,
		Expires: now.Add(15 * time.Minute)}}
	if g.Refresh.IsZero() {
		t.Credentials.Subject = a.arn
	}
	return t, nil
}

func (a *pageAWS) Identity(_ context.Context, keys exchange.Keys, _ profiles.Endpoint) (exchange.Identity, error) {
	if keys.Token.IsZero() || keys.Secret.IsZero() {
		return exchange.Identity{}, errors.New("a part is missing")
	}
	return exchange.Identity{ARN: a.arn}, nil
}

func (a *pageAWS) ServerOffset() time.Duration { return 0 }

// pageWorld is a keyring in which people log in to one source.
type pageWorld struct {
	*testing.T
	aws  *pageAWS
	ring ring
	page vault.Page
	at   profiles.Endpoint
	name string
	told bytes.Buffer
	home string
	// answers has every answer that left the vault process.
	answers  []string
	registry string
}

const testStart = "https://my.awsapps.com/start"

func newPageWorld(t *testing.T, kind profiles.Kind) *pageWorld {
	w := &pageWorld{T: t, aws: newPageAWS(), ring: &lossyRing{items: map[string][]byte{}}, name: "my-sso",
		at: profiles.Endpoint{Region: "eu-west-1"}, home: t.TempDir(), registry: homeRegistry()}
	w.page = vault.Page{Kind: kind, StartURL: testStart, Scopes: []string{profiles.AccountScope}}
	if kind == profiles.ConsoleLogin {
		w.page, w.name = vault.Page{Kind: kind, ARN: testARN}, "paul"
	}
	t.Setenv("HOME", w.home)
	return w
}

// errand returns a request in progress.
func (w *pageWorld) errand(op vault.Operation) *errand {
	page := w.page
	q := &request{Op: op, Source: w.name, Endpoint: w.at, Page: &page, Registry: w.registry, StateDir: w.TempDir()}
	if op == vault.OpOpen {
		call := session.Call{Operation: session.CreateToken, Endpoint: w.at}
		if page.Kind == profiles.ConsoleLogin {
			call.Operation = session.CreateOAuth2Token
		}
		q.Call, q.Endpoint = &call, profiles.Endpoint{}
	}
	return &errand{request: q, sts: w.aws, notices: &w.told}
}

// do runs a request, and notes the answer.
func (w *pageWorld) do(e *errand) (*answer, error) {
	e.hide = secretsOf(e.request)
	var a *answer
	var err error
	switch e.Op {
	case vault.OpBeginLogin:
		a, err = e.beginLogin(w.Context(), w.ring)
	case vault.OpFinishLogin:
		a, err = e.finishLogin(w.Context(), w.ring)
	case vault.OpEndLogin:
		a, err = e.endLogin(w.Context(), w.ring)
	case vault.OpLogins:
		a, err = e.logins(w.Context(), w.ring)
	case vault.OpDrop:
		a, err = e.drop(w.Context(), w.ring)
	case vault.OpRemove:
		a, err = e.remove(w.Context(), w.ring)
	default:
		a, err = e.open(w.Context(), w.ring)
	}
	sent := a
	if err != nil {
		sent = failed(err, e.hide)
	}
	text, jsonErr := json.Marshal(sent)
	must(w.T, jsonErr)
	w.answers = append(w.answers, string(text))
	return a, err
}

func (w *pageWorld) begin(redirect string) *vault.Page {
	w.Helper()
	e := w.errand(vault.OpBeginLogin)
	e.Page.Redirect = redirect
	a, err := w.do(e)
	must(w.T, err)
	return a.Page
}

// finish ends a login as the redirect of its page would.
func (w *pageWorld) finish(p *vault.Page) (*answer, error) {
	w.Helper()
	e := w.errand(vault.OpFinishLogin)
	e.Page.Redirect, e.Page.Proof, e.Page.State = p.Redirect, p.Proof, p.State
	if p.UserCode == "" {
		at, err := url.Parse(p.URL)
		must(w.T, err)
		e.Code = "CODE" + at.Query().Get("code_challenge")
	}
	return w.do(e)
}

func (w *pageWorld) login() {
	w.Helper()
	_, err := w.finish(w.begin(testRedirect))
	must(w.T, err)
}

const testRedirect = "http://127.0.0.1:49152/oauth/callback"

func (w *pageWorld) open() (*vault.Credentials, error) {
	w.Helper()
	a, err := w.do(w.errand(vault.OpOpen))
	if err != nil {
		return nil, err
	}
	return a.Credentials, nil
}

// wantToken fails the test unless Open returns a token.
func (w *pageWorld) wantToken(want string) {
	w.Helper()
	c, err := w.open()
	if err != nil || c.SessionToken != want {
		w.Errorf("got %+v, %v; want %s", c, err, want)
	}
}

// wantLogin fails the test unless Open says that a person has to log in.
func (w *pageWorld) wantLogin() {
	w.Helper()
	_, err := w.open()
	if f := fault.Of(err); !fault.Is(err, fault.LoginNeeded) || f.Hint != fault.Hintf("broker login %s", w.name) {
		w.Errorf("got %v", err)
	}
}

func (w *pageWorld) read() login {
	w.Helper()
	data, err := w.ring.get(w.Context(), loginKey(w.name))
	must(w.T, err)
	l, err := decodeLogin(data)
	must(w.T, err)
	return l
}

func (w *pageWorld) write(l login) {
	w.Helper()
	data, err := encodeLogin(l)
	must(w.T, err)
	must(w.T, w.ring.set(w.Context(), loginKey(w.name), "", data))
}

// age sets how much of the life of the access token is left.
func (w *pageWorld) age(left time.Duration) {
	w.Helper()
	l := w.read()
	life := l.Access.Expires.Sub(l.Access.Issued)
	l.Access.Expires = time.Now().Add(left).UTC().Truncate(time.Second)
	l.Access.Issued = l.Access.Expires.Add(-life)
	w.write(l)
}

// TestPortalLoginByRedirect: the page has the challenge of the proof, and a state that nobody can guess. The token
// that is returned has an id, and no secret key.
func TestPortalLoginByRedirect(t *testing.T) {
	w := newPageWorld(t, profiles.Portal)
	w.wantLogin()
	p := w.begin(testRedirect)
	sum := sha256.Sum256([]byte(p.Proof))
	at, err := url.Parse(p.URL)
	must(t, err)
	q := at.Query()
	if len(p.Proof) != 52 || q.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) ||
		len(p.State) != 26 || q.Get("state") != p.State || p.Redirect != testRedirect || p.UserCode != "" ||
		q.Get("scopes") != profiles.AccountScope {
		t.Errorf("the page is %+v", p)
	}
	a, err := w.finish(p)
	if err != nil || !a.Until.IsZero() || a.Identity != nil {
		t.Errorf("finish: %+v, %v", a, err)
	}
	c, err := w.open()
	if err != nil || c.SessionToken != "ACCESSTOKEN-1" || c.SecretAccessKey != "" ||
		!regexp.MustCompile(`^sso-[0-9a-f]{16}$`).MatchString(c.AccessKeyID) {
		t.Errorf("open: %+v, %v", c, err)
	}
	if n := w.aws.count("refresh"); n != 0 {
		t.Errorf("%d refreshes", n)
	}
	if p2 := w.begin(testRedirect); p2.Proof == p.Proof || p2.State == p.State {
		t.Error("the next page has the same proof or state")
	}
	if n := w.aws.count("register"); n != 1 {
		t.Errorf("%d registrations", n)
	}
}

// TestPortalLoginByDevice: each flow has its own client, and the caller is told to ask again.
func TestPortalLoginByDevice(t *testing.T) {
	w := newPageWorld(t, profiles.Portal)
	w.page.Scopes = []string{"sso:account:access", "codewhisperer:completions"}
	w.begin(testRedirect)
	w.aws.pending = 1
	p := w.begin("")
	if p.UserCode != "ABCD-EFGH" || p.IntervalMS != 1000 || p.Redirect != "" {
		t.Errorf("the page is %+v", p)
	}
	if _, err := w.finish(p); !errors.Is(err, session.ErrPending) || vault.ReasonOf(err) != "pending" {
		t.Errorf("before the person confirmed: %v", err)
	}
	w.aws.noRefr = true
	a, err := w.finish(p)
	if err != nil || a.Until.Before(time.Now().Add(59*time.Minute)) {
		t.Errorf("finish: %+v, %v", a, err)
	}
	w.wantToken("ACCESSTOKEN-1")
	want := []string{
		"register eu-west-1 " + testStart + " [sso:account:access codewhisperer:completions] false",
		"register eu-west-1 " + testStart + " [sso:account:access codewhisperer:completions] true",
	}
	got := slices.DeleteFunc(w.aws.calls, func(c string) bool { return !strings.HasPrefix(c, "register") })
	if !slices.Equal(got, want) {
		t.Errorf("registered %q", got)
	}
}

// TestTwoLoginsAtOnce: both ends work, in any order, and the last one counts.
func TestTwoLoginsAtOnce(t *testing.T) {
	for _, kind := range []profiles.Kind{profiles.Portal, profiles.ConsoleLogin} {
		w := newPageWorld(t, kind)
		first, second := w.begin(testRedirect), w.begin("http://127.0.0.1:49153/oauth/callback")
		for _, p := range []*vault.Page{second, first} {
			_, err := w.finish(p)
			must(t, err)
		}
		w.wantToken("ACCESSTOKEN-2")
		mixed := &vault.Page{URL: first.URL, Redirect: testRedirect, Proof: second.Proof}
		if _, err := w.finish(mixed); !fault.Is(err, fault.LoginNeeded) {
			t.Errorf("the proof of another login: %v", err)
		}
	}
}

// TestBeginLoginRefuses: nothing is sent for a page that is not plausible, or that leads elsewhere.
func TestBeginLoginRefuses(t *testing.T) {
	for name, change := range map[string]func(p *vault.Page){
		"http":           func(p *vault.Page) { p.StartURL = "http://my.awsapps.com/start" },
		"no URL":         func(p *vault.Page) { p.StartURL = "" },
		"user":           func(p *vault.Page) { p.StartURL = "https://x@my.awsapps.com/start" },
		"new line":       func(p *vault.Page) { p.StartURL = testStart + "\n" },
		"long":           func(p *vault.Page) { p.StartURL = testStart + strings.Repeat("x", 2048) },
		"scope":          func(p *vault.Page) { p.Scopes = []string{"a b"} },
		"scopes":         func(p *vault.Page) { p.Scopes = make([]string, 21) },
		"kind":           func(p *vault.Page) { p.Kind = profiles.WebIdentity },
		"all interfaces": func(p *vault.Page) { p.Redirect = "http://0.0.0.0:1/oauth/callback" },
		"elsewhere":      func(p *vault.Page) { p.Redirect = "https://evil.example/oauth/callback" },
		"name":           func(p *vault.Page) { p.Redirect = "http://127.0.0.1:1@evil.example:1/oauth/callback" },
		"no port":        func(p *vault.Page) { p.Redirect = "http://127.0.0.1/oauth/callback" },
		"port 0":         func(p *vault.Page) { p.Redirect = "http://127.0.0.1:0/oauth/callback" },
		"port +1":        func(p *vault.Page) { p.Redirect = "http://127.0.0.1:+1/oauth/callback" },
		"port 70000":     func(p *vault.Page) { p.Redirect = "http://127.0.0.1:70000/oauth/callback" },
		"path":           func(p *vault.Page) { p.Redirect = "http://127.0.0.1:1/oauth/callback?x" },
		"console page":   func(p *vault.Page) { p.Redirect = "https://signin.example/v1/sessions/confirmation" },
		"ARN":            func(p *vault.Page) { p.Kind, p.ARN = profiles.ConsoleLogin, "paul" },
		"console to elsewhere": func(p *vault.Page) {
			p.Kind, p.Redirect = profiles.ConsoleLogin, "https://evil.example/v1/sessions/confirmation"
		},
	} {
		for _, op := range []vault.Operation{vault.OpBeginLogin, vault.OpFinishLogin} {
			w := newPageWorld(t, profiles.Portal)
			e := w.errand(op)
			e.Page.Redirect = testRedirect
			change(e.Page)
			if _, err := w.do(e); err == nil || len(w.aws.calls) > 0 {
				t.Errorf("%s, %s: %v, calls %q", op, name, err, w.aws.calls)
			}
		}
	}
	w := newPageWorld(t, profiles.Portal)
	e := w.errand(vault.OpOpen)
	e.Call.Operation = session.GetSessionToken
	if _, err := w.do(e); !fault.Is(err, fault.Internal) {
		t.Errorf("another call: %v", err)
	}
}

// TestForgottenRegistration: a client that AWS does not know is registered again, once by itself if no page is open
// yet, and by the next login otherwise.
func TestForgottenRegistration(t *testing.T) {
	w := newPageWorld(t, profiles.Portal)
	w.begin("")
	w.aws.badOnce = true
	p := w.begin("")
	if n := w.aws.count("register"); n != 2 {
		t.Errorf("%d registrations, want 2", n)
	}
	w.aws.badOnce = true
	if _, err := w.finish(p); !fault.Is(err, fault.LoginNeeded) || errors.Is(err, session.ErrPending) ||
		!strings.Contains(err.Error(), "log in again") {
		t.Errorf("finish: %v", err)
	}
	if _, err := w.finish(p); !fault.Is(err, fault.LoginNeeded) {
		t.Errorf("finish without a client: %v", err)
	}
	_, err := w.finish(w.begin(""))
	must(t, err)
	// One that ends soon is not used.
	l := w.read()
	reg := l.Clients[byDevice]
	reg.Expires = time.Now().Add(14 * time.Minute)
	l.Clients[byDevice] = reg
	w.write(l)
	w.begin("")
	if n := w.aws.count("register"); n != 4 {
		t.Errorf("%d registrations, want 4", n)
	}
	// Other scopes need another client. The tokens of the old one still work.
	w.page.Scopes = []string{"other"}
	w.begin("")
	if n := w.aws.count("register"); n != 5 {
		t.Errorf("%d registrations, want 5", n)
	}
	w.age(time.Minute)
	w.wantToken("ACCESSTOKEN-2")
}

// TestAccessMargins: a token is returned as long as package session would not ask for a newer one.
func TestAccessMargins(t *testing.T) {
	for _, tc := range []struct {
		kind       profiles.Kind
		life, left time.Duration
		refresh    bool
	}{
		{profiles.Portal, time.Hour, 25 * time.Minute, false},
		{profiles.Portal, time.Hour, 23 * time.Minute, true},
		{profiles.Portal, 8 * time.Hour, 64 * time.Minute, false},
		{profiles.Portal, 8 * time.Hour, 62 * time.Minute, true},
		{profiles.Portal, 10 * time.Minute, 8 * time.Minute, false},
		{profiles.Portal, 10 * time.Minute, 7 * time.Minute, true},
		{profiles.ConsoleLogin, 15 * time.Minute, 8 * time.Minute, false},
		{profiles.ConsoleLogin, 15 * time.Minute, 7 * time.Minute, true},
	} {
		w := newPageWorld(t, tc.kind)
		w.aws.life = tc.life
		w.login()
		w.age(tc.left)
		c, err := w.open()
		must(t, err)
		if got := w.aws.count("refresh") == 1; got != tc.refresh {
			t.Errorf("%+v: refreshed %v", tc, got)
		}
		if !tc.refresh && time.Since(c.Issued) > time.Minute {
			t.Errorf("%+v: issued at %v", tc, c.Issued)
		}
		life := c.Expires.Sub(c.Issued)
		if asksAgain := min(20*time.Minute, life/3) + life/30; !tc.refresh && life <= asksAgain+time.Second {
			t.Errorf("%+v: package session asks again at once", tc)
		}
	}
}

// TestAccessRefreshFails: a token that lives serves to its end, and a dead refresh token is not sent again.
func TestAccessRefreshFails(t *testing.T) {
	for _, kind := range []profiles.Kind{profiles.Portal, profiles.ConsoleLogin} {
		w := newPageWorld(t, kind)
		w.login()
		w.age(5 * time.Minute)
		w.aws.fails = fault.New(fault.Network, "AWS cannot be reached")
		w.wantToken("ACCESSTOKEN-1")
		w.age(30 * time.Second)
		if _, err := w.open(); !fault.Is(err, fault.Network) {
			t.Errorf("without a token that lives: %v", err)
		}
		w.aws.fails = nil
		w.wantToken("ACCESSTOKEN-2")
		w.age(5 * time.Minute)
		w.aws.refresh = "another program has rotated it"
		w.wantToken("ACCESSTOKEN-2")
		n := w.aws.count("refresh")
		w.wantToken("ACCESSTOKEN-2")
		w.age(30 * time.Second)
		w.wantLogin()
		w.wantLogin()
		if again := w.aws.count("refresh"); again != n {
			t.Errorf("the dead refresh token was sent %d times more", again-n)
		}
		if l := w.read(); !l.Refresh.IsZero() {
			t.Error("the dead refresh token is kept")
		}
		w.login()
		w.wantToken("ACCESSTOKEN-3")
	}
}

// TestAccessAfterAnotherLock: a program with another lock may refresh between reading and the call.
func TestAccessAfterAnotherLock(t *testing.T) {
	w := newPageWorld(t, profiles.Portal)
	w.login()
	w.age(time.Minute)
	w.aws.during = func() {
		w.aws.during = nil
		l := w.read()
		l.Refresh = secret.New("REFRESHTOKEN-theirs")
		w.write(l)
		w.aws.refresh = "REFRESHTOKEN-theirs"
	}
	w.wantToken("ACCESSTOKEN-2")
}

// TestDropForgetsTheAccessToken: the next Open refreshes. Drop of a source without a login still works.
func TestDropForgetsTheAccessToken(t *testing.T) {
	w := newPageWorld(t, profiles.Portal)
	drop := func() {
		t.Helper()
		_, err := w.do(w.errand(vault.OpDrop))
		must(t, err)
	}
	drop()
	w.login()
	drop()
	drop()
	w.wantToken("ACCESSTOKEN-2")
	w.aws.noRefr = true
	w.login()
	drop()
	w.wantLogin()
	must(t, w.ring.set(t.Context(), loginKey(w.name), "", []byte("{")))
	drop()
}

// TestRefreshIsStoredFirst: the new refresh token is in the keyring before the answer. If the keyring does not keep
// it, the person is told that the login is lost.
func TestRefreshIsStoredFirst(t *testing.T) {
	w := newPageWorld(t, profiles.Portal)
	w.login()
	w.age(time.Minute)
	w.wantToken("ACCESSTOKEN-2")
	if got := w.read().Refresh.Reveal(); got != "REFRESHTOKEN-2" {
		t.Errorf("stored %s", got)
	}
	w.age(time.Minute)
	w.ring.(*lossyRing).spoil = func(b []byte) []byte { return []byte("{}") }
	before := w.ring.(*lossyRing).items[loginKey(w.name)]
	w.wantToken("ACCESSTOKEN-3")
	if told := w.told.String(); !strings.Contains(told, "the login of my-sso is lost at its next refresh") ||
		strings.Contains(told, "TOKEN-") {
		t.Errorf("told %q", told)
	}
	// A process that is killed between the refresh and its storing leaves the old token, which is dead.
	w.ring.(*lossyRing).items[loginKey(w.name)] = before
	w.age(30 * time.Second)
	w.wantLogin()
}

// TestNoRefreshWithoutTime: a refresh that the deadline would cut is not begun.
func TestNoRefreshWithoutTime(t *testing.T) {
	w := newPageWorld(t, profiles.Portal)
	w.login()
	w.age(30 * time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), refreshTime-time.Second)
	defer cancel()
	if _, err := w.errand(vault.OpOpen).open(ctx, w.ring); !fault.Is(err, fault.Keyring) || w.aws.count("refresh") > 0 {
		t.Errorf("%v, %d refreshes", err, w.aws.count("refresh"))
	}
}

// TestTokensStayAtTheirEndpoint: tokens are not sent to another endpoint, portal or region than gave them, and not
// for another principal.
func TestTokensStayAtTheirEndpoint(t *testing.T) {
	for name, change := range map[string]func(w *pageWorld){
		"URL":       func(w *pageWorld) { w.at.URL = "https://evil.example" },
		"region":    func(w *pageWorld) { w.at.Region = "us-east-1" },
		"start URL": func(w *pageWorld) { w.page.StartURL = "https://other.awsapps.com/start" },
		"kind":      func(w *pageWorld) { w.page = vault.Page{Kind: profiles.ConsoleLogin, ARN: testARN} },
	} {
		w := newPageWorld(t, profiles.Portal)
		w.login()
		w.age(time.Minute)
		change(w)
		w.wantLogin()
		_, err := w.do(w.errand(vault.OpEndLogin))
		must(t, err)
		if w.aws.count("refresh") > 0 || len(w.aws.ended) > 0 {
			t.Errorf("%s: %q, ended %q", name, w.aws.calls, w.aws.ended)
		}
	}
	w := newPageWorld(t, profiles.ConsoleLogin)
	w.login()
	w.at.Region = "us-east-1" // of the profile; the login remembers its own
	w.age(time.Minute)
	w.wantToken("ACCESSTOKEN-2")
	w.page.ARN = "arn:aws:iam::111122223333:user/anna"
	w.wantLogin()
}

// TestConsoleSignIn: the answer says who signed in, and nobody else is stored.
func TestConsoleSignIn(t *testing.T) {
	w := newPageWorld(t, profiles.ConsoleLogin)
	w.aws.arn = "arn:aws:iam::999988887777:user/anna"
	if _, err := w.finish(w.begin(testRedirect)); !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "anna") {
		t.Errorf("somebody else: %v", err)
	}
	w.wantLogin()
	w.page.ARN = ""
	p := w.begin("")
	if p.Redirect != "https://signin.example/v1/sessions/confirmation" || !strings.Contains(p.URL, "cross-device") {
		t.Errorf("the page is %+v", p)
	}
	a, err := w.finish(p)
	if err != nil || a.Identity == nil || a.Identity.ARN != w.aws.arn || a.Identity.Account != "999988887777" ||
		time.Until(a.Until) < 11*time.Hour || time.Until(a.Until) > 12*time.Hour {
		t.Errorf("the first login: %+v, %v", a, err)
	}
	c, err := w.open()
	if err != nil || c.AccessKeyID != "ASIACONSOLE" || c.SecretAccessKey == "" || !c.LoginEnds.Equal(a.Until) {
		t.Errorf("open: %+v, %v", c, err)
	}
	if l := w.read(); l.Client.ID != exchange.ConsoleCrossDevice || l.Region != "eu-west-1" {
		t.Errorf("stored %+v", l)
	}
	key := w.read().Key.Reveal()
	w.age(time.Minute)
	w.at.Region = "us-east-1" // the region of a profile may change, that of the login does not
	w.wantToken("ACCESSTOKEN-3")
	if c, err := w.open(); err != nil || !c.LoginEnds.Equal(a.Until) {
		t.Errorf("after a refresh the login ends at %v, want %v, %v", c.LoginEnds, a.Until, err)
	}
	if w.read().Key.Reveal() != key {
		t.Error("the refresh changed the key")
	}
}

// TestEndLogin: the tokens are gone whatever AWS says, and the registered client stays.
func TestEndLogin(t *testing.T) {
	for name, tc := range map[string]struct {
		left  time.Duration
		fails error
		ended string
	}{
		"token lives": {30 * time.Minute, nil, "ACCESSTOKEN-1"},
		"refreshed":   {-time.Minute, nil, "ACCESSTOKEN-2"},
		"AWS is away": {30 * time.Minute, fault.New(fault.Network, "away"), "ACCESSTOKEN-1"},
		"all away":    {-time.Minute, fault.New(fault.Network, "away"), ""},
	} {
		w := newPageWorld(t, profiles.Portal)
		w.login()
		w.age(tc.left)
		w.aws.fails = tc.fails
		_, err := w.do(w.errand(vault.OpEndLogin))
		must(t, err)
		if got := strings.Join(w.aws.ended, " "); got != tc.ended {
			t.Errorf("%s: ended %q", name, got)
		}
		if told := strings.Contains(w.told.String(), "AWS did not end"); told != (tc.fails != nil) {
			t.Errorf("%s: told %q", name, w.told.String())
		}
		l := w.read()
		if !l.Refresh.IsZero() || !l.Access.Expires.IsZero() || l.Client.ID != "" || l.Clients[byRedirect].ID == "" {
			t.Errorf("%s: stored %+v", name, l)
		}
		w.wantLogin()
	}
	w := newPageWorld(t, profiles.ConsoleLogin)
	w.login()
	_, err := w.do(w.errand(vault.OpEndLogin))
	must(t, err)
	if items := w.ring.(*lossyRing).items; len(items) > 0 {
		t.Errorf("%d items are left", len(items))
	}
}

// TestEndLostLogin: a login that no file names any more is found by its name, and ended at AWS with what the keyring
// has of it. Another registry does not find it.
func TestEndLostLogin(t *testing.T) {
	for _, kind := range []profiles.Kind{profiles.Portal, profiles.ConsoleLogin} {
		w := newPageWorld(t, kind)
		w.at.URL = "https://sso.example.com"
		w.registry = w.home + "/own"
		must(t, os.WriteFile(w.registry, nil, 0o600))
		w.login()
		w.ring.(*lossyRing).items[loginKey("damaged")] = []byte("{}")
		names := func() string {
			a, err := w.do(w.errand(vault.OpLogins))
			must(t, err)
			return strings.Join(a.Names, " ")
		}
		if got := names(); got != w.name {
			t.Errorf("%s: found %q", kind, got)
		}
		w.registry = w.home + "/other"
		must(t, os.WriteFile(w.registry, nil, 0o600))
		if got := names(); got != "" {
			t.Errorf("%s: another registry found %q", kind, got)
		}
		w.registry = w.home + "/own"
		end := w.errand(vault.OpEndLogin)
		end.Page, end.Endpoint = nil, profiles.Endpoint{}
		_, err := w.do(end)
		must(t, err)
		want := ""
		if kind == profiles.Portal {
			want = "ACCESSTOKEN-1"
		}
		if got := strings.Join(w.aws.ended, " "); got != want || want != "" && w.aws.endedAt != w.at.URL {
			t.Errorf("%s: ended %q at %q", kind, got, w.aws.endedAt)
		}
		if got := names(); got != "" {
			t.Errorf("%s: found %q after the end", kind, got)
		}
		if text := string(w.ring.(*lossyRing).items[loginKey(w.name)]); strings.Contains(text, "TOKEN-") {
			t.Errorf("%s: stored %s", kind, text)
		}
		end = w.errand(vault.OpEndLogin)
		end.Page, end.Source = nil, "nobody"
		_, err = w.do(end)
		must(t, err)
	}
}

// TestLostLoginOfAnotherRegistry: a registry that may use the logins of another one does not end those that only the
// files of the other name.
func TestLostLoginOfAnotherRegistry(t *testing.T) {
	for _, kind := range []profiles.Kind{profiles.Portal, profiles.ConsoleLogin} {
		w := newPageWorld(t, kind)
		w.registry = w.home + "/own"
		must(t, os.WriteFile(w.registry, []byte("[settings]\nregistry = "+w.home+"/other\n"), 0o600))
		w.login()
		w.registry = w.home + "/other"
		must(t, os.WriteFile(w.registry, nil, 0o600))
		if _, err := w.open(); err != nil {
			t.Fatalf("%s: the registry may not use the login: %v", kind, err)
		}
		if a, err := w.do(w.errand(vault.OpLogins)); err != nil || len(a.Names) > 0 {
			t.Errorf("%s: found %q, %v", kind, a.Names, err)
		}
		end := w.errand(vault.OpEndLogin)
		end.Page, end.Endpoint = nil, profiles.Endpoint{}
		if _, err := w.do(end); !fault.Is(err, fault.NotConfirmed) || len(w.aws.ended) > 0 {
			t.Errorf("%s: %v, ended %q", kind, err, w.aws.ended)
		}
		w.registry = w.home + "/own"
		if _, err := w.open(); err != nil {
			t.Errorf("%s: the login is gone: %v", kind, err)
		}
		if a, err := w.do(w.errand(vault.OpLogins)); err != nil || len(a.Names) != 1 {
			t.Errorf("%s: its own registry found %q, %v", kind, a.Names, err)
		}
	}
}

// TestEndDamagedLogin: what a program of another version stored does not outlast a logout.
func TestEndDamagedLogin(t *testing.T) {
	for _, kind := range []profiles.Kind{profiles.Portal, profiles.ConsoleLogin} {
		for _, foreign := range []bool{false, true} {
			w := newPageWorld(t, kind)
			w.login()
			items := w.ring.(*lossyRing).items
			items[loginKey(w.name)] = []byte(strings.Replace(string(items[loginKey(w.name)]), `"version":1`, `"version":2`, 1))
			if foreign {
				w.foreignFile(cacheOfSession, w.foreignToken(50*time.Minute, time.RFC3339))
			}
			_, err := w.do(w.errand(vault.OpEndLogin))
			must(t, err)
			if strings.Contains(string(items[loginKey(w.name)]), "TOKEN") || !strings.Contains(w.told.String(), "did not end") {
				t.Errorf("%s: stored %q, told %q", kind, items[loginKey(w.name)], w.told.String())
			}
			w.wantLogin()
		}
	}
}

// TestRemoveDeletesTheLogin: also a damaged one, and without a key of that name.
func TestRemoveDeletesTheLogin(t *testing.T) {
	for _, damage := range []bool{false, true} {
		w := newPageWorld(t, profiles.ConsoleLogin)
		w.login()
		if damage {
			must(t, w.ring.set(t.Context(), loginKey(w.name), "", []byte("{")))
		}
		_, err := w.do(w.errand(vault.OpRemove))
		must(t, err)
		if _, err := w.do(w.errand(vault.OpRemove)); !fault.Is(err, fault.NotFound) {
			t.Errorf("again: %v", err)
		}
		w.wantLogin()
	}
}

// TestDamagedLogin: it is named and left as it is, until a person logs in again.
func TestDamagedLogin(t *testing.T) {
	w := newPageWorld(t, profiles.Portal)
	w.login()
	good := w.ring.(*lossyRing).items[loginKey(w.name)]
	for name, data := range map[string]string{
		"cut":       string(good[:len(good)/2]),
		"empty":     "",
		"newer":     strings.Replace(string(good), `"version":1`, `"version":2`, 1),
		"unknown":   strings.Replace(string(good), `{`, `{"x":1,`, 1),
		"name":      strings.Replace(string(good), `"my-sso"`, `"other"`, 1),
		"kind":      strings.Replace(string(good), `"portal"`, `"program"`, 1),
		"no client": strings.Replace(string(good), `"client":`, `"clients":{},"client":null,"x":`, 1),
		"life":      regexp.MustCompile(`"expires":"\d{4}-[^"]*","issued"`).ReplaceAllString(string(good), `"expires":"2999-01-01T00:00:00Z","issued"`),
	} {
		w.ring.(*lossyRing).items[loginKey(w.name)] = []byte(data)
		_, err := w.open()
		if f := fault.Of(err); !fault.Is(err, fault.Keyring) || f.Hint != "broker login my-sso" ||
			!strings.Contains(f.Message, loginKey(w.name)) {
			t.Errorf("%s: %v", name, err)
		}
		if got := w.ring.(*lossyRing).items[loginKey(w.name)]; string(got) != data {
			t.Errorf("%s: it was changed", name)
		}
		w.login()
		if _, err := w.open(); err != nil {
			t.Errorf("%s, after a login: %v", name, err)
		}
	}
}

// TestLoginBelongsToItsRegistry: another registry cannot use, replace, end or remove a login.
func TestLoginBelongsToItsRegistry(t *testing.T) {
	w := newPageWorld(t, profiles.Portal)
	w.registry = w.home + "/own"
	must(t, os.WriteFile(w.registry, nil, 0o600))
	w.login()
	w.age(time.Minute)
	page := w.begin(testRedirect)
	w.registry = w.home + "/other"
	must(t, os.WriteFile(w.registry, nil, 0o600))
	before := string(w.ring.(*lossyRing).items[loginKey(w.name)])
	n := len(w.aws.calls)
	refused := func(what string, err error) {
		t.Helper()
		if !fault.Is(err, fault.NotConfirmed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := w.open()
	refused("open", err)
	_, err = w.finish(page)
	refused("finish", err)
	for _, op := range []vault.Operation{vault.OpBeginLogin, vault.OpEndLogin, vault.OpRemove} {
		e := w.errand(op)
		if op == vault.OpBeginLogin {
			e.Page.Redirect = testRedirect
		}
		_, err := w.do(e)
		refused(string(op), err)
	}
	if after := string(w.ring.(*lossyRing).items[loginKey(w.name)]); after != before || len(w.aws.calls) > n {
		t.Errorf("the login was changed, or AWS was called: %q", w.aws.calls[n:])
	}
}

// TestLoginSecretsStay: no answer, failure or notice has a refresh token, the secret of a client or a DPoP key. The
// proof is in the answer of beginLogin only, and the access token in that of open.
func TestLoginSecretsStay(t *testing.T) {
	for _, kind := range []profiles.Kind{profiles.Portal, profiles.ConsoleLogin} {
		w := newPageWorld(t, kind)
		w.login()
		l := w.read()
		secrets := l.secrets()
		w.age(time.Minute)
		w.wantToken("ACCESSTOKEN-2")
		secrets = append(append(secrets, w.read().secrets()...), "PROOF-of-another")
		w.age(30 * time.Second)
		w.aws.fails = fault.New(fault.Network, "cannot send %s %s %s", w.read().Refresh.Reveal(), w.read().Key.Reveal(),
			w.read().Client.Secret.Reveal())
		_, err := w.open()
		if err == nil {
			t.Error("the refresh did not fail")
		}
		w.aws.fails = nil
		e := w.errand(vault.OpFinishLogin)
		e.Page.Redirect, e.Page.Proof, e.Code = testRedirect, "PROOF-of-another", "CODE"
		if _, err = w.do(e); err == nil {
			t.Error("a wrong proof did")
		}
		_, err = w.do(w.errand(vault.OpEndLogin))
		must(t, err)
		all := strings.Join(w.answers, "\n") + w.told.String()
		found := 0
		for _, s := range secrets {
			if s == "" {
				continue
			}
			found++
			if strings.Contains(s, "ACCESSTOKEN") {
				continue // Open returns it
			}
			if strings.Contains(all, s) {
				t.Errorf("%s: %q leaves the vault process", kind, s)
			}
		}
		if found < 4 {
			t.Errorf("%s: only %d secrets: the test proves nothing", kind, found)
		}
	}
}
