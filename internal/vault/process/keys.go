package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/rotate"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/vault"
)

// signer returns what signs calls to IAM: the session of the request, or the key in use.
func (e *errand) signer(it item) exchange.Keys {
	keys := it.pair()
	if e.With != nil {
		keys = sessionKeys(e.With)
	}
	e.signs(keys)
	return keys
}

// inUse reads the item, which must have the key that the registry names.
func (e *errand) inUse(ctx context.Context, r ring) (item, error) {
	it, err := e.load(ctx, r)
	if err == nil && it.AccessKeyID != e.KeyID {
		err = e.keyChanged(it)
	}
	return it, err
}

// keys returns what IAM and the keyring have.
func (e *errand) keys(ctx context.Context, r ring) (*answer, error) {
	it, err := e.inUse(ctx, r)
	if err != nil {
		return nil, err
	}
	uses, began := e.keyUses(), time.Now() // before this call is one of the uses
	sign := e.signer(it)
	// This comes before every other call: if the key in use signs the calls, they hide who used it before.
	last, lastErr := e.sts.KeyLastUsed(ctx, sign, e.Endpoint, e.KeyID)
	if lastErr != nil && !fault.Is(lastErr, fault.Denied) {
		return nil, lastErr
	}
	found, err := e.sts.AccessKeys(ctx, sign, e.Endpoint)
	if err != nil {
		return nil, err
	}
	// The key in use comes first: it shows whether the user may ask for the last use at all.
	slices.SortStableFunc(found, func(a, b exchange.AccessKey) int {
		switch e.KeyID {
		case a.ID:
			return -1
		case b.ID:
			return 1
		}
		return 0
	})
	began = began.Add(e.sts.ServerOffset()) // by AWS's clock, which the first answer may have shown
	all := &rotate.Keys{Stored: it.ids()}
	for _, key := range found {
		used, err := last, lastErr
		if key.ID != e.KeyID {
			used, err = e.sts.KeyLastUsed(ctx, sign, e.Endpoint, key.ID)
		}
		untold := fault.Is(err, fault.Denied) && !errors.Is(err, exchange.ErrUnknownKey) && len(all.Listed) > 0
		switch {
		case untold && strings.Contains(err.Error(), noSuchKey+key.ID): // IAM may list a key that was just deleted
			continue
		case err != nil && !untold:
			return nil, err
		}
		ours := uses.Used[useOf(key.ID)]
		if !used.At.Before(began.Truncate(time.Second)) && key.ID == sign.AccessKeyID {
			ours = used.At // by this very call
		}
		seen := rotate.Key{ID: key.ID, Active: key.Active, Created: key.Created, Used: used.At,
			Service: used.Service, Region: used.Region, Untold: untold, Ours: ours,
			Stored: slices.Contains(all.Stored, key.ID)}
		if other, known := uses.Others[useOf(key.ID)]; seen.Stored && seen.UsedElsewhere() {
			e.noteOther(seen)
		} else if known { // a call by Broker has hidden it since then
			seen.Used, seen.Service, seen.Region, seen.Ours = other.At, other.Service, other.Region, other.Ours
		}
		all.Listed = append(all.Listed, seen)
	}
	all.Now = e.now(0).UTC()
	return &answer{Keys: all}, nil
}

const (
	// noSuchKey is how IAM refuses to tell the last use of a key that does not exist. If a policy forbids the call, the
	// resource is the user.
	noSuchKey = "on resource: access key "
	// docKey is the id of a key that AWS's documentation uses, and that no user has.
	docKey = "AKIAIOSFODNN7EXAMPLE"
	// undoTime is reserved for deleting a key that cannot be stored.
	undoTime = 10 * time.Second
)

// newKey makes a key and stores it. If it cannot be stored, it is deleted again, because only this process knows its
// secret.
func (e *errand) newKey(ctx context.Context, r ring) (*answer, error) {
	it, err := e.inUse(ctx, r)
	if err != nil {
		return nil, err
	}
	if it.Second.AccessKeyID != "" {
		return nil, notMade(fault.New(fault.Failed, "the keyring holds two keys for source %q already: %s and %s",
			e.Source, secret.Tail(it.AccessKeyID), secret.Tail(it.Second.AccessKeyID)))
	}
	sign := e.signer(it)
	if err := e.mayRetire(ctx, sign); err != nil {
		return nil, notMade(err)
	}
	create := ctx
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		create, cancel = context.WithDeadline(ctx, end.Add(-time.Until(end)/2))
		defer cancel()
	}
	made, err := e.sts.CreateAccessKey(create, sign, e.Endpoint)
	switch {
	case errors.Is(err, exchange.ErrLimit):
		return nil, because(fault.Failed, rotate.ErrLimit, err.Error(), "")
	case err != nil && !answerLost(err):
		return nil, notMade(err)
	case err != nil:
		return nil, err
	}
	e.hide = append(e.hide, made.Secret.Reveal())
	if made.AccessKeyID == it.AccessKeyID || checkKeyPair(made.AccessKeyID, made.Secret) != nil {
		// Deleting it again could delete a key that works. If AWS made another one, the rotation finds it.
		return nil, fault.New(fault.BadAnswer, "AWS named a new key %s, which is no new key of a user",
			secret.Tail(made.AccessKeyID))
	}
	err = e.storeSecond(ctx, r, made)
	if err == nil {
		return &answer{Info: &vault.Info{AccessKeyID: made.AccessKeyID}}, nil
	}
	// The context may be what ended.
	again, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	left := e.sts.DeleteKey(again, sign, e.Endpoint, made.AccessKeyID)
	if left != nil && !errors.Is(left, exchange.ErrNotThere) {
		return nil, fault.New(fault.Of(err).Kind, "AWS made the key %s, but the keyring did not store it (%w), and it could "+
			"not be deleted again (%w); nobody has its secret", made.AccessKeyID, err, left)
	}
	return nil, notMade(fault.New(fault.Of(err).Kind, "the keyring did not store the new key, so it was deleted again: %w", err).
		WithHint("%s", fault.Of(err).Hint))
}

// notMade adds to an error that there is no new key.
func notMade(err error) error {
	f := *fault.Of(err)
	f.Err = errors.Join(rotate.ErrNotMade, err)
	return &f
}

// mayRetire refuses a user who may not deactivate or delete a key: a new one could then not be taken back, and the old
// one would stay. IAM checks what a user may do before it looks for the key.
func (e *errand) mayRetire(ctx context.Context, sign exchange.Keys) error {
	for verb, try := range map[string]func() error{
		"iam:UpdateAccessKey": func() error { return e.sts.SetKeyStatus(ctx, sign, e.Endpoint, docKey, false) },
		"iam:DeleteAccessKey": func() error { return e.sts.DeleteKey(ctx, sign, e.Endpoint, docKey) },
	} {
		switch err := try(); {
		case err == nil, errors.Is(err, exchange.ErrNotThere):
		case fault.Is(err, fault.Denied):
			return fault.New(fault.Denied, "the user of source %q may not call %s, so the old key could not be removed; "+
				"nothing was changed: %w", e.Source, verb, err).WithHint("broker policy self-service")
		default:
			return err
		}
	}
	return nil
}

// storeSecond stores a key beside the one in use, and reads it back. It leaves time to delete the key if the keyring
// does not answer.
func (e *errand) storeSecond(ctx context.Context, r ring, made exchange.Keys) error {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-min(undoTime, time.Until(end)/2)))
		defer cancel()
	}
	// The goroutine may be abandoned, so it shares no state with e. The secrets that it reads are in e.hide already.
	apart := &errand{request: e.request, ledger: e.ledger, notices: e.notices, file: e.file}
	done := make(chan error, 1)
	go func() {
		_, err := guard(func() (struct{}, error) {
			_, err := apart.change(ctx, r, func(it *item) { it.Second = made })
			return struct{}{}, err
		})
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fault.New(fault.Keyring, "the keyring did not answer in time; a prompt may be waiting for you")
	}
}

// tryKey makes two calls with a stored key: every working key may make them, whatever else it may do.
func (e *errand) tryKey(ctx context.Context, r ring) (*answer, error) {
	it, err := e.load(ctx, r)
	if err != nil {
		return nil, err
	}
	if it = it.using(e.Key); it.AccessKeyID != e.Key {
		return nil, fault.New(fault.NotFound, "the keyring has no key %s for source %q", secret.Tail(e.Key), e.Source)
	}
	if _, err := e.verify(ctx, it.pair()); err != nil {
		return nil, err
	}
	call := session.Call{Operation: session.GetSessionToken, Endpoint: e.Endpoint, Duration: 15 * time.Minute}
	e.signs(it.pair())
	got, err := e.sts.Call(ctx, it.pair(), call, secret.String{})
	e.hideCredentials(got)
	if fault.Is(err, fault.Denied) && !errors.Is(err, exchange.ErrUnknownKey) {
		err = nil // a policy forbids the call, so AWS knows the key
	}
	return &answer{}, err
}

// refuseInUse returns an error if the key to change is in use: by the request, or by a source in the registry of the
// item. Any program of the user can start this process, and must not be able to delete the key that works.
func (e *errand) refuseInUse(it item) error {
	set, err := e.store.Load(profiles.Files{Registry: it.belongs.known().Registry})
	if err != nil {
		return err
	}
	source, _ := set.Source(e.Source)
	if e.Key == "" || e.Key == e.KeyID || e.Key == source.AccessKeyID {
		return fault.New(fault.Internal, "the key to change is the one in use")
	}
	if other := set.SharesKey(e.Source, e.Key); other != "" {
		return fault.New(fault.Failed, "source %q uses the key %s too", other, secret.Tail(e.Key)).
			WithHint("broker remove %s", other)
	}
	return nil
}

func (e *errand) keyStatus(ctx context.Context, r ring) (*answer, error) {
	it, err := e.inUse(ctx, r)
	if err == nil {
		err = e.refuseInUse(it)
	}
	if err != nil {
		return nil, err
	}
	err = e.sts.SetKeyStatus(ctx, e.signer(it), e.Endpoint, e.Key, e.Active)
	if errors.Is(err, exchange.ErrNotThere) {
		err = fault.New(fault.NotFound, "%w", err)
	}
	return &answer{}, err
}

func (e *errand) deleteKey(ctx context.Context, r ring) (*answer, error) {
	it, err := e.inUse(ctx, r)
	if err == nil {
		err = e.refuseInUse(it)
	}
	if err != nil {
		return nil, err
	}
	err = e.sts.DeleteKey(ctx, e.signer(it), e.Endpoint, e.Key)
	if errors.Is(err, exchange.ErrNotThere) {
		err = nil
	}
	return &answer{}, err
}

func (e *errand) forgetKey(ctx context.Context, r ring) (*answer, error) {
	it, err := e.inUse(ctx, r)
	if err == nil {
		err = e.refuseInUse(it)
	}
	if err != nil || it.Second.AccessKeyID != e.Key {
		return &answer{}, err
	}
	return e.change(ctx, r, func(it *item) { it.Second = exchange.Keys{} })
}

// keyChanged returns the error for an item that has another key than the registry names.
func (e *errand) keyChanged(it item) error {
	return because(fault.Config, vault.ErrKeyChanged, fmt.Sprintf("the keyring holds key %s for source %q, but the registry names key %s",
		secret.Tail(it.AccessKeyID), e.Source, secret.Tail(e.KeyID)), fault.Hintf("broker add %s", e.Source))
}
