package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// A login on a web page is one item of the keyring: to a portal of IAM Identity Center, or to the console as
// `aws login` does it. Package session caches the access token and asks again before its end.

const (
	loginVersion = 1
	loginPrefix  = ourPrefix + "login-"
)

// The flows of IAM Identity Center. A client that is registered for both would make AWS answer 500.
const (
	byRedirect = "redirect"
	byDevice   = "device"
)

// login is a login as it is stored. It may hold registered clients only.
type login struct {
	Name     string // of the source
	Kind     profiles.Kind
	StartURL string                           // of profiles.Portal
	ARN      string                           // of profiles.ConsoleLogin: who signed in
	Region   string                           // the only one in which the tokens can be refreshed
	URL      string                           // of the endpoint that gave the tokens; no other gets them
	Clients  map[string]exchange.Registration // of profiles.Portal: for the next login, by flow
	Scopes   []string                         // of Clients
	Client   exchange.Registration            // that the tokens were given to; the console's have no secret
	Key      secret.String                    // of profiles.ConsoleLogin: the tokens are bound to it
	Refresh  secret.String
	Access   session.Credentials // zero before the first one
	Offset   time.Duration       // AWS's clock minus ours when Access was stored
	Ends     time.Time           // of profiles.ConsoleLogin: no refresh works from here on; zero if not known
	// Dismissed is the hash of the tokens of `aws sso login` that are not adopted again.
	Dismissed string
	belongs
}

// hasTokens reports whether the login has a refresh token or an access token.
func (l login) hasTokens() bool { return !l.Refresh.IsZero() || !l.Access.Expires.IsZero() }

// loginKey returns the name of the item with the login of a source.
func loginKey(source string) string { return hashedKey(loginPrefix, source) }

func loginLabel(source string) string { return fault.Line("broker: login of " + source) }

// check refuses what cannot be a login.
func (l login) check() error {
	known := l.Client.ID != "" && !l.Client.Secret.IsZero()
	if l.Kind == profiles.ConsoleLogin {
		known = l.Client.ID == exchange.ConsoleSameDevice || l.Client.ID == exchange.ConsoleCrossDevice
	}
	key := error(nil)
	if l.Kind == profiles.ConsoleLogin && !l.Refresh.IsZero() {
		_, key = parsedKey(l.Key)
	}
	c := l.Access
	life := c.Expires.Sub(c.Issued)
	switch {
	case !l.Kind.ByPage():
		return errors.New("it is not of a kind that has logins")
	case !l.Refresh.IsZero() && !known:
		return errors.New("it has a refresh token of an unknown client")
	case key != nil:
		return key
	case c.Expires.IsZero():
		return nil
	case c.AccessKeyID == "" || c.SessionToken.IsZero() || l.Kind == profiles.ConsoleLogin && c.SecretAccessKey.IsZero():
		return errors.New("a part of its access token is missing")
	case c.Issued.IsZero() || life <= 0 || life > exchange.LongestPortal+time.Minute:
		return errors.New("the times of its access token are not plausible")
	}
	return nil
}

// without returns the login without its tokens.
func (l login) without() login {
	l.Client, l.Key, l.Refresh = exchange.Registration{}, secret.String{}, secret.String{}
	l.Access, l.Ends = session.Credentials{}, time.Time{}
	return l
}

// enough returns how much of its life an access token must have left, so that it is not refreshed.
func (l login) enough() time.Duration {
	if l.Refresh.IsZero() {
		return almostOver
	}
	life := l.Access.Expires.Sub(l.Access.Issued)
	enough := renewsAhead(life)
	if l.Kind == profiles.Portal {
		enough = max(enough, 15*time.Minute+life/10)
	}
	return min(enough, life*3/4)
}

// almostOver is how much of its life an access token must have left to be used.
const almostOver = time.Minute

// living returns the access token as if it were issued now, if more than enough of its life is left.
func (e *errand) living(l login, enough time.Duration) (session.Credentials, bool) {
	if l.Access.Expires.IsZero() {
		return session.Credentials{}, false
	}
	return lasting(l.token(), e.now(l.Offset), enough)
}

// errNoLogin means that the keyring has no login of the source.
var errNoLogin = errors.New("nobody has logged in")

// errDamagedLogin means that the login in the keyring cannot be read.
var errDamagedLogin = errors.New("the login in the keyring is damaged")

// loadLogin reads the login of the source, if our registry may use it and its home is not locked. It remembers the
// secrets for scrub.
func (e *errand) loadLogin(ctx context.Context, r ring) (login, error) {
	data, err := r.get(ctx, loginKey(e.Source))
	switch {
	case errors.Is(err, errNoItem):
		return login{}, errNoLogin
	case errors.Is(err, errDamaged), errors.Is(err, errWrongKey):
		return login{}, e.damagedLogin(err)
	case err != nil:
		return login{}, err
	}
	l, err := decodeLogin(data)
	e.hide = append(e.hide, l.secrets()...)
	if err == nil && l.Name != e.Source {
		err = errors.New("it belongs to another source")
	}
	if err != nil {
		return login{}, e.damagedLogin(err)
	}
	return l, e.admitLogin(l)
}

func (e *errand) damagedLogin(err error) error {
	return because(fault.Keyring, errDamagedLogin,
		fmt.Sprintf("the keyring's item %s with the login of %q cannot be used: %v", loginKey(e.Source), e.Source, err),
		fault.Hintf("broker login %s", e.Source))
}

// loadForLogin is loadLogin for a person who logs in: a missing or damaged login is an empty one.
func (e *errand) loadForLogin(ctx context.Context, r ring) (login, error) {
	l, err := e.loadLogin(ctx, r)
	if errors.Is(err, errNoLogin) || errors.Is(err, errDamagedLogin) {
		return login{}, nil
	}
	return l, err
}

// admitLogin is admit for a login.
func (e *errand) admitLogin(l login) error { return e.admit("the login of "+l.Name, l.belongs) }

// isLost reports whether a login may be ended although the files of the request do not name it. The files of another
// registry may name it, also if that registry lets ours use it.
func (e *errand) isLost(l login) bool { return e.isOurs(l.belongs) || e.isOurs(l.known()) }

// storeLogin writes the login of the source and reads it back. The caller has the lock of the keyring.
func (e *errand) storeLogin(ctx context.Context, r ring, l login) error {
	if l.Registry == "" || l.gone() {
		if err := e.admitNew(); err != nil {
			return err
		}
		l.belongs = e.ours()
	}
	if err := l.check(); err != nil {
		return fault.New(fault.BadAnswer, "the login of %q cannot be stored: %w", e.Source, err)
	}
	l.Name = e.Source
	e.hide = append(e.hide, l.secrets()...)
	data, err := encodeLogin(l)
	if err != nil {
		return err
	}
	if err := e.refuseLocked(); err != nil { // AWS or a prompt of the keyring may have taken long
		return err
	}
	key := loginKey(e.Source)
	if err := r.set(ctx, key, loginLabel(e.Source), data); err != nil {
		return err
	}
	if back, err := r.get(ctx, key); err != nil || !bytes.Equal(back, data) {
		return fault.New(fault.Keyring, "the keyring did not return what was written for the login of %q", e.Source)
	}
	return nil
}

// dropAccess deletes the access token of the login of the source, if it has one; see drop. It works while Broker is
// locked. An
// unreadable login has no access token that anybody could use, and one in a locked keyring has to wait: AWS refuses
// the token again then.
func (e *errand) dropAccess(ctx context.Context, r ring) error {
	data, err := r.get(ctx, loginKey(e.Source))
	if err != nil {
		if errors.Is(err, errNoItem) || errors.Is(err, errDamaged) || errors.Is(err, errWrongKey) ||
			fault.Is(err, fault.KeyringLocked) {
			return nil
		}
		return err
	}
	l, err := decodeLogin(data)
	e.hide = append(e.hide, l.secrets()...)
	if err != nil || l.Access.Expires.IsZero() || e.KeyID != "" && l.Access.AccessKeyID != e.KeyID {
		return nil
	}
	l.Access = session.Credentials{}
	if data, err = encodeLogin(l); err != nil {
		return err
	}
	return r.set(ctx, loginKey(e.Source), loginLabel(e.Source), data)
}
