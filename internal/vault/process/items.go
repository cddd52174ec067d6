package process

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/record"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/vault"
)

// This is the only file of the package in which secrets are plain text: those of requests and answers, and the
// items in the keyring.

// request and answer are the messages of the caller and to the caller.
type (
	request = vault.Request
	answer  = vault.Answer
)

func revealCredentials(c session.Credentials) *vault.Credentials {
	return &vault.Credentials{
		AccessKeyID:     c.AccessKeyID,
		SecretAccessKey: c.SecretAccessKey.Reveal(),
		SessionToken:    c.SessionToken.Reveal(),
		Expires:         c.Expires,
		Issued:          c.Issued,
		Subject:         c.Subject,
	}
}

// parsedSeed parses the seed of a request or an item.
func parsedSeed(s secret.String) (mfa.Seed, error) { return mfa.ParseSeed(s.Reveal()) }

// secretsOf returns the texts of a request that must not appear in a message. A short passphrase is not included:
// it may be a word of the message, and the redaction would reveal it.
func secretsOf(q *request) []string {
	all := append([]string{q.SecretKey, q.Seed, q.Code, q.NextCode}, long(q.Passphrase, q.ForeignPhrase)...)
	if q.With != nil {
		all = append(all, q.With.SecretAccessKey, q.With.SessionToken)
	}
	return all
}

func long(passphrases ...string) []string {
	return slices.DeleteFunc(passphrases, func(p string) bool { return len(p) < 16 })
}

// secrets returns the passphrase and the key, if known.
func (r *fileRing) secrets() []string { return long(r.given.Reveal(), r.old.Reveal(), r.key.Reveal()) }

func (it item) secrets() []string {
	return []string{it.Secret.Reveal(), it.Second.Secret.Reveal(), it.Seed.Reveal(), it.Enrolling.Seed.Reveal()}
}

func sameSecret(a, b item) bool { return a.Secret.Reveal() == b.Secret.Reveal() }

// sessionKeys returns the session with which a request signs calls to IAM.
func sessionKeys(with *vault.Credentials) exchange.Keys {
	return exchange.Keys{AccessKeyID: with.AccessKeyID, Secret: secret.New(with.SecretAccessKey),
		Token: secret.New(with.SessionToken)}
}

// hideCredentials keeps the secrets of a session out of all messages.
func (e *errand) hideCredentials(c session.Credentials) {
	e.hide = append(e.hide, c.SecretAccessKey.Reveal(), c.SessionToken.Reveal())
}

// hideCodes keeps codes out of all messages.
func (e *errand) hideCodes(codes ...secret.String) {
	for _, code := range codes {
		e.hide = append(e.hide, code.Reveal())
	}
}

// itemJSON is the stored form of an item: version 1, or version 2 with a second key or an unfinished enrollment. A
// program that knows only version 1 thus refuses such an item, and drops neither.
type itemJSON struct {
	Version         int            `json:"version"`
	Name            string         `json:"name"`
	AccessKeyID     string         `json:"access_key_id"`
	SecretAccessKey string         `json:"secret_access_key"`
	Second          *keyInItem     `json:"second_key,omitempty"`
	Seed            string         `json:"seed,omitempty"`
	Enrolling       *enrollingJSON `json:"enrolling,omitempty"`
	Created         time.Time      `json:"created"`
	belongs
}

type keyInItem struct {
	AccessKeyID     string `json:"access_key_id"`
	SecretAccessKey string `json:"secret_access_key"`
}

type enrollingJSON struct {
	Serial   string `json:"serial"`
	Made     bool   `json:"made,omitempty"`
	Seed     string `json:"seed,omitempty"`
	Replaces string `json:"replaces,omitempty"`
}

func encodeItem(it item) ([]byte, error) {
	j := itemJSON{Version: itemVersion, Name: it.Name, AccessKeyID: it.AccessKeyID, SecretAccessKey: it.Secret.Reveal(),
		Seed: it.Seed.Reveal(), Created: it.Created, belongs: it.belongs}
	if it.Second.AccessKeyID != "" {
		j.Second = &keyInItem{it.Second.AccessKeyID, it.Second.Secret.Reveal()}
	}
	if d := it.Enrolling; d.Serial != "" {
		j.Enrolling = &enrollingJSON{d.Serial, d.Made, d.Seed.Reveal(), d.Replaces}
	}
	if j.unfinished() {
		j.Version = itemVersionUnfinished
	}
	return json.Marshal(j)
}

// unfinished reports whether the item holds what a rotation or an enrollment has not ended.
func (j *itemJSON) unfinished() bool { return j.Second != nil || j.Enrolling != nil }

func decodeItem(data []byte) (item, error) {
	var j itemJSON
	if err := record.DecodeStrict(data, &j); err != nil {
		return item{}, err
	}
	if j.Version != itemVersion && j.Version != itemVersionUnfinished {
		return item{}, fault.New(fault.Keyring, "it has version %d; this program reads version %d", j.Version, itemVersionUnfinished)
	}
	if (j.Version == itemVersionUnfinished) != j.unfinished() {
		return item{}, errors.New("its version does not fit what it holds")
	}
	it := item{Name: j.Name, AccessKeyID: j.AccessKeyID, Secret: secret.New(j.SecretAccessKey), Seed: secret.New(j.Seed),
		Created: j.Created, belongs: j.belongs}
	if j.Second != nil {
		it.Second = exchange.Keys{AccessKeyID: j.Second.AccessKeyID, Secret: secret.New(j.Second.SecretAccessKey)}
		if err := checkKeyPair(it.Second.AccessKeyID, it.Second.Secret); err != nil {
			return item{}, err
		}
		if it.Second.AccessKeyID == it.AccessKeyID {
			return item{}, errors.New("both of its keys have the same id")
		}
	}
	if d := j.Enrolling; d != nil {
		it.Enrolling = enrolling{d.Serial, d.Made, secret.New(d.Seed), d.Replaces}
	}
	if err := checkKeyPair(it.AccessKeyID, it.Secret); err != nil {
		return item{}, err
	}
	for _, seed := range []secret.String{it.Seed, it.Enrolling.Seed} {
		if _, err := parsedSeed(seed); err != nil && !seed.IsZero() {
			return item{}, err
		}
	}
	return it, nil
}

// revealDevice returns a new device with its seed.
func revealDevice(d exchange.Device) *vault.Device {
	return &vault.Device{Serial: d.Serial, Seed: d.Seed.Reveal()}
}

// keptJSON is the stored form of a session, version 1.
type keptJSON struct {
	Version  int               `json:"version"`
	Source   string            `json:"source"`
	Asked    string            `json:"asked"`
	OffsetMS int64             `json:"offset_ms,omitempty"`
	Session  vault.Credentials `json:"session"`
}

func encodeKept(k kept) ([]byte, error) {
	data, err := json.Marshal(
		keptJSON{keptVersion, k.Source, k.Asked, k.Offset.Milliseconds(), *revealCredentials(k.Credentials)},
	)
	if err != nil || len(data) > vault.MaxMessage/2 {
		return nil, fault.New(fault.Internal, "the session is too large to store, or cannot be encoded")
	}
	return data, nil
}

// decodeKept parses a stored session. Its errors repeat nothing of it.
func decodeKept(data []byte) (kept, error) {
	var j keptJSON
	if err := record.DecodeStrict(data, &j); err != nil {
		return kept{}, err
	}
	if j.Version != keptVersion {
		return kept{}, errors.New("it has another version")
	}
	k := kept{j.Source, j.Asked, time.Duration(j.OffsetMS) * time.Millisecond, j.Session.Sealed()}
	return k, k.check()
}
