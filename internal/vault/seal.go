package vault

import (
	"context"

	"broker/internal/secret"
)

// Seal stores data under a name, replaces what was stored there, and reads it back. The fault is Usage for more
// than about 60 KiB.
func (c *Caller) Seal(ctx context.Context, name string, data secret.String) error {
	return c.tell(ctx, sealRequest(name, data))
}

// Unseal returns what Seal stored. NotFound if there is nothing.
func (c *Caller) Unseal(ctx context.Context, name string) (secret.String, error) {
	a, err := c.run(ctx, &Request{Op: OpUnseal, Source: name})
	if err != nil {
		return secret.String{}, err
	}
	return a.sealed(), nil
}

// ForgetSealed deletes what Seal stored. NotFound if there is nothing.
func (c *Caller) ForgetSealed(ctx context.Context, name string) error {
	return c.tell(ctx, &Request{Op: OpForget, Source: name})
}
