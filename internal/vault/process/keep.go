package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/vault"
)

// put stores a key, after AWS has confirmed its identity.
func (e *errand) put(ctx context.Context, r ring) (*answer, error) {
	it := item{Name: e.Source, AccessKeyID: e.KeyID, Secret: secret.New(e.SecretKey), Seed: secret.New(e.Seed),
		Created: time.Now().UTC().Truncate(time.Second)}
	if err := checkKeyPair(it.AccessKeyID, it.Secret); err != nil {
		return nil, err
	}
	if !it.Seed.IsZero() {
		if _, err := parsedSeed(it.Seed); err != nil {
			return nil, fault.New(fault.Usage, "%w", err)
		}
	}
	return e.putItem(ctx, r, it)
}

// putItem stores a key whose form has been checked.
func (e *errand) putItem(ctx context.Context, r ring, it item) (*answer, error) {
	// Check the keyring first: a call to AWS is useless if nothing can be stored.
	if err := r.check(ctx); err != nil && !(fault.Is(err, fault.KeyringLocked) && r.asks()) {
		return nil, err
	}
	a := &answer{}
	if e.Verify {
		identity, err := e.verify(ctx, it.pair())
		if err != nil {
			return nil, err
		}
		a.Identity = identity
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	old, err := e.load(ctx, r)
	if it.belongs = old.belongs; old.gone() { // or there is no old item
		it.belongs = e.ours()
	}
	switch {
	case fault.Is(err, fault.NotFound):
	case err != nil:
		return nil, err
	case old.AccessKeyID == it.AccessKeyID && (e.Verify || sameSecret(old, it)):
		// Its section in the registry was lost, or the user adds it again. A secret that AWS did not confirm never
		// replaces one that may work. The seed and what is unfinished are kept too.
		it.Second, it.Enrolling = old.Second, old.Enrolling
		if it.Seed.IsZero() {
			it.Seed = old.Seed
		}
	case !e.Replace:
		return nil, because(fault.Failed, vault.ErrExists, fmt.Sprintf("source %q is already in the keyring, with key %s", e.Source, secret.Tail(old.AccessKeyID)),
			fault.Hintf("broker remove %s", e.Source))
	case e.KeepSeed && it.Seed.IsZero():
		it.Seed, it.Enrolling = old.Seed, old.Enrolling
	}
	if err := store(ctx, r, it); err != nil {
		return nil, err
	}
	if old.AccessKeyID != it.AccessKeyID {
		// The old session would not be used; do not leave it in the keyring either.
		if err := dropKept(ctx, r, e.Source); err != nil {
			e.tell("the session of the old key could not be deleted from the keyring: " + err.Error())
		}
	}
	return a, nil
}

// change rewrites an item under the lock.
func (e *errand) change(ctx context.Context, r ring, edit func(*item)) (*answer, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	it, err := e.load(ctx, r)
	if err != nil {
		return nil, err
	}
	edit(&it)
	return &answer{}, store(ctx, r, it)
}

// setSeed and removeSeed also end an unfinished enrollment: the person chose another seed.

func (e *errand) setSeed(ctx context.Context, r ring) (*answer, error) {
	seed, err := parsedSeed(secret.New(e.Seed))
	if err != nil {
		return nil, fault.New(fault.Usage, "%w", err)
	}
	return e.change(ctx, r, func(it *item) { it.Seed, it.Enrolling = seed.Text(), enrolling{} })
}

func (e *errand) removeSeed(ctx context.Context, r ring) (*answer, error) {
	return e.change(ctx, r, func(it *item) { it.Seed, it.Enrolling = secret.String{}, enrolling{} })
}

// remove deletes an item, even a damaged one, because the user named it. It deletes the stored session and the login
// first, so that neither outlives its source.
func (e *errand) remove(ctx context.Context, r ring) (*answer, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if it, err := load(ctx, r, e.Source); err == nil {
		if err := e.admitItem(it); err != nil {
			return nil, err
		}
	}
	if _, err := e.loadLogin(ctx, r); fault.Is(err, fault.NotConfirmed) {
		return nil, err
	}
	if err := dropKept(ctx, r, e.Source); err != nil {
		return nil, err
	}
	login := r.remove(ctx, loginKey(e.Source))
	if login != nil && !errors.Is(login, errNoItem) {
		return nil, login
	}
	err = r.remove(ctx, itemKey(e.Source))
	if login == nil && errors.Is(err, errNoItem) {
		return &answer{}, nil
	}
	if errors.Is(err, errNoItem) {
		return nil, noKey(e.Source)
	}
	return &answer{}, err
}

func (e *errand) describe(ctx context.Context, r ring) (*answer, error) {
	it, err := e.load(ctx, r)
	if err != nil {
		return nil, err
	}
	return &answer{Info: &vault.Info{AccessKeyID: it.AccessKeyID, HasSeed: !it.Seed.IsZero(), Created: it.Created,
		Enrolling: it.Enrolling.Serial, Replaces: it.Enrolling.Replaces}}, nil
}

func (e *errand) create(ctx context.Context, r ring) (*answer, error) {
	f, ok := r.(*fileRing)
	if !ok {
		return nil, fault.New(fault.Usage, "only the file keyring has its own passphrase")
	}
	return &answer{}, f.create(ctx)
}
