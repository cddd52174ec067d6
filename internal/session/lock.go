package session

import (
	"context"

	"broker/internal/fault"
	"broker/internal/secret"
)

// asking is the time from an Unlock to the next Lock, in which persons may be asked for codes.
type asking struct {
	ctx context.Context
	end context.CancelFunc
}

func newAsking() *asking {
	ctx, end := context.WithCancel(context.Background())
	return &asking{ctx, end}
}

// ask gets a code of the desk, unless it is locked before there is one. What goes on without a person goes on:
// a call that AWS has taken ends best by itself, and nobody is given what it brings.
func (b *Broker) ask(ctx context.Context, dev device, question Question, order []place) (secret.String, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.asking.Load().ctx, cancel)()
	return b.desk.code(ctx, dev, question, order)
}

// Lock drops every session, ends every question and refuses everything until Unlock. What the vault
// keeps stays in the keyring, and is looked for after Unlock.
func (b *Broker) Lock() {
	b.locked.Store(true)
	b.asking.Load().end()
	b.cache.drop(func(*slot) bool { return true })
	b.looked.Clear()
}

// Unlock ends Lock. The two must not be called at the same time.
func (b *Broker) Unlock() {
	if !b.locked.Load() {
		return // the next Lock has to end the questions that are open now
	}
	b.asking.Store(newAsking())
	b.locked.Store(false)
}

// Locked reports whether it is locked.
func (b *Broker) Locked() bool { return b.locked.Load() }

func (b *Broker) refuseLocked() error {
	if b.locked.Load() {
		return fault.New(fault.Locked, "the broker is locked").WithHint("broker unlock")
	}
	return nil
}
