package session

import (
	"context"

	"broker/internal/fault"
	"broker/internal/secret"
)

// asking is the period from an Unlock to the next Lock, in which people may be prompted for codes.
type asking struct {
	ctx context.Context
	end context.CancelFunc
}

func newAsking() *asking {
	ctx, end := context.WithCancel(context.Background())
	return &asking{ctx, end}
}

// ask gets a code by a prompt, or fails if a lock comes first. Lock cancels prompts only: AWS calls in flight
// finish, and their results are dropped.
func (b *Broker) ask(ctx context.Context, dev device, prompt Prompt, order []place) (secret.String, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.asking.Load().ctx, cancel)()
	return b.prompts.code(ctx, dev, prompt, order)
}

// Lock drops every session, cancels every prompt and refuses all requests until Unlock. Sessions that the vault
// keeps stay in the keyring and can be used after Unlock.
func (b *Broker) Lock() {
	b.locked.Store(true)
	b.asking.Load().end()
	b.cache.drop(func(*slot) bool { return true })
	b.looked.Clear()
}

// Unlock ends Lock. Lock and Unlock must not run at the same time.
func (b *Broker) Unlock() {
	if !b.locked.Load() {
		return // keep asking: the next Lock must cancel the prompts that are open now
	}
	b.asking.Store(newAsking())
	b.locked.Store(false)
}

// Locked reports whether this Broker is locked.
func (b *Broker) Locked() bool { return b.locked.Load() }

func (b *Broker) refuseLocked() error {
	if b.locked.Load() {
		return fault.New(fault.Locked, "Broker is locked").WithHint("broker unlock")
	}
	return nil
}
