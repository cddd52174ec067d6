package vault

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// This file is the only one of the package in which secrets are plain text: the
// request on the vault's stdin, the answer on its stdout, and the items in the keyring.

const maxMessage = 64 << 10

type operation string

const (
	opOpen       operation = "open"
	opPut        operation = "put"
	opSetSeed    operation = "set-seed"
	opRemoveSeed operation = "remove-seed"
	opRemove     operation = "remove"
	opDrop       operation = "drop"
	opDescribe   operation = "describe"
	opCheck      operation = "check"
	opProbe      operation = "probe"
	opCreate     operation = "create"
	opSeal       operation = "seal"
	opUnseal     operation = "unseal"
	opForget     operation = "forget-sealed"
	opDevices    operation = "devices"

	opForeignKeys operation = "foreign-keys"
	opAdopt       operation = "adopt"

	opTry     operation = "try"
	opMigrate operation = "migrate"
	opClear   operation = "clear"
)

// request is what the caller writes.
type request struct {
	Op         operation         `json:"op"`
	Backend    string            `json:"backend"`
	Dir        string            `json:"dir,omitempty"`
	StateDir   string            `json:"state_dir,omitempty"`
	Registry   string            `json:"registry,omitempty"`
	TimeoutMS  int64             `json:"timeout_ms"`
	Passphrase string            `json:"passphrase,omitempty"` // of the file keyring, or the key of an earlier answer
	Source     string            `json:"source,omitempty"`
	KeyID      string            `json:"access_key_id,omitempty"`
	SecretKey  string            `json:"secret_access_key,omitempty"`
	Seed       string            `json:"seed,omitempty"`
	Code       string            `json:"code,omitempty"`
	Replace    bool              `json:"replace,omitempty"`
	KeepSeed   bool              `json:"keep_seed,omitempty"`
	Verify     bool              `json:"verify,omitempty"`
	Endpoint   profiles.Endpoint `json:"endpoint"`
	Call       *session.Call     `json:"call,omitempty"`
	Sealed     string            `json:"sealed,omitempty"`
	// Foreign is the keyring of another program, ForeignKey the name of an item in it.
	Foreign       *Foreign `json:"foreign,omitempty"`
	ForeignKey    string   `json:"foreign_key,omitempty"`
	ForeignPhrase string   `json:"foreign_passphrase,omitempty"`
	// To is the backend that items are copied to; Overwrite lets them take the place of others.
	To        string `json:"to,omitempty"`
	Overwrite bool   `json:"overwrite,omitempty"`
	// UseSeed says that the stored seed is of the device that the call names.
	UseSeed bool `json:"use_seed,omitempty"`
	// OffsetMS is AWS's clock minus ours, as an earlier answer told.
	OffsetMS int64 `json:"offset_ms,omitempty"`
	// Route is the way to AWS; a proxy may have a password.
	Route exchange.Route `json:"route"`
}

// answer is what the vault process writes: a failure, or what the operation gives.
type answer struct {
	Fault       *answerFault       `json:"fault,omitempty"`
	Credentials *answerCredentials `json:"credentials,omitempty"`
	Identity    *Identity          `json:"identity,omitempty"`
	Info        *Info              `json:"info,omitempty"`
	Sealed      string             `json:"sealed,omitempty"`
	Serials     []string           `json:"serials,omitempty"` // of MFA devices
	Names       []string           `json:"names,omitempty"`   // of keys in a foreign keyring, or of sources that stay
	Copied      *Copied            `json:"copied,omitempty"`
	// Key opens the file keyring from then on, in place of the passphrase; empty where that is still needed.
	Key string `json:"key,omitempty"`
	// OffsetMS is AWS's clock minus ours; it means something where AWS was asked.
	OffsetMS    int64 `json:"offset_ms,omitempty"`
	OffsetKnown bool  `json:"offset_known,omitempty"`
}

// backends are the keyrings that the request is about.
func (q *request) backends() []string {
	names := []string{q.Backend, q.To}
	if q.Foreign != nil {
		names = append(names, q.Foreign.Backend)
	}
	return names
}

// ownFile reports whether the request is about our own file keyring, whose passphrase it then brings.
func (q *request) ownFile() bool { return q.Backend == File || q.To == File }

type answerFault struct {
	Kind    fault.Kind `json:"kind"`
	Message string     `json:"message"`
	Hint    string     `json:"hint,omitempty"`
	Reason  string     `json:"reason,omitempty"`  // see reasons
	Next    time.Time  `json:"next,omitzero"`     // of an mfa.SpentError
	Damaged string     `json:"damaged,omitempty"` // of an mfa.SpentError
}

type answerCredentials struct {
	AccessKeyID     string    `json:"access_key_id"`
	SecretAccessKey string    `json:"secret_access_key"`
	SessionToken    string    `json:"session_token"`
	Expires         time.Time `json:"expires"`
	Issued          time.Time `json:"issued,omitzero"`
	Subject         string    `json:"subject,omitempty"`
}

func revealCredentials(c session.Credentials) *answerCredentials {
	return &answerCredentials{
		AccessKeyID:     c.AccessKeyID,
		SecretAccessKey: c.SecretAccessKey.Reveal(),
		SessionToken:    c.SessionToken.Reveal(),
		Expires:         c.Expires,
		Issued:          c.Issued,
		Subject:         c.Subject,
	}
}

func (c *answerCredentials) sealed() session.Credentials {
	return session.Credentials{
		AccessKeyID:     c.AccessKeyID,
		SecretAccessKey: secret.New(c.SecretAccessKey),
		SessionToken:    secret.New(c.SessionToken),
		Expires:         c.Expires,
		Issued:          c.Issued,
		Subject:         c.Subject,
	}
}

// putRequest, adoptRequest, seedRequest, openRequest, sealRequest and withPassphrase are where the caller's secrets enter a request.

func putRequest(key Key, endpoint profiles.Endpoint, verify bool) *request {
	return &request{Op: opPut, Source: key.Name, KeyID: key.AccessKeyID, SecretKey: key.Secret.Reveal(),
		Seed: key.Seed.Reveal(), Replace: key.Replace, KeepSeed: key.KeepSeed, Verify: verify, Endpoint: endpoint}
}

func adoptRequest(from Foreign, passphrase secret.String, key, source, keyID string, endpoint profiles.Endpoint) *request {
	return &request{Op: opAdopt, Foreign: &from, ForeignPhrase: passphrase.Reveal(), ForeignKey: key, Source: source, KeyID: keyID,
		Verify: true, KeepSeed: true, Endpoint: endpoint}
}

func (q *request) foreignPassphrase() secret.String { return secret.New(q.ForeignPhrase) }

// decodeForeign reads the item of aws-vault or Granted: the credentials of an AWS SDK for Go as it writes them in JSON, of
// which only the key counts. Its errors repeat nothing of it.
func decodeForeign(data []byte) (id string, key secret.String, err error) {
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

func seedRequest(name string, seed secret.String) *request {
	return &request{Op: opSetSeed, Source: name, Seed: seed.Reveal()}
}

func openRequest(source profiles.Source, call session.Call, code secret.String) *request {
	return &request{Op: opOpen, Registry: source.Registry, Source: source.Name, KeyID: source.AccessKeyID, Call: &call,
		Code:    code.Reveal(),
		UseSeed: source.MFASerial == call.MFASerial}
}

func sealRequest(name string, data secret.String) *request {
	return &request{Op: opSeal, Source: name, Sealed: data.Reveal()}
}

func (a *answer) sealed() secret.String { return secret.New(a.Sealed) }

func (q *request) withPassphrase(p secret.String) { q.Passphrase = p.Reveal() }

func (a *answer) withKey(key secret.String) { a.Key = key.Reveal() }

func (a *answer) key() secret.String { return secret.New(a.Key) }

// parsedSeed reads the seed that a request or an item holds.
func parsedSeed(s secret.String) (mfa.Seed, error) { return mfa.ParseSeed(s.Reveal()) }

// secrets are the texts of a request that no message may repeat. A short passphrase is not among them: it may be a
// word of the message, and the gap would tell it.
func (q *request) secrets() []string {
	return append([]string{q.SecretKey, q.Seed, q.Code}, long(q.Passphrase, q.ForeignPhrase)...)
}

func long(passphrases ...string) []string {
	return slices.DeleteFunc(passphrases, func(p string) bool { return len(p) < 16 })
}

// secrets are the passphrase and the key, as far as they are known.
func (r *fileRing) secrets() []string { return long(r.given.Reveal(), r.old.Reveal(), r.key.Reveal()) }

func (it item) secrets() []string { return []string{it.Secret.Reveal(), it.Seed.Reveal()} }

func sameSecret(a, b item) bool { return a.Secret.Reveal() == b.Secret.Reveal() }

// hideCredentials makes sure that no message repeats the secrets of a session.
func (e *errand) hideCredentials(c session.Credentials) {
	e.hide = append(e.hide, c.SecretAccessKey.Reveal(), c.SessionToken.Reveal())
}

// itemJSON is the stored form of an item, version 1.
type itemJSON struct {
	Version         int       `json:"version"`
	Name            string    `json:"name"`
	AccessKeyID     string    `json:"access_key_id"`
	SecretAccessKey string    `json:"secret_access_key"`
	Seed            string    `json:"seed,omitempty"`
	Created         time.Time `json:"created"`
	belongs
}

func encodeItem(it item) ([]byte, error) {
	return json.Marshal(itemJSON{itemVersion, it.Name, it.AccessKeyID, it.Secret.Reveal(), it.Seed.Reveal(), it.Created,
		it.belongs})
}

func decodeItem(data []byte) (item, error) {
	var j itemJSON
	if err := strictJSON(data, &j); err != nil {
		return item{}, err
	}
	if j.Version != itemVersion {
		return item{}, fault.New(fault.Keyring, "it is of version %d; this program knows version %d", j.Version, itemVersion)
	}
	it := item{j.Name, j.AccessKeyID, secret.New(j.SecretAccessKey), secret.New(j.Seed), j.Created, j.belongs}
	if err := checkKeyPair(it.AccessKeyID, it.Secret); err != nil {
		return item{}, err
	}
	if !it.Seed.IsZero() {
		if _, err := parsedSeed(it.Seed); err != nil {
			return item{}, err
		}
	}
	return it, nil
}

// keptJSON is the stored form of a kept session, version 1.
type keptJSON struct {
	Version  int               `json:"version"`
	Source   string            `json:"source"`
	Asked    string            `json:"asked"`
	OffsetMS int64             `json:"offset_ms,omitempty"`
	Session  answerCredentials `json:"session"`
}

func encodeKept(k kept) ([]byte, error) {
	data, err := json.Marshal(keptJSON{keptVersion, k.Source, k.Asked, k.Offset.Milliseconds(), *revealCredentials(k.Credentials)})
	if err != nil || len(data) > maxMessage/2 {
		return nil, fault.New(fault.Internal, "the session is too large to keep, or cannot be written down")
	}
	return data, nil
}

// decodeKept reads a kept session. Its errors repeat nothing of it.
func decodeKept(data []byte) (kept, error) {
	var j keptJSON
	if err := strictJSON(data, &j); err != nil {
		return kept{}, err
	}
	if j.Version != keptVersion {
		return kept{}, errors.New("it is of another version")
	}
	k := kept{j.Source, j.Asked, time.Duration(j.OffsetMS) * time.Millisecond, j.Session.sealed()}
	return k, k.check()
}
