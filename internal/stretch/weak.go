package stretch

import (
	"strings"
	"unicode/utf8"
)

const (
	minLength = 12 // characters
	minKinds  = 6  // different characters
	minDigits = 20 // characters of an all-digit passphrase
)

// common lists the passphrases, and parts of passphrases, that guessers try first: in lower case, without
// suffixes. The list is short: it catches a careless choice and does not measure a careful one.
var common = []string{
	"123456", "654321", "111111", "000000", "abc123", "abcdef", "access", "admin", "amazon", "awsadmin", "baseball",
	"batman", "broker", "changeit", "changeme", "charlie", "correcthorsebatterystaple", "default", "dragon", "football",
	"freedom", "hello", "iloveyou", "killer", "letmein", "login", "master", "michael", "monkey", "mustang", "passphrase",
	"passw0rd", "password", "p@ssw0rd", "princess", "qazwsx", "qwerty", "qwertz", "secret", "shadow", "sunshine",
	"superman", "test", "trustno1", "welcome", "whatever", "1q2w3e", "1qaz2wsx", "zaq12wsx", "asdfgh", "zxcvbn",
}

// Weak says in a few words why a passphrase is easy to guess. It returns "" if it found no reason, which does not
// prove the passphrase strong.
func Weak(passphrase string) string {
	if utf8.RuneCountInString(passphrase) < minLength {
		return "it has fewer than 12 characters"
	}
	kinds := map[rune]bool{}
	for _, c := range passphrase {
		kinds[c] = true
	}
	if len(kinds) < minKinds {
		return "it repeats a few characters"
	}
	if strings.Trim(passphrase, "0123456789 .-/") == "" {
		if utf8.RuneCountInString(passphrase) < minDigits {
			return "it has only digits"
		}
		return ""
	}
	// An attacker has to guess only what is left after removing common words.
	whole := strings.ToLower(passphrase)
	rest := whole
	for _, word := range common {
		rest = strings.ReplaceAll(rest, word, "")
	}
	rest = strings.Trim(rest, "0123456789 !?.,_-#$")
	if len(rest) < len(whole)/2 && utf8.RuneCountInString(rest) < minLength/2 {
		return "it is made of very common passwords"
	}
	return ""
}
