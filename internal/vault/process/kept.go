package process

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"broker/internal/fault"
	"broker/internal/session"
	"broker/internal/vault"
)

// The session of a source with an MFA device is stored in the keyring, in a separate item, so that a new daemon
// need not ask for a code. It is a cache: a session that cannot be read or used is deleted, and one that cannot be
// written is only reported.

const (
	keptVersion = 1
	keptPrefix  = ourPrefix + "session-"
	// A stored session is used only if keptMargin and a tenth of its lifetime are left.
	keptMargin = 5 * time.Minute
	// longestKept is the longest lifetime that GetSessionToken grants.
	// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
	longestKept = 36 * time.Hour
	// keepTimeout limits keyring operations that the answer does not need.
	keepTimeout = 3 * time.Second
)

// kept is a session as it is stored.
type kept struct {
	Source      string
	Asked       string        // see digest
	Offset      time.Duration // AWS's clock minus ours when it was stored
	Credentials session.Credentials
}

// sessionKey returns the name of the item with the stored session of a source.
func sessionKey(source string) string { return hashedKey(keptPrefix, source) }

func keptLabel(source string) string { return fault.Line("broker: session of " + source) }

// isKept reports whether the session that a call returns should be stored.
func isKept(call session.Call) bool {
	return call.Operation == session.GetSessionToken && call.MFASerial != ""
}

// digest returns a hash of everything that a session depends on, so that a session from any other call does not
// match.
func digest(keyID string, call session.Call) (string, error) {
	data, err := json.Marshal(struct {
		Key  string
		Call session.Call
	}{keyID, call})
	if err != nil {
		return "", fault.New(fault.Internal, "the call cannot be encoded")
	}
	return fmt.Sprintf("%x", sha256.Sum256(data)), nil
}

// check refuses what cannot be a session of a source.
func (k kept) check() error {
	c := k.Credentials
	life := c.Expires.Sub(c.Issued)
	switch {
	case c.AccessKeyID == "" || c.SecretAccessKey.IsZero() || c.SessionToken.IsZero():
		return errors.New("a part of the session is missing")
	case c.Issued.IsZero() || life <= 0 || life > longestKept+time.Minute:
		return errors.New("its times are not plausible for a session")
	}
	return nil
}

// left returns the session as if it were issued now, by AWS's clock, if enough of its lifetime is left. renewable
// means that a new session can be made without a prompt. Then the stored one is used only until package session
// would renew it, because returning the old session would renew nothing.
func (k kept) left(now time.Time, renewable bool) (session.Credentials, bool) {
	life := k.Credentials.Expires.Sub(k.Credentials.Issued)
	enough := max(keptMargin, life/10)
	if renewable {
		enough = max(enough, renewsAhead(life))
	}
	return lasting(k.Credentials, now, enough)
}

// renewsAhead returns how long before the end of a session package session may ask for a new one: a third of the
// lifetime or twenty minutes ahead, up to a thirtieth earlier, counted from before the vault process was started.
func renewsAhead(life time.Duration) time.Duration {
	return min(20*time.Minute, life/3) + life/30 + 2*time.Minute
}

// lasting returns the session as if it were issued now, by AWS's clock, if more than enough of its lifetime is left.
func lasting(c session.Credentials, now time.Time, enough time.Duration) (session.Credentials, bool) {
	if now.Before(c.Issued.Add(-time.Minute)) {
		return c, false // our clock is wrong, so the time left is unknown
	}
	if c.Expires.Sub(now) <= enough {
		return c, false
	}
	if issued := now.UTC().Truncate(time.Second); issued.After(c.Issued) {
		c.Issued = issued
	}
	return c, true
}

// now returns the time by AWS's clock. A new caller does not know the offset yet; then the stored offset is used
// if it makes the session look shorter.
func (e *errand) now(stored time.Duration) time.Time {
	offset := e.sts.ServerOffset()
	if offset == 0 {
		offset = max(0, stored)
	}
	return time.Now().Add(offset)
}

// findKept returns the stored session if it matches this call. One that does not match is deleted.
func (e *errand) findKept(ctx context.Context, r ring, it item) (session.Credentials, bool) {
	data, err := r.get(ctx, sessionKey(e.Source))
	if errors.Is(err, errNoItem) || fault.Is(err, fault.KeyringLocked) {
		return session.Credentials{}, false
	}
	if err == nil {
		if creds, ok := e.usable(data, it); ok {
			return creds, true
		}
	}
	e.discardKept(ctx, r, data)
	return session.Credentials{}, false
}

func (e *errand) usable(data []byte, it item) (session.Credentials, bool) {
	k, err := decodeKept(data)
	if err != nil {
		return session.Credentials{}, false
	}
	e.hideCredentials(k.Credentials)
	// A session that was made with the other key of the item is the same user's, and ends no earlier.
	same := slices.ContainsFunc(it.ids(), func(id string) bool {
		asked, err := digest(id, *e.Call)
		return err == nil && k.Asked == asked
	})
	if k.Source != e.Source || !same {
		return session.Credentials{}, false
	}
	return k.left(e.now(k.Offset), !e.seedOf(it).IsZero())
}

// discardKept tries to delete the stored session that was read as data (nil if it could not be read).
func (e *errand) discardKept(ctx context.Context, r ring, data []byte) {
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	unlock, err := r.lock(ctx)
	if err != nil {
		return
	}
	defer unlock()
	if now, err := r.get(ctx, sessionKey(e.Source)); err == nil && !bytes.Equal(now, data) {
		return // another process stored a newer session
	}
	_ = dropKept(ctx, r, e.Source)
}

// keep stores a new session. It neither fails the call nor delays its answer for long. The keyring library may
// hang, so its goroutine is abandoned.
func (e *errand) keep(ctx context.Context, r ring, it item, creds session.Credentials) {
	e.hideCredentials(creds)
	k := kept{Source: e.Source, Offset: e.sts.ServerOffset(), Credentials: creds}
	if k.check() != nil {
		return
	}
	if _, ok := k.left(creds.Issued, !e.seedOf(it).IsZero()); !ok {
		return // too short to be useful later
	}
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	done := make(chan error, 1)
	call := *e.Call
	go func() {
		_, err := guard(func() (struct{}, error) { return struct{}{}, writeKept(ctx, r, it, call, k) })
		done <- err
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = errors.New("the keyring did not answer in time")
	}
	if err != nil {
		e.tell("the session could not be kept in the keyring, so a new daemon will need a new one: " + scrub(err.Error(), e.hide))
	}
}

func writeKept(ctx context.Context, r ring, it item, call session.Call, k kept) error {
	var err error
	if k.Asked, err = digest(it.AccessKeyID, call); err != nil {
		return err
	}
	data, err := encodeKept(k)
	if err != nil {
		return err
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// While AWS was called, the source may have been removed or got another key.
	now, err := load(ctx, r, k.Source)
	if fault.Is(err, fault.NotFound) || err == nil && !slices.Contains(now.ids(), it.AccessKeyID) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.set(ctx, sessionKey(k.Source), keptLabel(k.Source), data)
}

// drop deletes the stored session of a source, and the access token of its login, if there are any. With a KeyID, it
// deletes only that session or token: another daemon may have stored a newer one since AWS refused it.
func (e *errand) drop(ctx context.Context, r ring) (*answer, error) {
	unlock, err := r.lock(ctx)
	if errors.Is(err, vault.ErrNotCreated) {
		return &answer{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer unlock()
	kept := error(nil)
	if !e.keptNewer(ctx, r) {
		kept = dropKept(ctx, r, e.Source)
	}
	return &answer{}, errors.Join(kept, e.dropAccess(ctx, r))
}

// keptNewer reports whether the stored session is not the one of the KeyID.
func (e *errand) keptNewer(ctx context.Context, r ring) bool {
	if e.KeyID == "" {
		return false
	}
	data, err := r.get(ctx, sessionKey(e.Source))
	if err != nil {
		return false
	}
	k, err := decodeKept(data)
	return err == nil && k.Credentials.AccessKeyID != e.KeyID
}

func dropKept(ctx context.Context, r ring, source string) error {
	err := r.remove(ctx, sessionKey(source))
	if errors.Is(err, errNoItem) {
		return nil
	}
	return err
}
