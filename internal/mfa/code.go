package mfa

import (
	"broker/internal/fault"
	"broker/internal/secret"
)

// codeDigits is the length of a code, the only one that AWS takes.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
const codeDigits = 6

// ParseCode reads a code as people type it: 6 digits, blanks before, between and after
// accepted. The error is a fault.Usage that does not repeat the text.
func ParseCode(s string) (secret.String, error) {
	var digits []byte
	for _, r := range s {
		switch {
		case r == ' ' || r == '\t' || r == '\r' || r == '\n' || r == '\u00a0':
		case r >= '0' && r <= '9' && len(digits) <= codeDigits:
			digits = append(digits, byte(r))
		case r >= '0' && r <= '9':
		default:
			return secret.String{}, fault.New(fault.Usage, "an MFA code is 6 digits, and nothing else")
		}
	}
	if len(digits) != codeDigits {
		return secret.String{}, fault.New(fault.Usage, "an MFA code is exactly 6 digits")
	}
	return secret.New(string(digits)), nil
}
