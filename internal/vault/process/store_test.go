package process

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/secret"
)

// lossyRing is a keyring that does not keep what is written to it.
type lossyRing struct {
	items map[string][]byte
	spoil func([]byte) []byte
}

func (r *lossyRing) lock(context.Context) (func(), error) { return func() {}, nil }
func (r *lossyRing) check(context.Context) error          { return nil }
func (r *lossyRing) asks() bool                           { return false }

func (r *lossyRing) keys(context.Context) ([]string, error) {
	return slices.Collect(maps.Keys(r.items)), nil
}

func (r *lossyRing) get(_ context.Context, key string) ([]byte, error) {
	data, ok := r.items[key]
	if !ok {
		return nil, errNoItem
	}
	return data, nil
}

func (r *lossyRing) set(_ context.Context, key, _ string, data []byte) error {
	if r.spoil != nil {
		data = r.spoil(data)
		r.spoil = nil
	}
	r.items[key] = data
	return nil
}

func (r *lossyRing) remove(_ context.Context, key string) error {
	if _, ok := r.items[key]; !ok {
		return errNoItem
	}
	delete(r.items, key)
	return nil
}

// TestReadBack: data that reads back differently is an error, and the old item is restored.
func TestReadBack(t *testing.T) {
	r := &lossyRing{items: map[string][]byte{}}
	old := item{Name: "security", AccessKeyID: testKeyID, Secret: secret.New("old")}
	if err := store(t.Context(), r, old); err != nil {
		t.Fatal(err)
	}
	before := r.items[itemKey("security")]
	r.spoil = func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("new"), []byte("nwe")) }
	fresh := old
	fresh.Secret = secret.New("new")
	err := store(t.Context(), r, fresh)
	if !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "the old item stays") {
		t.Errorf("got %v", err)
	}
	if !bytes.Equal(r.items[itemKey("security")], before) {
		t.Errorf("the old item is lost: %s", r.items[itemKey("security")])
	}
}

// TestAnotherName: an item under the key of another source is not returned.
func TestAnotherName(t *testing.T) {
	r := &lossyRing{items: map[string][]byte{}}
	if err := store(t.Context(), r, item{Name: "dev", AccessKeyID: testKeyID, Secret: secret.New("x")}); err != nil {
		t.Fatal(err)
	}
	r.items[itemKey("prod")] = r.items[itemKey("dev")]
	if _, err := load(t.Context(), r, "prod"); !fault.Is(err, fault.Keyring) || !strings.Contains(err.Error(), "belongs to another source") {
		t.Errorf("got %v", err)
	}
}

// TestStoreWritesNothingUnreadable: an item that load would refuse does not replace one that it takes.
func TestStoreWritesNothingUnreadable(t *testing.T) {
	r := &lossyRing{items: map[string][]byte{}}
	it := item{Name: "security", AccessKeyID: testKeyID, Secret: secret.New("x")}
	if err := store(t.Context(), r, it); err != nil {
		t.Fatal(err)
	}
	it.Second = exchange.Keys{AccessKeyID: testKeyID, Secret: secret.New("y")}
	if err := store(t.Context(), r, it); !fault.Is(err, fault.Internal) {
		t.Errorf("got %v", err)
	}
	if _, err := load(t.Context(), r, "security"); err != nil {
		t.Error(err)
	}
}
