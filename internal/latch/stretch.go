package latch

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"

	"broker/internal/secret"
	"broker/internal/stretch"
)

// Stretch says how a passphrase is made into a key that takes long to guess: argon2id (RFC 9106).
type Stretch stretch.Params

// Verifier tells a right proof from a wrong one, and does not hold it: who reads the file has to stretch each guess.
type Verifier struct {
	Stretch
	Sum []byte `json:"sha256"` // of the stretched key
}

// NewStretch has the parameters of stretch.New.
func NewStretch() Stretch { return Stretch(stretch.New()) }

// Check refuses what nobody would choose.
func (s Stretch) Check() error { return stretch.Params(s).Check() }

// Proof stretches a passphrase. It takes the memory and a good part of a second, so it is never called in the daemon:
// that is given the proof alone, stays small, and never knows the passphrase.
func (s Stretch) Proof(passphrase secret.String) secret.String {
	return secret.New(hex.EncodeToString(stretch.Params(s).Key(passphrase.Reveal())))
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
	return subtle.ConstantTimeCompare(sum[:], v.Sum) == 1 && err == nil && len(key) == stretch.KeyLength
}
