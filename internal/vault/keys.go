package vault

import (
	"context"

	"broker/internal/fault"
	"broker/internal/rotate"
)

var _ rotate.Vault = (*Caller)(nil)

// Keys returns what IAM and the keyring have for the user. Denied if the user may not list keys, or only with MFA.
func (c *Caller) Keys(ctx context.Context, of rotate.Signer) (rotate.Keys, error) {
	a, err := c.run(ctx, keyRequest(OpKeys, of, ""))
	if err != nil {
		return rotate.Keys{}, err
	}
	if a.Keys == nil {
		return rotate.Keys{}, fault.New(fault.Internal, "the vault process answered without keys")
	}
	return *a.Keys, nil
}

// CreateKey makes a key in IAM, stores it beside the one in use, and returns its id. It makes none unless the user may
// also deactivate and delete keys. See rotate.Source for the errors.
func (c *Caller) CreateKey(ctx context.Context, of rotate.Signer) (id string, err error) {
	a, err := c.run(ctx, keyRequest(OpNewKey, of, ""))
	if err != nil {
		return "", err
	}
	if a.Info == nil {
		return "", fault.New(fault.Internal, "the vault process answered without a key")
	}
	return a.Info.AccessKeyID, nil
}

// TryKey makes calls that are signed with a stored key. ErrUnknownKey if AWS does not know it.
func (c *Caller) TryKey(ctx context.Context, of rotate.Signer, id string) error {
	return c.tell(ctx, keyRequest(OpTryKey, of, id))
}

// SetKeyActive activates or deactivates a key in IAM. NotFound if the user has no such key.
func (c *Caller) SetKeyActive(ctx context.Context, of rotate.Signer, id string, active bool) error {
	q := keyRequest(OpKeyStatus, of, id)
	q.Active = active
	return c.tell(ctx, q)
}

// DeleteKey deletes a key in IAM that is not in use. A missing one is not an error.
func (c *Caller) DeleteKey(ctx context.Context, of rotate.Signer, id string) error {
	return c.tell(ctx, keyRequest(OpDeleteKey, of, id))
}

// ForgetKey removes a key that is not in use from the keyring. A missing one is not an error.
func (c *Caller) ForgetKey(ctx context.Context, of rotate.Signer, id string) error {
	return c.tell(ctx, keyRequest(OpForgetKey, of, id))
}
