package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"

	"broker/internal/fault"
	"broker/internal/record"
)

// What `broker import` takes out of a file is sealed in the keyring until it is forgotten, in items of their own
// that nothing else reads.

const sealedPrefix = ourPrefix + "sealed-"

func nothingSealed(name string) error {
	return fault.New(fault.NotFound, "the keyring holds nothing of %q", name)
}

func (e *errand) seal(ctx context.Context, r ring) (*answer, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	key := hashedKey(sealedPrefix, e.Source)
	if _, err := e.sealedItem(ctx, r); err != nil && !errors.Is(err, errNoItem) {
		return nil, err
	}
	data, err := wrap(e.ours(), []byte(e.Sealed))
	if err != nil {
		return nil, err
	}
	if err := r.set(ctx, key, fault.Line("broker: before the "+e.Source), data); err != nil {
		return nil, err
	}
	if back, err := r.get(ctx, key); err != nil || !bytes.Equal(back, data) {
		return nil, fault.New(fault.Keyring, "the keyring did not give back what was written")
	}
	return &answer{}, nil
}

func (e *errand) unseal(ctx context.Context, r ring) (*answer, error) {
	data, err := e.sealedItem(ctx, r)
	if errors.Is(err, errNoItem) {
		return nil, nothingSealed(e.Source)
	}
	return &answer{Sealed: string(data)}, err
}

func (e *errand) forget(ctx context.Context, r ring) (*answer, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err = e.sealedItem(ctx, r); err == nil {
		err = r.remove(ctx, hashedKey(sealedPrefix, e.Source))
	}
	if errors.Is(err, errNoItem) {
		return nil, nothingSealed(e.Source)
	}
	return &answer{}, err
}

// sealedItem reads what is sealed, if our registry may.
func (e *errand) sealedItem(ctx context.Context, r ring) ([]byte, error) {
	data, err := r.get(ctx, hashedKey(sealedPrefix, e.Source))
	if err != nil {
		return nil, err
	}
	of, data := unwrap(data)
	return data, e.admit("what was sealed", of)
}

// sealedMark begins what is sealed: a line that says to whom it belongs follows it. Version 0.1.0 wrote none.
const sealedMark = "broker-sealed "

func wrap(of belongs, data []byte) ([]byte, error) {
	line, err := json.Marshal(of)
	return slices.Concat([]byte(sealedMark), line, []byte("\n"), data), err
}

func unwrap(stored []byte) (of belongs, data []byte) {
	if rest, marked := bytes.CutPrefix(stored, []byte(sealedMark)); marked {
		line, data, _ := bytes.Cut(rest, []byte("\n"))
		if record.DecodeStrict(line, &of) == nil {
			return of, data
		}
	}
	return belongs{}, stored
}
