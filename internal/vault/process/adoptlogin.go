package process

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/partition"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/record"
	"broker/internal/session"
	"broker/internal/system"
	"broker/internal/vault"
)

const (
	maxForeignFile = 64 << 10
	// The AWS CLI and SDKs write their files in place, without a lock. A file that is not whole is read again.
	foreignTries = 5
	foreignPause = 200 * time.Millisecond
)

// readForeign reads a file of AWS's tools: a regular file of ours that others cannot write to or replace. If it is
// missing, the error is fs.ErrNotExist. Its errors repeat nothing of the file.
func readForeign(ctx context.Context, path string, into any) error {
	var err error
	for try := range foreignTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return err
			case <-time.After(foreignPause):
			}
		}
		if err = system.Trusted(path); err != nil {
			return err
		}
		var text []byte
		if text, err = record.Read(path, maxForeignFile, record.Guarded); err != nil {
			return err
		}
		if json.Unmarshal(text, into) == nil {
			return nil
		}
		err = fmt.Errorf("%s is not the JSON that AWS's tools write", path)
	}
	return err
}

// foreignNames returns the texts whose hash is the name of the file of `aws sso login`: the name of the sso-session,
// or the start URL of a profile without one, as the user wrote it.
func (e *errand) foreignNames() []string {
	if e.Source != e.Page.StartURL {
		return []string{e.Source}
	}
	at := e.Page.StartURL
	return []string{at, at + "/", at + "#", at + "/#"}
}

// findPortal reads what `aws sso login` has for the source, if that is for the same portal.
func (e *errand) findPortal(ctx context.Context) (f *foreignPortal, ok bool) {
	home := paths.Home()
	if home == "" {
		return nil, false
	}
	for _, name := range e.foreignNames() {
		f = &foreignPortal{}
		path := filepath.Join(home, ".aws", "sso", "cache", vault.PortalFile(name))
		err := readForeign(ctx, path, f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			e.tell("does not use the login of aws sso login: " + err.Error())
			continue
		}
		e.hide = append(e.hide, f.secrets()...)
		strange := func(s string) bool {
			return strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
		}
		if !slices.ContainsFunc(append(f.secrets(), f.ClientID), strange) &&
			profiles.StartURL(f.StartURL) == e.Page.StartURL && f.Region == e.endpoint().Region {
			return f, true
		}
	}
	return nil, false
}

// adoptPortal takes the login of `aws sso login` over into the keyring, if there is one that was not dismissed. It
// never writes to the file. The caller has the lock of the keyring.
func (e *errand) adoptPortal(ctx context.Context, r ring, l login) (login, bool) {
	if e.Page.Kind != profiles.Portal || !adoptsFor(e.endpoint().URL) {
		return l, false
	}
	f, ok := e.findPortal(ctx)
	if !ok || f.hash() == l.Dismissed {
		return l, false
	}
	next := f.into(l, e.now(0))
	if !next.hasTokens() || next.check() != nil {
		return l, false
	}
	if err := e.storeLogin(ctx, r, next); err != nil {
		e.tell("the login of aws sso login could not be stored in the keyring: " + scrub(err.Error(), e.hide))
		return l, false
	}
	e.adopted = true
	if next.Refresh.IsZero() {
		e.tell("uses the login of aws sso login, which ends at " + clock(f.ExpiresAt))
	} else {
		e.tell("uses the login of aws sso login; that tool asks for a login again at " + clock(f.ExpiresAt) +
			", because Broker renews it from now on")
	}
	return next, true
}

// adoptsFor reports whether tokens of a file may go to an endpoint. The file does not say which one gave them, so they
// go to AWS's own, or to a simulator on this machine.
func adoptsFor(override string) bool {
	if override == "" {
		return true
	}
	at, err := url.Parse(override)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(at.Hostname())
	return at.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}

// adoptSignIn takes over the login of `aws login` for the ARN of the source.
func (e *errand) adoptSignIn(ctx context.Context, r ring) (*answer, error) {
	if e.Page.Kind != profiles.ConsoleLogin || e.Page.ARN == "" {
		return nil, fault.New(fault.Usage, "only a login of aws login with its ARN can be taken over")
	}
	if !adoptsFor(e.endpoint().URL) {
		return nil, fault.New(fault.Config, "the endpoint of %q is not AWS's, so a login of aws login is not sent there",
			e.Source).WithHint("broker login %s", e.Source)
	}
	if !filepath.IsAbs(e.Page.Adopt) {
		return nil, fault.New(fault.Config, "the directory of the logins of aws login is not an absolute path: %q",
			e.Page.Adopt)
	}
	path := filepath.Join(e.Page.Adopt, vault.SignInFile(e.Page.ARN))
	f := &foreignConsole{}
	err := readForeign(ctx, path, f)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "aws login has no login of %s: %s does not exist", e.Page.ARN, path).
			WithHint("broker login %s", e.Source)
	}
	if err != nil {
		return nil, fault.New(fault.Failed, "the login of aws login cannot be used: %w", err).
			WithHint("%s", cmp.Or(profiles.MendTrust(err), fault.Hintf("broker login %s", e.Source)))
	}
	e.hide = append(e.hide, f.secrets()...)
	if account := f.AccessToken.AccountID; account != "" && account != partition.AccountOfARN(e.Page.ARN) {
		return nil, fault.New(fault.Failed, "%s has a login of account %q, and %q is for %s", path, account, e.Source,
			e.Page.ARN).WithHint("broker login %s", e.Source)
	}
	l, err := f.into(login{Kind: e.Page.Kind, ARN: e.Page.ARN, Region: e.endpoint().Region}, e.now(0))
	if err == nil && l.Refresh.IsZero() {
		err = errors.New("it has no refresh token")
	}
	if err == nil && l.Region == "" {
		err = errors.New("it does not name the region of the login")
	}
	if err != nil {
		return nil, fault.New(fault.Failed, "the login in %s cannot be taken over: %w", path, err).
			WithHint("broker login %s", e.Source)
	}
	// The file gives its refresh token once. So nothing is sent before the keyring is known to work, and two requests
	// take turns.
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	old, err := e.loadForLogin(ctx, r)
	if err != nil {
		return nil, err
	}
	if _, lives := e.living(old, almostOver); lives && e.fits(old) { // another request was first
		return loggedIn(old), nil
	}
	if l, err = e.proven(ctx, l); err != nil {
		f := fault.Of(err)
		if isDead(err) {
			f.Kind = fault.LoginNeeded
		}
		return nil, fault.New(f.Kind, "the login of aws login for %q was not taken over: %w", e.Source, err).
			WithHint("%s", cmp.Or(f.Hint, fault.Hintf("broker login %s", e.Source)))
	}
	return e.replace(ctx, r, old, l)
}

// proven returns a login of a file with new tokens, once AWS has said that they are of the ARN of the source. The file
// itself proves nothing: a variable of a repository can lead to it, its region may be a guess, and its refresh token
// may be dead or of another person than its credentials. So the login is refreshed at once. Credentials that still
// live are asked first: the login of another person is not spent.
func (e *errand) proven(ctx context.Context, l login) (login, error) {
	if creds, ok := e.living(l, almostOver); ok {
		if err := e.proveARN(ctx, creds, e.at(l)); err != nil {
			return l, err
		}
	}
	if err := e.timeToRefresh(ctx); err != nil {
		return l, err
	}
	l, err := e.refresh(ctx, l)
	if err != nil {
		return l, err
	}
	return l, e.proveARN(ctx, l.Access, e.at(l))
}

// proveARN asks AWS whether credentials are of the ARN of the source.
func (e *errand) proveARN(ctx context.Context, creds session.Credentials, at profiles.Endpoint) error {
	e.calling.Store(true)
	who, err := e.sts.Identity(ctx, exchange.Keys{AccessKeyID: creds.AccessKeyID, Secret: creds.SecretAccessKey,
		Token: creds.SessionToken}, at)
	if err == nil && who.ARN != e.Page.ARN {
		err = fault.New(fault.Failed, "it is of %s, and %q is for %s", who.ARN, e.Source, e.Page.ARN)
	}
	return err
}
