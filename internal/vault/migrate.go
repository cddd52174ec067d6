package vault

import (
	"context"
	"time"

	"broker/internal/fault"
)

// migrateTimeout bounds a move to another keyring: each item of a password store is some runs of gpg.
const migrateTimeout = 5 * time.Minute

// Copied is what Migrate copied, or found there already.
type Copied struct {
	Sources []string `json:"sources"` // their names
	Others  int      `json:"others"`  // kept sessions, and what import has sealed
}

// Try writes an item of its own to a backend, reads it back, replaces it and removes it. Nothing else is touched.
func (c *Caller) Try(ctx context.Context, backend string) error {
	_, err := c.run(ctx, &Request{Op: OpTry, Backend: backend})
	return err
}

// Migrate copies every item of one backend to another and reads it back there; no key leaves the vault process, and the
// old items stay. If the other backend holds another key for a source, the error is ErrExists, unless overwrite. A
// damaged item is Keyring. With either error, nothing was copied.
func (c *Caller) Migrate(ctx context.Context, from, to string, overwrite bool) (Copied, error) {
	a, err := c.run(ctx, &Request{Op: OpMigrate, Backend: from, To: to, Overwrite: overwrite})
	if err != nil {
		return Copied{}, err
	}
	if a.Copied == nil {
		return Copied{}, fault.New(fault.Internal, "the vault process answered without saying what it copied")
	}
	return *a.Copied, nil
}

// Clear deletes from a backend all items that another one holds byte for byte. It returns the names of the sources that
// differ in the other backend; those are kept.
func (c *Caller) Clear(ctx context.Context, old, to string) ([]string, error) {
	a, err := c.run(ctx, &Request{Op: OpClear, Backend: old, To: to})
	if err != nil {
		return nil, err
	}
	return a.Names, nil
}
