package process

import (
	"context"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/vault"
)

func openOwnFile(_ context.Context, q *request) (ring, error) {
	r, err := openFile(q.Dir, secret.New(q.Passphrase))
	if err != nil {
		return nil, err
	}
	r.readOnly = q.Op == vault.OpProbe
	return r, nil
}

// openRing opens the requested backend, and never another one.
func openRing(ctx context.Context, q *request) (ring, error) {
	if q.Backend == "" {
		return nil, fault.New(fault.Internal, "the request to the vault names no keyring backend")
	}
	if err := vault.CheckBackend(q.Backend); err != nil {
		return nil, err
	}
	return openers[q.Backend](ctx, q)
}
