package mfa

import (
	"broker/internal/fault"
	"broker/internal/secret"
)

// codeDigits is the length of a code, the only length that AWS accepts.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
const codeDigits = 6

// ParseCode parses a code as people type it: 6 digits, with blanks allowed before, between and after them. The
// error is a fault.Usage that does not repeat the text.
func ParseCode(s string) (secret.String, error) {
	var digits []byte
	for _, r := range s {
		switch {
		case r == ' ' || r == '\t' || r == '\r' || r == '\n' || r == '\u00a0':
		case r >= '0' && r <= '9' && len(digits) <= codeDigits:
			digits = append(digits, byte(r))
		case r >= '0' && r <= '9':
		default:
			return secret.String{}, fault.New(fault.Usage, "an MFA code has exactly 6 digits")
		}
	}
	if len(digits) != codeDigits {
		return secret.String{}, fault.New(fault.Usage, "an MFA code has exactly 6 digits")
	}
	return secret.New(string(digits)), nil
}
