package vault

import (
	"context"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// Foreign is the keyring of another program that uses the same library: aws-vault or Granted. Broker reads it and
// never writes it.
type Foreign struct {
	Backend    string // SecretService or File
	Collection string // a collection of the Secret Service
	Dir        string // directory of the file backend, absolute
}

// String returns the place in words for people.
func (f Foreign) String() string {
	if f.Backend == SecretService {
		return "the collection " + f.Collection + " of the Secret Service"
	}
	return f.Dir
}

// ForeignKeys returns the names of the keys in a foreign keyring, without its sessions. If the keyring does not
// exist, there are none. For the file backend that needs no passphrase. Faults: KeyringLocked, Keyring.
func (c *Caller) ForeignKeys(ctx context.Context, from Foreign) ([]string, error) {
	a, err := c.run(ctx, &Request{Op: OpForeignKeys, Backend: from.Backend, Foreign: &from})
	if err != nil {
		return nil, err
	}
	return a.Names, nil
}

// Adopt copies a key from a foreign keyring into Broker's keyring, as a source. The key never leaves the vault
// process. It calls GetCallerIdentity first. If keyID is not empty, any other key is refused. The passphrase is
// that of the foreign keyring, for the file backend. Adopt returns the ID and the identity of the key. Faults:
// those of Put, NotFound, and KeyringLocked, which wraps ErrForeignPassphrase.
func (c *Caller) Adopt(
	ctx context.Context,
	from Foreign,
	passphrase secret.String,
	key, source, keyID string,
	endpoint profiles.Endpoint,
) (string, Identity, error) {
	a, err := c.run(ctx, adoptRequest(from, passphrase, key, source, keyID, endpoint))
	if err != nil {
		return "", Identity{}, err
	}
	if a.Info == nil || a.Identity == nil {
		return "", Identity{}, fault.New(fault.Internal, "the vault process answered without an identity")
	}
	return a.Info.AccessKeyID, *a.Identity, nil
}
