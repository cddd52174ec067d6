package lockfile

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"

	"broker/internal/secret"
	"broker/internal/stretch"
)

// Stretch says how to derive a key from a passphrase, so that guessing is slow: argon2id (RFC 9106).
type Stretch stretch.Params

// Verifier distinguishes a right proof from a wrong one without storing the proof. An attacker who reads the file
// must stretch each guess.
type Verifier struct {
	Stretch
	Sum []byte `json:"sha256"` // of the stretched key
}

// NewStretch returns the parameters of stretch.New.
func NewStretch() Stretch { return Stretch(stretch.New()) }

// Check refuses unreasonable parameters.
func (s Stretch) Check() error { return stretch.Params(s).Check() }

// Proof stretches a passphrase. It needs much memory and a good part of a second, so the daemon never calls it.
// The daemon gets only the proof, so it stays small and never knows the passphrase.
func (s Stretch) Proof(passphrase secret.String) secret.String {
	return secret.New(hex.EncodeToString(stretch.Params(s).Key(passphrase.Reveal())))
}

// Verifier returns the verifier of a proof.
func (s Stretch) Verifier(proof secret.String) *Verifier {
	key, _ := hex.DecodeString(proof.Reveal())
	sum := sha256.Sum256(key)
	return &Verifier{s, sum[:]}
}

// Check refuses a verifier that no proof can open, or whose passphrase is too easy to guess.
func (v Verifier) Check() error {
	if len(v.Sum) != sha256.Size {
		return errors.New("the verifier of the passphrase is incomplete")
	}
	return v.Stretch.Check()
}

// opens reports whether the proof is right, in constant time.
func (v Verifier) opens(proof secret.String) bool {
	key, err := hex.DecodeString(proof.Reveal())
	sum := sha256.Sum256(key)
	return subtle.ConstantTimeCompare(sum[:], v.Sum) == 1 && err == nil && len(key) == stretch.KeyLength
}
