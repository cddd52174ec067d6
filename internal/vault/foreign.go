package vault

import (
	"context"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// Foreign is the keyring of another program that keeps its keys through the same library: aws-vault and Granted. It is
// read, and never written.
type Foreign struct {
	Backend    string // SecretService or File
	Collection string // of the Secret Service
	Dir        string // of the file backend, absolute
}

// String is the place as a person knows it.
func (f Foreign) String() string {
	if f.Backend == SecretService {
		return "the collection " + f.Collection + " of the Secret Service"
	}
	return f.Dir
}

// ForeignKeys are the names of the keys in a foreign keyring, without its sessions. A place that is not there has none. The
// file backend needs no passphrase for that. Faults: KeyringLocked, Keyring.
func (c *Caller) ForeignKeys(ctx context.Context, from Foreign) ([]string, error) {
	a, err := c.run(ctx, &Request{Op: OpForeignKeys, Backend: from.Backend, Foreign: &from})
	if err != nil {
		return nil, err
	}
	return a.Names, nil
}

// Adopt copies a key of a foreign keyring into ours as a source; it never leaves the vault process. GetCallerIdentity is
// asked first. A keyID that is not empty is the only one that is taken. The passphrase is the foreign one's, for the
// file backend. Answers the key's id and whose it is. Faults are those of Put, NotFound, and KeyringLocked that wraps
// ErrForeignPassphrase.
func (c *Caller) Adopt(ctx context.Context, from Foreign, passphrase secret.String, key, source, keyID string, endpoint profiles.Endpoint) (string, Identity, error) {
	a, err := c.run(ctx, adoptRequest(from, passphrase, key, source, keyID, endpoint))
	if err != nil {
		return "", Identity{}, err
	}
	if a.Info == nil || a.Identity == nil {
		return "", Identity{}, fault.New(fault.Internal, "the vault process answered without an identity")
	}
	return a.Info.AccessKeyID, *a.Identity, nil
}
