package process

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/partition"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/vault"
)

const (
	// spareRegistration is how long a registered client must live, so that a login with it can end. The AWS CLI keeps as
	// much to spare.
	spareRegistration = 15 * time.Minute
	// longestSignIn is how long the refresh tokens of a console login work at most.
	// https://docs.aws.amazon.com/signin/latest/userguide/command-line-sign-in.html
	longestSignIn = 12 * time.Hour
)

// checkPage refuses a request whose page cannot be of a source.
func (e *errand) checkPage() error {
	p := e.Page
	if p == nil || !p.Kind.ByPage() {
		return fault.New(fault.Internal, "the request to the vault has no page to log in on")
	}
	return profiles.Source{Kind: p.Kind, StartURL: p.StartURL, Endpoint: e.endpoint(), Scopes: p.Scopes,
		ARN: p.ARN}.CheckLogin()
}

// endpoint returns the endpoint of the request.
func (e *errand) endpoint() profiles.Endpoint {
	if e.Op == vault.OpOpen && e.Call != nil {
		return e.Call.Endpoint
	}
	return e.Endpoint
}

// at returns the endpoint of the request for a login that fits, in the region of the login.
func (e *errand) at(l login) profiles.Endpoint {
	to := e.endpoint()
	to.Region = l.Region
	return to
}

// fits reports whether a login is the one that the request means. Tokens are sent to the endpoint that gave them, and
// to no other. The region of a console login is the one in which the person signed in.
func (e *errand) fits(l login) bool {
	p, to := e.Page, e.endpoint()
	switch {
	case l.Kind != p.Kind || l.URL != to.URL:
		return false
	case p.Kind == profiles.Portal:
		return l.StartURL == p.StartURL && l.Region == to.Region
	}
	return p.ARN == "" || p.ARN == l.ARN
}

// flow returns the client of a redirect. It refuses all redirects but those that AWS accepts: of this machine, and for
// the console the page of the region that shows the code.
func (e *errand) flow(redirect string) (string, error) {
	toConsole := e.Page.Kind == profiles.ConsoleLogin
	switch here := exchange.LeadsHere(redirect); {
	case here && toConsole:
		return exchange.ConsoleSameDevice, nil
	case here:
		return byRedirect, nil
	case toConsole:
		page, err := e.sts.ConsoleRedirect(e.endpoint())
		if err != nil || redirect == page {
			return exchange.ConsoleCrossDevice, err
		}
	case redirect == "":
		return byDevice, nil
	}
	return "", fault.New(fault.Internal, "a page may not lead to %q", redirect)
}

// beginLogin returns the page on which a person logs in. It keeps nothing but a registered client: the caller brings
// the proof back. So two logins of one source do not disturb each other.
func (e *errand) beginLogin(ctx context.Context, r ring) (*answer, error) {
	if err := e.checkPage(); err != nil {
		return nil, err
	}
	redirect := e.Page.Redirect
	if redirect == "" && e.Page.Kind == profiles.ConsoleLogin {
		var err error
		if redirect, err = e.sts.ConsoleRedirect(e.endpoint()); err != nil {
			return nil, err
		}
	}
	client, err := e.flow(redirect)
	if err != nil {
		return nil, err
	}
	p := &vault.Page{Kind: e.Page.Kind, Redirect: redirect}
	var reg exchange.Registration
	if p.Kind == profiles.Portal {
		reg, err = e.registration(ctx, r, client, "")
	} else {
		_, err = e.loadForLogin(ctx, r) // the keyring works, and the login may be replaced
	}
	switch {
	case err != nil:
		return nil, err
	case client == byDevice:
		return e.beginDevice(ctx, r, reg, p)
	}
	// A verifier and its challenge: https://www.rfc-editor.org/rfc/rfc7636#section-4
	verifier := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	p.State = rand.Text()
	if p.Kind == profiles.Portal {
		p.URL, err = e.sts.AuthorizeURL(e.endpoint(), reg, redirect, p.State, challenge, e.Page.Scopes)
	} else {
		p.URL, err = e.sts.ConsoleAuthorizeURL(e.endpoint(), client, redirect, p.State, challenge)
	}
	return pageAnswer(p, secret.New(verifier), err)
}

// beginDevice returns the page on which a person confirms a code.
func (e *errand) beginDevice(
	ctx context.Context, r ring, reg exchange.Registration, p *vault.Page,
) (*answer, error) {
	e.calling.Store(true)
	grant, err := e.sts.StartDevice(ctx, e.endpoint(), reg, e.Page.StartURL)
	if errors.Is(err, exchange.ErrBadRegistration) {
		if reg, err = e.registration(ctx, r, byDevice, reg.ID); err != nil {
			return nil, err
		}
		grant, err = e.sts.StartDevice(ctx, e.endpoint(), reg, e.Page.StartURL)
	}
	p.URL, p.UserCode, p.Expires = grant.URL, grant.UserCode, grant.Expires
	p.IntervalMS = grant.Interval.Milliseconds()
	return pageAnswer(p, grant.DeviceCode, err)
}

// registration returns a registered client that lives long enough. It registers a new one if no other is
// kept than the one with the id refused, which AWS does not know.
func (e *errand) registration(ctx context.Context, r ring, client, refused string) (exchange.Registration, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return exchange.Registration{}, err
	}
	defer unlock()
	l, err := e.loadForLogin(ctx, r)
	if err != nil {
		return exchange.Registration{}, err
	}
	if l = e.fitting(l); l.Clients == nil || !slices.Equal(l.Scopes, e.Page.Scopes) {
		l.Clients, l.Scopes = map[string]exchange.Registration{}, e.Page.Scopes
	}
	reg := l.Clients[client]
	if reg.ID != refused && reg.Expires.Sub(e.now(0)) > spareRegistration {
		return reg, nil
	}
	e.calling.Store(true)
	reg, err = e.sts.RegisterClient(ctx, e.endpoint(), e.Page.StartURL, e.Page.Scopes, client == byDevice)
	if err != nil {
		return reg, err
	}
	l.Clients[client] = reg
	return reg, e.storeLogin(ctx, r, l)
}

// finishLogin exchanges the code of the page, or asks once whether the person has confirmed the code on the page.
func (e *errand) finishLogin(ctx context.Context, r ring) (*answer, error) {
	if err := e.checkPage(); err != nil {
		return nil, err
	}
	if e.Page.Adopt != "" {
		return e.adoptSignIn(ctx, r)
	}
	client, err := e.flow(e.Page.Redirect)
	if err != nil {
		return nil, err
	}
	old, err := e.loadForLogin(ctx, r)
	if err != nil {
		return nil, err
	}
	if e.Page.Kind == profiles.ConsoleLogin {
		return e.finishSignIn(ctx, r, client)
	}
	reg, known := old.Clients[client]
	if !known || !e.fits(old) {
		return nil, e.noClient()
	}
	grant := exchange.TokenGrant{Code: givenCode(e.request), Verifier: proof(e.Page), Redirect: e.Page.Redirect}
	if client == byDevice {
		grant = exchange.TokenGrant{Device: proof(e.Page)}
	}
	e.calling.Store(true)
	token, err := e.sts.CreateToken(ctx, e.endpoint(), reg, grant)
	e.hideSecrets(token.Access, token.Refresh)
	if errors.Is(err, exchange.ErrBadRegistration) {
		if forget := e.forgetClient(ctx, r, client, reg.ID); forget != nil {
			return nil, forget
		}
		return nil, e.noClient()
	}
	if err != nil {
		return nil, err
	}
	l := login{Client: reg}
	l.took(token)
	return e.storeNew(ctx, r, l)
}

// noClient is the fault if AWS or the keyring does not know the client with which a login began.
func (e *errand) noClient() error {
	return e.loginNeeded("AWS does not know the registration with which this login to %q began; log in again", e.Source)
}

// forgetClient deletes a registered client that AWS does not know, so that the next login registers another one.
func (e *errand) forgetClient(ctx context.Context, r ring, client, id string) error {
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	l, err := e.loadLogin(ctx, r)
	if err != nil || l.Clients[client].ID != id {
		return err
	}
	delete(l.Clients, client)
	return e.storeLogin(ctx, r, l)
}

// took puts the tokens of an answer into the login. AWS may give no new refresh token; then the old one stays.
func (l *login) took(t exchange.Token) {
	l.Access = portalAccess(t.Access, t.Issued, t.Expires)
	if !t.Refresh.IsZero() {
		l.Refresh = t.Refresh
	}
}

// finishSignIn exchanges the code of a console login. The key to which its tokens are bound is made here, so that no
// other process ever has it.
func (e *errand) finishSignIn(ctx context.Context, r ring, client string) (*answer, error) {
	key, stored, err := newDPoPKey()
	if err != nil {
		return nil, fault.New(fault.Internal, "cannot make a key: %w", err)
	}
	e.calling.Store(true)
	token, err := e.sts.CreateConsoleToken(ctx, e.endpoint(), key, client,
		exchange.TokenGrant{Code: givenCode(e.request), Verifier: proof(e.Page), Redirect: e.Page.Redirect})
	e.hideCredentials(token.Credentials)
	e.hideSecrets(token.Refresh)
	if err != nil {
		return nil, err
	}
	arn := token.Credentials.Subject
	if want := e.Page.ARN; want != "" && arn != want {
		return nil, fault.New(fault.Failed, "you signed in as %s, and %q is for %s; sign out in the browser, or pick the "+
			"other session there", arn, e.Source, want).WithHint("broker login %s", e.Source)
	}
	return e.storeNew(ctx, r, login{ARN: arn, Client: exchange.Registration{ID: client}, Key: stored,
		Refresh: token.Refresh, Access: token.Credentials, Ends: e.now(0).Add(longestSignIn).UTC().Truncate(time.Second)})
}

// storeNew stores the tokens of a login that a person has just made. It keeps the registered clients.
func (e *errand) storeNew(ctx context.Context, r ring, l login) (*answer, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	old, err := e.loadForLogin(ctx, r)
	if err != nil {
		return nil, err
	}
	return e.replace(ctx, r, old, l)
}

// replace is storeNew for a caller that has the lock of the keyring and has read the old login.
func (e *errand) replace(ctx context.Context, r ring, old, l login) (*answer, error) {
	l.Kind, l.StartURL, l.URL, l.Offset = e.Page.Kind, e.Page.StartURL, e.endpoint().URL, e.sts.ServerOffset()
	if l.Region == "" {
		l.Region = e.endpoint().Region
	}
	l.belongs, l.Dismissed = old.belongs, old.Dismissed
	if e.fits(old) {
		l.Clients, l.Scopes = old.Clients, old.Scopes
	}
	if err := e.storeLogin(ctx, r, l); err != nil {
		return nil, err
	}
	return loggedIn(l), nil
}

// loggedIn is the answer for a login that is in the keyring.
func loggedIn(l login) *answer {
	a := &answer{}
	switch {
	case l.Refresh.IsZero():
		a.Until = l.Access.Expires
	default:
		a.Until = l.Ends
	}
	if l.Kind == profiles.ConsoleLogin {
		a.Identity = &vault.Identity{ARN: l.ARN, Account: partition.AccountOfARN(l.ARN)}
	}
	return a
}

// endLogin deletes the tokens of a login, and ends the session of a portal at AWS. What `aws sso login` has now is
// not adopted any more. The tokens are deleted first, so that they are gone whatever AWS says. A request without a page
// is for a login that no file names any more: it is ended with what the keyring has of it.
func (e *errand) endLogin(ctx context.Context, r ring) (*answer, error) {
	if e.Page == nil {
		l, err := e.loadLogin(ctx, r)
		if errors.Is(err, errNoLogin) || errors.Is(err, vault.ErrNotCreated) {
			return &answer{}, nil
		}
		if err == nil && !e.isLost(l) {
			err = fault.New(fault.NotConfirmed, "the login of %q belongs to the registry %s, which may name it", e.Source,
				l.Registry).WithHint("env BROKER_CONFIG=%s broker logout %s", l.Registry, e.Source)
		}
		if err != nil {
			return nil, err
		}
		e.Page = &vault.Page{Kind: l.Kind, StartURL: l.StartURL, Scopes: l.Scopes, ARN: l.ARN}
		e.Endpoint = profiles.Endpoint{Region: l.Region, URL: l.URL}
	}
	if err := e.checkPage(); err != nil {
		return nil, err
	}
	old, err := e.forgetTokens(ctx, r)
	if err != nil || old.Kind != profiles.Portal {
		return &answer{}, err
	}
	if err := e.endPortal(ctx, old); err != nil {
		e.tell(fmt.Sprintf("the login of %s is deleted here, but AWS did not end the session of the portal: %s", e.Source,
			scrub(err.Error(), e.hide)))
	}
	return &answer{}, nil
}

// logins returns the names of the logins with tokens that belong to our registry, also of those that no file names.
func (e *errand) logins(ctx context.Context, r ring) (*answer, error) {
	keys, err := r.keys(ctx)
	if errors.Is(err, vault.ErrNotCreated) {
		return &answer{}, nil
	}
	if err != nil {
		return nil, err
	}
	a := &answer{}
	for _, key := range keys {
		if !strings.HasPrefix(key, loginPrefix) {
			continue
		}
		data, err := r.get(ctx, key)
		if err != nil && !errors.Is(err, errNoItem) && !errors.Is(err, errDamaged) && !errors.Is(err, errWrongKey) {
			return nil, err
		}
		l, err := decodeLogin(data)
		e.hide = append(e.hide, l.secrets()...)
		if err != nil || loginKey(l.Name) != key || !l.hasTokens() {
			continue
		}
		if e.admitLogin(l) == nil && e.isLost(l) {
			a.Names = append(a.Names, l.Name)
		}
	}
	slices.Sort(a.Names)
	return a, nil
}

// forgetTokens deletes the tokens of the login, and returns the login with them.
func (e *errand) forgetTokens(ctx context.Context, r ring) (old login, err error) {
	unlock, err := r.lock(ctx)
	if errors.Is(err, vault.ErrNotCreated) {
		return login{}, nil
	}
	if err != nil {
		return login{}, err
	}
	defer unlock()
	old, err = e.loadLogin(ctx, r)
	damaged := errors.Is(err, errDamagedLogin)
	if err != nil && !damaged && !errors.Is(err, errNoLogin) {
		return login{}, err
	}
	if damaged { // its tokens may work, but AWS cannot be told without them
		e.tell(fmt.Sprintf("%v; it is deleted here, but AWS did not end the session", err))
		if err := r.remove(ctx, loginKey(e.Source)); err != nil && !errors.Is(err, errNoItem) {
			return login{}, err
		}
	}
	if e.Page.Kind == profiles.ConsoleLogin {
		if err := r.remove(ctx, loginKey(e.Source)); err != nil && !errors.Is(err, errNoItem) {
			return login{}, err
		}
		return old, nil
	}
	l := e.fitting(old.without())
	found, ok := e.findPortal(ctx)
	if ok {
		l.Dismissed = found.hash()
	}
	if old.Name == "" && !ok {
		return old, nil // there is nothing to delete or to dismiss
	}
	return old, e.storeLogin(ctx, r, l)
}

// endPortal ends the session of a portal. AWS needs an access token for that, which may have to be refreshed.
func (e *errand) endPortal(ctx context.Context, old login) error {
	if !e.fits(old) {
		return errors.New("it was for another portal, region or endpoint than the configuration names now")
	}
	e.calling.Store(true)
	creds, ok := e.living(old, 0)
	if !ok && !old.Refresh.IsZero() {
		next, err := e.refresh(ctx, old)
		if err != nil {
			return err
		}
		creds, ok = next.Access, true
	}
	if !ok {
		return nil // it has ended already
	}
	return e.sts.EndPortal(ctx, e.at(old), creds.SessionToken)
}

// refresh returns the login with new tokens. The caller stores them before it uses them.
func (e *errand) refresh(ctx context.Context, l login) (login, error) {
	grant := exchange.TokenGrant{Refresh: l.Refresh}
	e.calling.Store(true)
	if l.Kind == profiles.Portal {
		token, err := e.sts.CreateToken(ctx, e.at(l), l.Client, grant)
		e.hideSecrets(token.Access, token.Refresh)
		if err != nil {
			return l, err
		}
		l.took(token)
	} else {
		key, err := parsedKey(l.Key)
		if err != nil {
			return l, fault.New(fault.Keyring, "the login of %q cannot be used: %w", e.Source, err)
		}
		token, err := e.sts.CreateConsoleToken(ctx, e.at(l), key, l.Client.ID, grant)
		e.hideCredentials(token.Credentials)
		e.hideSecrets(token.Refresh)
		if err != nil {
			return l, err
		}
		l.Access, l.Refresh = token.Credentials, token.Refresh
		l.Access.Subject = l.ARN // the answer to a refresh does not say it
	}
	l.Offset = e.sts.ServerOffset()
	return l, nil
}
