package stssim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"time"
)

// proofSkew is how far the time of a proof may be off.
const proofSkew = 5 * time.Minute

// proofHeader is the header of a DPoP proof, RFC 9449.
type proofHeader struct {
	Type      string `json:"typ"`
	Algorithm string `json:"alg"`
	Key       struct {
		Type    string `json:"kty"`
		Curve   string `json:"crv"`
		X       string `json:"x"`
		Y       string `json:"y"`
		Private string `json:"d"`
	} `json:"jwk"`
}

// proofClaims are what a proof says.
type proofClaims struct {
	Method string  `json:"htm"`
	URL    string  `json:"htu"`
	ID     string  `json:"jti"`
	Issued float64 `json:"iat"`
}

func badProof(why string) *apiError { return invalidLogin("Invalid DPoP proof: " + why) }

// proof verifies the DPoP proof of the request, and returns its public key. A proof counts once.
func (x *exchange) proof() (string, *apiError) {
	if n := len(x.request.Header.Values("DPoP")); n != 1 {
		return "", badProof("there is not exactly one header")
	}
	parts := strings.Split(x.request.Header.Get("DPoP"), ".")
	var header proofHeader
	var claims proofClaims
	if len(parts) != 3 || !decodePart(parts[0], &header) || !decodePart(parts[1], &claims) {
		return "", badProof("it is not a JWT")
	}
	if header.Type != "dpop+jwt" || header.Algorithm != "ES256" {
		return "", badProof("its header is not of type dpop+jwt with ES256")
	}
	point, public := header.public()
	if public == nil {
		return "", badProof("jwk is not a public key on P-256 with two coordinates of 32 bytes")
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(signature) != 64 {
		return "", badProof("its signature does not have 64 bytes")
	}
	hash := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if !ecdsa.Verify(public, hash[:], r, s) {
		return "", badProof("its signature is wrong")
	}
	_, path := placeOf(x.request)
	now, issued := x.sim.nowLocked(), time.Unix(int64(claims.Issued), 0)
	seen := x.sim.world.logins.proofs
	switch {
	case claims.Method != x.request.Method:
		return "", badProof("htm is not the method")
	case claims.URL != x.base()+path:
		return "", badProof("htu is not " + x.base() + path)
	case now.Sub(issued).Abs() > proofSkew:
		return "", badProof("iat is more than 5 minutes off")
	case claims.ID == "":
		return "", badProof("jti is missing")
	case !seen[claims.ID].IsZero():
		return "", badProof("jti was used")
	}
	for id, at := range seen {
		if now.Sub(at) > 2*proofSkew {
			delete(seen, id)
		}
	}
	seen[claims.ID] = now
	return point, nil
}

func decodePart(part string, into any) bool {
	text, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(text, into) == nil
}

// public returns the key of the header, also as bytes; nil if the header has no valid key.
func (h *proofHeader) public() (string, *ecdsa.PublicKey) {
	x, errX := base64.RawURLEncoding.DecodeString(h.Key.X)
	y, errY := base64.RawURLEncoding.DecodeString(h.Key.Y)
	switch {
	case errX != nil || errY != nil || len(x) != 32 || len(y) != 32, // RFC 7518, 6.2.1.2
		h.Key.Type != "EC" || h.Key.Curve != "P-256" || h.Key.Private != "":
		return "", nil
	}
	point := "\x04" + string(x) + string(y)
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), []byte(point))
	if err != nil {
		return "", nil
	}
	return point, public
}
