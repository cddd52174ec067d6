// Package mfa handles MFA codes. It parses seeds and codes, computes codes, prompts for codes in windows, runs
// mfa_process programs, and keeps the ledger that prevents a second use of a code. It does not send codes, and
// stores neither codes nor seeds.
package mfa

import (
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"broker/internal/secret"
)

// Period is how long one code lasts. AWS virtual MFA devices follow RFC 6238 with 30 seconds and 6 digits only.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_mfa_enable_virtual.html
const Period = 30 * time.Second

const (
	minSeedBytes = 10   // 80 bits; AWS gives 320
	maxSeedBytes = 128  // a longer one is a mistake
	maxSeedText  = 4096 // enough for an otpauth URI with long labels
)

var base32NoPadding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Seed is the secret of a virtual MFA device. The zero Seed gives no codes.
type Seed struct {
	text secret.String
	key  secret.String // base32, upper case, no padding
}

// ParseSeed parses a seed. It accepts base32 as AWS shows it (also with blanks, dashes, lower case or missing
// padding), and an otpauth://totp/ URI with SHA-1, 6 digits and a period of 30 seconds. Its errors say what is
// wrong and never repeat any of the text.
func ParseSeed(s string) (Seed, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return Seed{}, errors.New("the seed is empty")
	}
	if len(s) > maxSeedText {
		return Seed{}, fmt.Errorf("the seed is longer than %d characters", maxSeedText)
	}
	seed := Seed{text: secret.New(s)}
	key := s
	if strings.Contains(s, ":") {
		var err error
		if key, err = parseURI(s); err != nil {
			return Seed{}, err
		}
	}
	key, err := cleanBase32(key)
	if err != nil {
		return Seed{}, err
	}
	seed.key = secret.New(key)
	return seed, nil
}

// parseURI extracts the key from an otpauth URI. The library replaces every value that it does not understand by
// the default, so the parameters are checked here first.
func parseURI(s string) (string, error) {
	// Errors of net/url repeat the text, so they are not passed on.
	key, err := otp.NewKeyFromURL(s)
	if err != nil {
		return "", errors.New("the seed is not a valid otpauth URI")
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", errors.New("the seed is not a valid otpauth URI")
	}
	switch {
	case u.Scheme == "otpauth-migration":
		return "", errors.New("the seed is an export of several accounts; export only this one, as an " +
			"otpauth://totp/ URI")
	case u.Scheme != "otpauth":
		return "", errors.New("the seed is neither base32 nor an otpauth:// URI")
	case strings.EqualFold(key.Type(), "hotp"):
		return "", errors.New("the seed is counter-based (HOTP); AWS only accepts time-based codes (TOTP)")
	case !strings.EqualFold(key.Type(), "totp"):
		return "", errors.New("the seed's URI does not start with otpauth://totp/")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", errors.New("the parameters of the seed's URI cannot be read")
	}
	for _, name := range []string{"secret", "digits", "period", "algorithm", "encoder"} {
		if len(query[name]) > 1 {
			return "", fmt.Errorf("the seed's URI has %q twice", name)
		}
	}
	if query.Has("digits") && query.Get("digits") != "6" {
		return "", errors.New("the seed's codes do not have 6 digits; AWS only accepts 6 digits")
	}
	if query.Has("period") && query.Get("period") != "30" {
		return "", errors.New("the seed's period is not 30 seconds; AWS only accepts 30")
	}
	if query.Has("encoder") {
		return "", errors.New("the seed's URI asks for an encoder; AWS only accepts plain digits")
	}
	// AWS creates the seeds of its virtual devices, always for SHA-1.
	given := strings.ReplaceAll(query.Get("algorithm"), "-", "")
	if query.Has("algorithm") && !strings.EqualFold(given, "SHA1") {
		return "", errors.New("the seed's algorithm is not SHA1; AWS only uses SHA1, so this seed is not from AWS")
	}
	if key.Secret() == "" {
		return "", errors.New("the seed's URI has no secret")
	}
	return key.Secret(), nil
}

// cleanBase32 returns the key in its canonical form.
func cleanBase32(s string) (string, error) {
	s = strings.Map(func(r rune) rune {
		if r == ' ' || r == '\t' || r == '-' {
			return -1
		}
		return r
	}, s)
	s = strings.ToUpper(strings.TrimRight(s, "="))
	// The decoder skips line ends; a seed that has them was pasted with other text.
	if strings.ContainsAny(s, "\r\n") {
		return "", errors.New("the seed has more than one line")
	}
	raw, err := base32NoPadding.DecodeString(s)
	switch {
	case err != nil:
		return "", errors.New("the seed is not base32 (letters A to Z and digits 2 to 7)")
	case len(raw) < minSeedBytes:
		return "", errors.New("the seed is too short; the seed is the long text behind the QR code, not a code")
	case len(raw) > maxSeedBytes:
		return "", errors.New("the seed is too long")
	}
	return base32NoPadding.EncodeToString(raw), nil
}

// IsZero reports whether there is no seed.
func (s Seed) IsZero() bool { return s.key.IsZero() }

// Text returns the trimmed text that ParseSeed was given: the form to store.
func (s Seed) Text() secret.String { return s.text }

// Code returns the code at a time, and the number of its 30-second period since 1970. The zero Seed returns an
// empty secret.
func (s Seed) Code(t time.Time) (secret.String, int64) {
	step := stepOf(t)
	if s.IsZero() || step < 0 {
		return secret.String{}, step
	}
	code, err := hotp.GenerateCodeCustom(s.key.Reveal(), uint64(step), hotp.ValidateOpts{
		Digits:    otp.DigitsSix,
		Algorithm: otp.AlgorithmSHA1,
	})
	if err != nil { // not base32, which ParseSeed has refused
		return secret.String{}, step
	}
	return secret.New(code), step
}

// stepOf returns the number of the 30-second period that contains t.
func stepOf(t time.Time) int64 {
	const seconds = int64(Period / time.Second)
	unix := t.Unix()
	step := unix / seconds
	if unix%seconds < 0 {
		step--
	}
	return step
}

// nextStep returns the start of the period after the one that contains t.
func nextStep(t time.Time) time.Time {
	return time.Unix((stepOf(t)+1)*int64(Period/time.Second), 0)
}
