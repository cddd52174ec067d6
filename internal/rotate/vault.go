package rotate

import (
	"context"

	"broker/internal/profiles"
	"broker/internal/session"
)

// Signer is the source whose key is rotated, and what signs its calls. Its AccessKeyID is the key in use.
type Signer struct {
	Source   profiles.Source
	Endpoint profiles.Endpoint // of IAM and STS
	// With is the session that signs calls to IAM. If it is nil, the key in use signs them.
	With *session.Credentials
}

// Vault makes the calls that need a long-lived key, or the keyring. It is implemented by vault.Caller. The methods are
// those of a Source.
type Vault interface {
	Keys(ctx context.Context, of Signer) (Keys, error)
	CreateKey(ctx context.Context, of Signer) (id string, err error)
	TryKey(ctx context.Context, of Signer, id string) error
	SetKeyActive(ctx context.Context, of Signer, id string, active bool) error
	DeleteKey(ctx context.Context, of Signer, id string) error
	ForgetKey(ctx context.Context, of Signer, id string) error
}
