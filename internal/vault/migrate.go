package vault

import (
	"context"
	"time"

	"broker/internal/fault"
)

// migrateTimeout limits a move to another keyring: for each item of a password store, gpg runs several times.
const migrateTimeout = 5 * time.Minute

// Copied is what Migrate copied or found already copied.
type Copied struct {
	Sources []string `json:"sources"` // their names
	Others  int      `json:"others"`  // stored sessions, logins, and data that import has sealed
}

// Try writes a test item to a backend, reads it back, replaces it and removes it. It touches nothing else.
func (c *Caller) Try(ctx context.Context, backend string) error {
	return c.tell(ctx, &Request{Op: OpTry, Backend: backend})
}

// Migrate copies every item from one backend to another and reads it back there. No key leaves the vault process,
// and the old items are kept. If the other backend holds a different key for a source, the error is ErrExists,
// unless overwrite is set. A damaged item is a fault of kind Keyring. With either error, nothing was copied.
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

// Clear deletes from a backend all items that the other one holds byte for byte. It returns the names of the
// sources that differ in the other backend; those are kept.
func (c *Caller) Clear(ctx context.Context, old, to string) ([]string, error) {
	a, err := c.run(ctx, &Request{Op: OpClear, Backend: old, To: to})
	if err != nil {
		return nil, err
	}
	return a.Names, nil
}
