package foreign

import (
	"encoding/json"
	"errors"

	"broker/internal/lazyregexp"
	"broker/internal/secret"
)

// This is the only file of the package in which a secret is plain text.

// sessionNames matches the names that aws-vault gives to sessions and tokens in the same keyring:
// vault/sessionkeyring.go and vault/oidctokenkeyring.go of github.com/99designs/aws-vault.
var sessionNames = lazyregexp.New(`^[^,]+,[^,]+,[^,]*,[0-9]+$|^session:[^ ]+:[^ ]*:[^:]+$|^.+ session \([0-9]+\)$|^oidc:`)

// IsSession reports whether an item of aws-vault or Granted is a session or a token, according to its name, and
// not a key.
func IsSession(item string) bool { return sessionNames.MatchString(item) }

// DecodeKey parses an item of aws-vault or Granted: the credentials of an AWS SDK for Go, which that tool writes
// as JSON. It returns only the key. Its errors repeat nothing of the item.
func DecodeKey(data []byte) (id string, key secret.String, err error) {
	var j struct {
		AccessKeyID     string
		SecretAccessKey string
		SessionToken    string
	}
	switch {
	case json.Unmarshal(data, &j) != nil:
		return "", secret.String{}, errors.New("it is not the JSON that was expected")
	case j.SessionToken != "":
		return "", secret.String{}, errors.New("it is a temporary session")
	case j.AccessKeyID == "" || j.SecretAccessKey == "":
		return "", secret.String{}, errors.New("it has only one half of a key, or none")
	}
	return j.AccessKeyID, secret.New(j.SecretAccessKey), nil
}
