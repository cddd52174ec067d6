package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/vault"
)

// refreshTime is what a refresh and its storing may take. Of a refresh that the deadline cuts, the new refresh token
// could be lost.
const refreshTime = 12 * time.Second

// openLogin returns the access token of a login, refreshed if needed. The lock of the keyring makes it one refresh for
// all processes: the others find the new token when they get the lock.
func (e *errand) openLogin(ctx context.Context, r ring) (*answer, error) {
	if err := e.checkPage(); err != nil {
		return nil, err
	}
	want := session.CreateToken
	if e.Page.Kind == profiles.ConsoleLogin {
		want = session.CreateOAuth2Token
	}
	if e.Call.Operation != want {
		return nil, fault.New(fault.Internal, "a login on a web page cannot make the call %s", e.Call.Operation)
	}
	creds, err := e.access(ctx, r)
	if errors.Is(err, vault.ErrNotCreated) { // its hint is about keys
		err = e.needsLogin()
	}
	if err != nil {
		return nil, err
	}
	return &answer{Credentials: revealCredentials(creds)}, nil
}

// token returns the access token with the end of the login.
func (l login) token() session.Credentials {
	c := l.Access
	c.LoginEnds = l.Ends
	return c
}

func (e *errand) access(ctx context.Context, r ring) (session.Credentials, error) {
	l, enough, err := e.current(ctx, r)
	if err != nil {
		return session.Credentials{}, err
	}
	if !enough {
		l, err = e.renewed(ctx, r, l)
	}
	if err == nil {
		return l.token(), nil
	}
	// A token that still lives serves until its end, if a new one failed for any reason.
	if creds, ok := e.living(l, almostOver); ok {
		return creds, nil
	}
	return session.Credentials{}, err
}

// current reads the login that the request means; see fitting. enough says that its access token need not be
// refreshed; the token is then as if it were issued now.
func (e *errand) current(ctx context.Context, r ring) (l login, enough bool, err error) {
	l, err = e.loadLogin(ctx, r)
	if err != nil && !errors.Is(err, errNoLogin) {
		return login{}, false, err
	}
	l = e.fitting(l)
	creds, enough := e.living(l, l.enough())
	if enough {
		l.Access = creds
	}
	return l, enough, nil
}

// fitting returns the login if it is the one that the request means. Otherwise it returns one without tokens and
// registered clients, which can take its place in the keyring.
func (e *errand) fitting(l login) login {
	if e.fits(l) {
		return l
	}
	return login{Kind: e.Page.Kind, StartURL: e.Page.StartURL, ARN: e.Page.ARN, Region: e.endpoint().Region,
		URL: e.endpoint().URL, Dismissed: l.Dismissed, belongs: l.belongs}
}

// renewed returns the login with an access token that was just refreshed, or that another process has stored since
// old was read. With an error, the login it returns may still have a token that lives.
func (e *errand) renewed(ctx context.Context, r ring, old login) (login, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return old, err
	}
	defer unlock()
	l, enough, err := e.current(ctx, r)
	if err != nil {
		return old, err
	}
	if enough {
		return l, nil
	}
	l, err = e.refreshed(ctx, r, l)
	if !fault.Is(err, fault.LoginNeeded) {
		return l, err
	}
	found, ok := e.adoptPortal(ctx, r, l)
	if !ok {
		return l, err
	}
	if creds, ok := e.living(found, found.enough()); ok {
		found.Access = creds
		return found, nil
	}
	return e.refreshed(ctx, r, found)
}

// refreshed refreshes the tokens of a login and stores them. If there is nothing to refresh them with any more, the
// fault is LoginNeeded, and the refresh token is deleted. The caller has the lock of the keyring.
func (e *errand) refreshed(ctx context.Context, r ring, l login) (login, error) {
	if l.Refresh.IsZero() {
		return l, e.needsLogin()
	}
	if err := e.timeToRefresh(ctx); err != nil {
		return l, err
	}
	next, err := e.refresh(ctx, l)
	if isDead(err) {
		// A program with another lock may have refreshed it meanwhile.
		if now, again := e.loadLogin(ctx, r); again == nil && e.fits(now) && now.Refresh.Reveal() != l.Refresh.Reveal() {
			l = now
			next, err = e.refresh(ctx, l)
		}
	}
	if isDead(err) {
		l.Refresh, l.Client = secret.String{}, exchange.Registration{}
		if err := e.storeLogin(ctx, r, l); err != nil {
			e.tell("the login has ended, but it could not be deleted from the keyring: " + scrub(err.Error(), e.hide))
		}
		// The error is that of all later requests, which do not ask AWS again.
		e.tell("the login has ended: " + scrub(err.Error(), e.hide))
		return l, e.needsLogin()
	}
	if err != nil {
		return l, err
	}
	if err := e.storeLogin(ctx, r, next); err != nil {
		if fault.Is(err, fault.Locked) {
			return l, err
		}
		e.tell(fmt.Sprintf("the login of %s is lost at its next refresh, because the keyring did not store the new "+
			"refresh token; log in again before %s: %s", e.Source, clock(next.Access.Expires), scrub(err.Error(), e.hide)))
	}
	return next, nil
}

// timeToRefresh refuses a refresh whose answer could come too late to be stored.
func (e *errand) timeToRefresh(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < refreshTime {
		return fault.New(fault.Keyring, "no time left to refresh the login of %q", e.Source)
	}
	return nil
}

// isDead reports whether a refresh token cannot be used any more.
func isDead(err error) bool {
	return fault.Is(err, fault.LoginNeeded) || errors.Is(err, exchange.ErrBadRegistration)
}

// loginNeeded is the fault for a person, who has to log in.
func (e *errand) loginNeeded(format string, args ...any) error {
	return fault.New(fault.LoginNeeded, format, args...).WithHint("broker login %s", e.Source)
}

// needsLogin is the fault if there is no login that works.
func (e *errand) needsLogin() error { return e.loginNeeded("%q needs a login on a web page", e.Source) }

// clock formats a time for a notice.
func clock(at time.Time) string { return at.UTC().Format("2006-01-02 15:04 UTC") }
