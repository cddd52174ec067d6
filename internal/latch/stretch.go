package latch

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"

	"golang.org/x/crypto/argon2"

	"broker/internal/secret"
)

// Stretch says how a passphrase is made into a key that takes long to guess: argon2id (RFC 9106).
type Stretch struct {
	Salt      []byte `json:"salt"`
	Passes    uint32 `json:"passes"`
	MemoryKiB uint32 `json:"memory_kib"`
	Lanes     uint8  `json:"lanes"`
}

// Verifier tells a right proof from a wrong one, and does not hold it: who reads the file has to stretch each guess.
type Verifier struct {
	Stretch
	Sum []byte `json:"sha256"` // of the stretched key
}

const (
	saltLength = 16
	keyLength  = 32
	// What is taken of others: enough for any sane choice, and no more memory than a program may take.
	maxPasses = 64
	maxMemory = 1 << 20
)

// NewStretch is the second recommended choice of RFC 9106, section 4: 64 MiB, three passes, four lanes.
func NewStretch() Stretch {
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt) // it never fails: crypto/rand
	return Stretch{Salt: salt, Passes: 3, MemoryKiB: 64 << 10, Lanes: 4}
}

// Check refuses what nobody would choose.
func (s Stretch) Check() error {
	if len(s.Salt) < 8 || len(s.Salt) > 64 || s.Passes < 1 || s.Passes > maxPasses || s.Lanes < 1 || s.MemoryKiB < 8*uint32(s.Lanes) || s.MemoryKiB > maxMemory {
		return errors.New("the passphrase cannot be stretched that way")
	}
	return nil
}

// Proof stretches a passphrase. It takes the memory and a good part of a second, so it is never called in the daemon:
// that is given the proof alone, stays small, and never knows the passphrase.
func (s Stretch) Proof(passphrase secret.String) secret.String {
	key := argon2.IDKey([]byte(passphrase.Reveal()), s.Salt, s.Passes, s.MemoryKiB, s.Lanes, keyLength)
	return secret.New(hex.EncodeToString(key))
}

// Verifier makes the verifier of a proof.
func (s Stretch) Verifier(proof secret.String) *Verifier {
	key, _ := hex.DecodeString(proof.Reveal())
	sum := sha256.Sum256(key)
	return &Verifier{s, sum[:]}
}

// Check refuses a verifier that nothing could open, or anything too easily.
func (v Verifier) Check() error {
	if len(v.Sum) != sha256.Size {
		return errors.New("the verifier of the passphrase is not whole")
	}
	return v.Stretch.Check()
}

// opens reports whether this is the proof, in a time that does not tell how much of it was right.
func (v Verifier) opens(proof secret.String) bool {
	key, err := hex.DecodeString(proof.Reveal())
	sum := sha256.Sum256(key)
	return subtle.ConstantTimeCompare(sum[:], v.Sum) == 1 && err == nil && len(key) == keyLength
}
