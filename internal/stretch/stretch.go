// Package stretch owns how a passphrase becomes a key that takes long to guess, and which passphrases are weak all the
// same. It refuses parameters that would take more memory or time than a program may.
package stretch

import (
	"crypto/rand"
	"errors"

	"golang.org/x/crypto/argon2"
)

// Params are those of argon2id (RFC 9106).
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
	// Bounds for parameters that were read: four times the memory and five times the passes of New.
	maxPasses = 16
	maxMemory = 256 << 10
	maxLanes  = 16
)

// New returns the second recommended choice of RFC 9106, section 4 (64 MiB, three passes, four lanes), with a new salt.
func New() Params {
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt) // it never fails: crypto/rand
	return Params{Salt: salt, Passes: 3, MemoryKiB: 64 << 10, Lanes: 4}
}

// Check refuses parameters that nobody would choose, or that would take too much memory or time.
func (p Params) Check() error {
	switch {
	case len(p.Salt) < 8 || len(p.Salt) > 64,
		p.Lanes < 1 || p.Lanes > maxLanes,
		p.Passes < 1 || p.Passes > maxPasses,
		p.MemoryKiB < 8*uint32(p.Lanes) || p.MemoryKiB > maxMemory:
		return errors.New("the passphrase cannot be stretched that way")
	}
	return nil
}

// Key stretches a passphrase. It takes MemoryKiB of memory and, with the parameters of New, a good part of a second.
// The parameters must have passed Check.
func (p Params) Key(passphrase string) []byte {
	return argon2.IDKey([]byte(passphrase), p.Salt, p.Passes, p.MemoryKiB, p.Lanes, KeyLength)
}
