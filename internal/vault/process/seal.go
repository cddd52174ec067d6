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

// Data that `broker import` removes from a file is sealed in the keyring until it is deleted, in separate items
// that nothing else reads.

const sealedPrefix = ourPrefix + "sealed-"

func nothingSealed(name string) error {
	return fault.New(fault.NotFound, "the keyring holds no sealed data for %q", name)
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
		return nil, fault.New(fault.Keyring, "the keyring did not return what was written")
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

// sealedItem reads the sealed data, if our registry may.
func (e *errand) sealedItem(ctx context.Context, r ring) ([]byte, error) {
	data, err := r.get(ctx, hashedKey(sealedPrefix, e.Source))
	if err != nil {
		return nil, err
	}
	of, data := unwrap(data)
	return data, e.admit("the sealed data", of)
}

// sealedMark begins sealed data: the rest of the line says to whom it belongs. Version 0.1.0 wrote no such line.
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
