package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/vault"
)

// tryKey is the item of vault.OpTry. A leftover from an interrupted try is overwritten by the next one.
const tryKey = ourPrefix + "test"

func (e *errand) try(ctx context.Context, r ring) (*answer, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, text := range []string{"the first of two", "the second, in the place of the first"} {
		if err := r.set(ctx, tryKey, "broker: test", []byte(text)); err != nil {
			return nil, err
		}
		back, err := r.get(ctx, tryKey)
		if err != nil {
			return nil, fault.New(fault.Of(err).Kind, "the test item was written but cannot be read back: %w", err).WithHint("%s", fault.Of(err).Hint)
		}
		if string(back) != text {
			return nil, fault.New(fault.Keyring, "the keyring returned other data than was written")
		}
	}
	if err := r.remove(ctx, tryKey); err != nil {
		return nil, err
	}
	if _, err := r.get(ctx, tryKey); !errors.Is(err, errNoItem) {
		return nil, fault.New(fault.Keyring, "the test item was removed but still exists")
	}
	return &answer{}, nil
}

// copyable is an item that is copied from one keyring to another.
type copyable struct {
	key, label string
	source     string // source of the key; empty if the item is not a key
	data       []byte
}

// bothRings opens the target keyring of the request and locks both keyrings. All keyrings but the file keyring
// share one lock file.
func (e *errand) bothRings(ctx context.Context, from ring) (to ring, unlock func(), err error) {
	if e.To == e.Backend {
		return nil, nil, fault.New(fault.Usage, "the keys are in the keyring %s already", e.To).WithHint("broker keyring list")
	}
	q := *e.request
	q.Backend = e.To
	if to, err = e.openRing(ctx, &q); err != nil {
		return nil, nil, err
	}
	locks := []ring{from}
	switch vault.File {
	case e.To:
		locks = []ring{from, to}
	case e.Backend:
		locks = []ring{to, from} // always in this order
	}
	var held []func()
	unlock = func() {
		for _, free := range held {
			free()
		}
	}
	for _, r := range locks {
		free, err := r.lock(ctx)
		if err != nil {
			unlock()
			return nil, nil, err
		}
		held = append(held, free)
	}
	return to, unlock, nil
}

// migrate copies the sources first. It checks everything before it writes anything.
func (e *errand) migrate(ctx context.Context, from ring) (*answer, error) {
	to, unlock, err := e.bothRings(ctx, from)
	if err != nil {
		return nil, err
	}
	defer unlock()
	items, err := e.copyables(ctx, from)
	if err != nil {
		return nil, err
	}
	there := map[string][]byte{}
	for _, it := range items {
		data, err := to.get(ctx, it.key)
		switch {
		case errors.Is(err, errNoItem):
		case fault.Is(err, fault.KeyringLocked),
			errors.Is(err, vault.ErrNotCreated),
			err != nil && it.source != "" && !e.Overwrite:
			return nil, err
		case err == nil:
			if !bytes.Equal(data, it.data) {
				if err := e.mayOverwrite(it, data); err != nil {
					return nil, err
				}
			}
			there[it.key] = data
		}
	}
	done := &vault.Copied{}
	for _, it := range items {
		err := e.copyItem(ctx, to, it, there[it.key])
		switch {
		case err != nil && strings.HasPrefix(it.key, keptPrefix):
			e.tell("a stored session was not copied, so you may have to enter a code: " + scrub(err.Error(), e.hide))
		case err != nil && strings.HasPrefix(it.key, loginPrefix):
			e.tell("a login was not copied, so you have to log in again: " + scrub(err.Error(), e.hide))
		case err != nil:
			return nil, err
		case it.source != "":
			done.Sources = append(done.Sources, it.source)
		default:
			done.Others++
		}
	}
	slices.Sort(done.Sources)
	return &answer{Copied: done}, nil
}

// admitStored is admit for data stored under a key of a keyring. Damaged data belongs to nobody.
func (e *errand) admitStored(key string, data []byte) error {
	switch {
	case strings.HasPrefix(key, itemPrefix):
		if it, err := decodeItem(data); err == nil {
			return e.admitItem(it)
		}
	case strings.HasPrefix(key, loginPrefix):
		l, err := decodeLogin(data)
		e.hide = append(e.hide, l.secrets()...)
		if err == nil {
			return e.admitLogin(l)
		}
	case strings.HasPrefix(key, sealedPrefix):
		of, _ := unwrap(data)
		return e.admit("the sealed data", of)
	}
	return nil
}

// renewable reports whether the item of a key holds what a person can get again: a stored session or a login.
func renewable(key string) bool {
	return strings.HasPrefix(key, keptPrefix) || strings.HasPrefix(key, loginPrefix)
}

// mayOverwrite refuses to copy an item over one that another registry stored. Without Overwrite, it also refuses
// to copy over anything but a stored session or a login.
func (e *errand) mayOverwrite(it copyable, there []byte) error {
	if err := e.admitStored(it.key, there); err != nil {
		return err
	}
	if e.Overwrite || renewable(it.key) {
		return nil
	}
	what := "copy of the data that import removed from files"
	if it.source != "" {
		what = fmt.Sprintf("key for source %q", it.source)
	}
	return because(fault.Failed, vault.ErrExists, fmt.Sprintf("the keyring %s holds another %s; nothing was copied", e.To, what),
		fault.Hintf("broker keyring migrate --to %s --overwrite", e.To))
}

func (e *errand) copyItem(ctx context.Context, to ring, it copyable, there []byte) error {
	if there != nil && bytes.Equal(there, it.data) {
		return nil
	}
	if err := to.set(ctx, it.key, it.label, it.data); err != nil {
		return err
	}
	back, err := to.get(ctx, it.key)
	if err != nil {
		return fault.New(fault.Keyring, "the keyring %s does not return what was copied to it: %w; the old keyring stays in use", e.To, err)
	}
	if !bytes.Equal(back, it.data) {
		return fault.New(fault.Keyring, "the keyring %s returned other data than was copied to it; the old keyring stays in use", e.To)
	}
	return nil
}

// copyables reads all our items. A key that cannot be read is an error, because continuing would leave it behind.
func (e *errand) copyables(ctx context.Context, from ring) ([]copyable, error) {
	keys, err := from.keys(ctx)
	if err != nil {
		return nil, err
	}
	slices.Sort(keys)
	var sources, others []copyable
	for _, key := range keys {
		isSource := strings.HasPrefix(key, itemPrefix)
		if !isSource && !strings.HasPrefix(key, sealedPrefix) && !renewable(key) {
			continue // the file keyring's check item, or a test item
		}
		data, err := from.get(ctx, key)
		if errors.Is(err, errNoItem) ||
			err != nil && renewable(key) && !fault.Is(err, fault.KeyringLocked) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c := copyable{key: key, label: "broker", data: data}
		if !isSource {
			if err := e.admitStored(key, data); err != nil {
				return nil, err
			}
			others = append(others, c)
			continue
		}
		it, err := decodeItem(data)
		if err == nil && itemKey(it.Name) != key {
			err = errors.New("it belongs to another source")
		}
		if err != nil {
			return nil, fault.New(fault.Keyring, "the keyring's item %s is damaged and was left as it is; nothing was copied: %w", key, err)
		}
		e.hide = append(e.hide, it.secrets()...)
		if err := e.admitItem(it); err != nil {
			return nil, err
		}
		c.source, c.label = it.Name, itemLabel(it.Name)
		sources = append(sources, c)
	}
	return append(sources, others...), nil
}

// clear deletes the items of the old keyring that the new one holds. A stored session or a login may have been renewed
// since, so it is deleted without comparing.
func (e *errand) clear(ctx context.Context, old ring) (*answer, error) {
	to, unlock, err := e.bothRings(ctx, old)
	if err != nil {
		return nil, err
	}
	defer unlock()
	items, err := e.copyables(ctx, old)
	if err != nil {
		return nil, err
	}
	a := &answer{}
	for _, it := range items {
		if !renewable(it.key) {
			data, err := to.get(ctx, it.key)
			if err != nil && !errors.Is(err, errNoItem) {
				return nil, err
			}
			if err != nil || !bytes.Equal(data, it.data) {
				if it.source != "" {
					a.Names = append(a.Names, it.source)
				}
				continue
			}
		}
		if err := old.remove(ctx, it.key); err != nil && !errors.Is(err, errNoItem) {
			return nil, err
		}
	}
	return a, nil
}
