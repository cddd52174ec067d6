// Package stretch derives a key from a passphrase so that guessing takes long, and detects passphrases that are
// weak even so. It refuses parameters that would take too much memory or time.
package stretch

import (
	"crypto/rand"
	"errors"

	"golang.org/x/crypto/argon2"
)

// Params are the parameters of argon2id (RFC 9106).
type Params struct {
	Salt      []byte `json:"salt"`
	Passes    uint32 `json:"passes"`
	MemoryKiB uint32 `json:"memory_kib"`
	Lanes     uint8  `json:"lanes"`
}

// KeyLength is the length of a stretched key in bytes.
const KeyLength = 32

const (
	saltLength = 16
	// Limits for parameters that come from a file: four times the memory and five times the passes of New.
	maxPasses = 16
	maxMemory = 256 << 10
	maxLanes  = 16
)

// New returns the second recommended parameters of RFC 9106, section 4 (64 MiB, three passes, four lanes), with a
// new salt.
func New() Params {
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt) // crypto/rand never fails
	return Params{Salt: salt, Passes: 3, MemoryKiB: 64 << 10, Lanes: 4}
}

// Check rejects parameters that are unreasonable or would take too much memory or time.
func (p Params) Check() error {
	switch {
	case len(p.Salt) < 8 || len(p.Salt) > 64,
		p.Lanes < 1 || p.Lanes > maxLanes,
		p.Passes < 1 || p.Passes > maxPasses,
		p.MemoryKiB < 8*uint32(p.Lanes) || p.MemoryKiB > maxMemory:
		return errors.New("invalid parameters for the key derivation of the passphrase")
	}
	return nil
}

// Key derives the key from a passphrase. It takes MemoryKiB of memory and, with the parameters of New, a good part
// of a second. The parameters must have passed Check.
func (p Params) Key(passphrase string) []byte {
	return argon2.IDKey([]byte(passphrase), p.Salt, p.Passes, p.MemoryKiB, p.Lanes, KeyLength)
}
