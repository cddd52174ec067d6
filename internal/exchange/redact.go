package exchange

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/secret"
)

// maxWords limits how much of a text from the network is used, in bytes.
const maxWords = 4 << 10

// signature matches a SigV4 signature or payload hash in a text. Together with the rest of the request, which
// usually surrounds it, it could be replayed for 15 minutes.
var signature = lazyregexp.New(`[0-9a-fA-F]{64}`)

// words makes a text from the network safe to show: AWS's own words on one line, without the secrets of this call.
// Not only hostile servers need this: AWS itself answers a wrong signature with the canonical request, which
// contains the session token.
func (a *attempt) words(s string) string {
	s = s[:min(len(s), maxWords)]
	if i := strings.Index(s, "The Canonical String for this request"); i > 0 {
		s = s[:i]
	}
	k := a.request.keys
	hide := []string{k.Secret.Reveal(), k.Token.Reveal(), a.request.code.Reveal(), a.request.next.Reveal(),
		a.handedOut.SecretAccessKey.Reveal(), a.handedOut.SessionToken.Reveal()}
	for _, sent := range a.request.secrets {
		hide = append(hide, sent.Reveal())
	}
	s = redact(s, hide...)
	s = signature.ReplaceAllString(s, "[redacted]")
	if k.AccessKeyID != "" {
		s = strings.ReplaceAll(s, k.AccessKeyID, secret.Tail(k.AccessKeyID))
	}
	return strings.TrimSpace(fault.Line(s))
}

func (a *attempt) keyTail() string { return secret.Tail(a.request.keys.AccessKeyID) }

// grain is the length of the shortest piece of a secret that is removed from a text: a server may cut or wrap what
// it echoes.
const grain = 8

// redact removes the secrets from s, complete or in pieces, plain or encoded, in any case. A secret shorter than a
// grain is removed only as a whole.
func redact(s string, secrets ...string) string {
	low := lowerASCII(s)
	at := make(map[string][]int) // the positions of each grain in the text
	for i := 0; i+grain <= len(low); i++ {
		at[low[i:i+grain]] = append(at[low[i:i+grain]], i)
	}
	hidden := make([]bool, len(s))
	hide := func(from, n int) {
		for i := from; i < from+n; i++ {
			hidden[i] = true
		}
	}
	for _, plain := range secrets {
		for _, form := range forms(plain) {
			form = lowerASCII(form)
			if len(form) < grain {
				for i := 0; i+len(form) <= len(low); i++ {
					if low[i:i+len(form)] == form {
						hide(i, len(form))
					}
				}
				continue
			}
			for i := 0; i+grain <= len(form); i++ {
				for _, j := range at[form[i:i+grain]] {
					hide(j, grain)
				}
				// Once is enough: a token of one repeated letter must not cost seconds.
				delete(at, form[i:i+grain])
			}
		}
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case !hidden[i]:
			b.WriteByte(s[i])
		case i == 0 || !hidden[i-1]:
			b.WriteString("[redacted]")
		}
	}
	return b.String()
}

// forms returns the encodings in which an honest server may echo a secret.
func forms(plain string) []string {
	if plain == "" {
		return nil
	}
	return []string{
		plain,
		url.QueryEscape(plain),
		url.PathEscape(plain),
		base64.StdEncoding.EncodeToString([]byte(plain)),
		base64.RawURLEncoding.EncodeToString([]byte(plain)),
		hex.EncodeToString([]byte(plain)),
	}
}

// lowerASCII keeps the length, which strings.ToLower may change.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
