package process

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"broker/internal/exchange"
	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/profiles"
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
		LoginEnds:       c.LoginEnds,
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
	if q.Page != nil {
		all = append(all, q.Page.Proof)
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
	e.hideSecrets(c.SecretAccessKey, c.SessionToken)
}

// hideSecrets keeps secrets out of all messages.
func (e *errand) hideSecrets(secrets ...secret.String) {
	for _, s := range secrets {
		e.hide = append(e.hide, s.Reveal())
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

// loginJSON is the stored form of a login, version 1.
type loginJSON struct {
	Version   int                   `json:"version"`
	Name      string                `json:"name"`
	Kind      profiles.Kind         `json:"kind"`
	StartURL  string                `json:"start_url,omitempty"`
	ARN       string                `json:"arn,omitempty"`
	Region    string                `json:"region"`
	URL       string                `json:"url,omitempty"`
	Scopes    []string              `json:"scopes,omitempty"`
	Clients   map[string]clientJSON `json:"clients,omitempty"`
	Client    *clientJSON           `json:"client,omitempty"`
	Key       string                `json:"dpop_key,omitempty"`
	Refresh   string                `json:"refresh_token,omitempty"`
	Access    *vault.Credentials    `json:"access,omitempty"`
	OffsetMS  int64                 `json:"offset_ms,omitempty"`
	Ends      time.Time             `json:"ends,omitzero"`
	Dismissed string                `json:"dismissed,omitempty"`
	belongs
}

type clientJSON struct {
	ID      string    `json:"id"`
	Secret  string    `json:"secret,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
}

func storedClient(c exchange.Registration) *clientJSON {
	return &clientJSON{c.ID, c.Secret.Reveal(), c.Expires}
}

func (j clientJSON) registration() exchange.Registration {
	return exchange.Registration{ID: j.ID, Secret: secret.New(j.Secret), Expires: j.Expires}
}

func encodeLogin(l login) ([]byte, error) {
	j := loginJSON{Version: loginVersion, Name: l.Name, Kind: l.Kind, StartURL: l.StartURL, ARN: l.ARN, Region: l.Region,
		URL: l.URL, Scopes: l.Scopes, Key: l.Key.Reveal(), Refresh: l.Refresh.Reveal(),
		OffsetMS: l.Offset.Milliseconds(), Ends: l.Ends, Dismissed: l.Dismissed, belongs: l.belongs}
	for flow, c := range l.Clients {
		if j.Clients == nil {
			j.Clients = map[string]clientJSON{}
		}
		j.Clients[flow] = *storedClient(c)
	}
	if l.Client.ID != "" {
		j.Client = storedClient(l.Client)
	}
	if !l.Access.Expires.IsZero() {
		j.Access = revealCredentials(l.Access)
	}
	data, err := json.Marshal(j)
	if err != nil || len(data) > maxItemBytes/2 {
		return nil, fault.New(fault.Internal, "the login is too large to store, or cannot be encoded")
	}
	return data, nil
}

// decodeLogin parses a stored login. Its errors repeat nothing of it.
func decodeLogin(data []byte) (login, error) {
	var j loginJSON
	if err := record.DecodeStrict(data, &j); err != nil {
		return login{}, err
	}
	if j.Version != loginVersion {
		return login{}, fault.New(fault.Keyring, "it has version %d; this program reads version %d", j.Version, loginVersion)
	}
	l := login{Name: j.Name, Kind: j.Kind, StartURL: j.StartURL, ARN: j.ARN, Region: j.Region, URL: j.URL,
		Scopes: j.Scopes, Clients: map[string]exchange.Registration{}, Key: secret.New(j.Key),
		Refresh: secret.New(j.Refresh),
		Offset:  time.Duration(j.OffsetMS) * time.Millisecond, Ends: j.Ends, Dismissed: j.Dismissed, belongs: j.belongs}
	for flow, c := range j.Clients {
		l.Clients[flow] = c.registration()
	}
	if j.Client != nil {
		l.Client = j.Client.registration()
	}
	if j.Access != nil {
		l.Access = j.Access.Sealed()
	}
	return l, l.check()
}

func (l login) secrets() []string {
	all := []string{l.Key.Reveal(), l.Refresh.Reveal(), l.Client.Secret.Reveal(),
		l.Access.SecretAccessKey.Reveal(), l.Access.SessionToken.Reveal()}
	for _, c := range l.Clients {
		all = append(all, c.Secret.Reveal())
	}
	return all
}

// proof returns the code verifier or the device code that a page brings back, and givenCode the code of the request.
func proof(p *vault.Page) secret.String  { return secret.New(p.Proof) }
func givenCode(q *request) secret.String { return secret.New(q.Code) }

// pageAnswer returns the answer of beginLogin. The proof is the only secret in it.
func pageAnswer(p *vault.Page, proof secret.String, err error) (*answer, error) {
	if err != nil {
		return nil, err
	}
	p.Proof = proof.Reveal()
	return &answer{Page: p}, nil
}

// portalAccess returns an access token of IAM Identity Center as credentials.
func portalAccess(token secret.String, issued, expires time.Time) session.Credentials {
	sum := sha256.Sum256([]byte(token.Reveal()))
	return session.Credentials{AccessKeyID: fmt.Sprintf("sso-%x", sum[:8]), SessionToken: token,
		Issued: issued, Expires: expires}
}

// newDPoPKey makes the key that a console login is bound to, and returns it in the form in which it is stored.
func newDPoPKey() (*ecdsa.PrivateKey, secret.String, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, secret.String{}, err
	}
	text, err := storedKey(key)
	return key, text, err
}

func storedKey(key *ecdsa.PrivateKey) (secret.String, error) {
	der, err := x509.MarshalECPrivateKey(key)
	return secret.New(base64.StdEncoding.EncodeToString(der)), err
}

// parsedKey parses a stored key. Its errors repeat nothing of it.
func parsedKey(stored secret.String) (*ecdsa.PrivateKey, error) {
	der, err := base64.StdEncoding.DecodeString(stored.Reveal())
	if err != nil {
		return nil, errBadKey
	}
	return ecKey(der)
}

func ecKey(der []byte) (*ecdsa.PrivateKey, error) {
	key, err := x509.ParseECPrivateKey(der)
	if err != nil || key.Curve != elliptic.P256() {
		return nil, errBadKey
	}
	return key, nil
}

var errBadKey = errors.New("its DPoP key is not an ECDSA key on P-256")

// foreignPortal is a file of `aws sso login`. Tools add keys of their own.
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sso.html
type foreignPortal struct {
	StartURL     string    `json:"startUrl"`
	Region       string    `json:"region"`
	AccessToken  string    `json:"accessToken"`
	ExpiresAt    time.Time `json:"expiresAt"`
	ClientID     string    `json:"clientId"`
	ClientSecret string    `json:"clientSecret"`
	ClientUntil  time.Time `json:"registrationExpiresAt"`
	RefreshToken string    `json:"refreshToken"`
}

// hash identifies the tokens of the file.
func (f *foreignPortal) hash() string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(f.AccessToken+"\n"+f.RefreshToken)))
}

func (f *foreignPortal) secrets() []string {
	return []string{f.AccessToken, f.RefreshToken, f.ClientSecret}
}

// into returns the login with the tokens of the file. There is no refresh token if nothing could be refreshed with it.
func (f *foreignPortal) into(l login, now time.Time) login {
	l = l.without()
	if f.RefreshToken != "" && f.ClientID != "" && f.ClientSecret != "" && f.ClientUntil.After(now) {
		l.Refresh = secret.New(f.RefreshToken)
		l.Client = exchange.Registration{ID: f.ClientID, Secret: secret.New(f.ClientSecret), Expires: f.ClientUntil}
	}
	if f.AccessToken != "" && f.ExpiresAt.After(now) {
		l.Access = portalAccess(secret.New(f.AccessToken), now.UTC().Truncate(time.Second), f.ExpiresAt.UTC())
	}
	l.Dismissed = f.hash()
	return l
}

// foreignConsole is a file of `aws login`. The key is in SEC1 PEM. Only newer versions write the region.
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sign-in.html
type foreignConsole struct {
	AccessToken struct {
		AccessKeyID     string    `json:"accessKeyId"`
		SecretAccessKey string    `json:"secretAccessKey"`
		SessionToken    string    `json:"sessionToken"`
		AccountID       string    `json:"accountId"`
		ExpiresAt       time.Time `json:"expiresAt"`
	} `json:"accessToken"`
	ClientID     string `json:"clientId"`
	RefreshToken string `json:"refreshToken"`
	Key          string `json:"dpopKey"`
	Region       string `json:"signInRegion"`
}

func (f *foreignConsole) secrets() []string {
	return []string{f.AccessToken.SecretAccessKey, f.AccessToken.SessionToken, f.RefreshToken, f.Key}
}

// into returns the login with the tokens of the file.
func (f *foreignConsole) into(l login, now time.Time) (login, error) {
	block, _ := pem.Decode([]byte(f.Key))
	if block == nil {
		return l, errBadKey
	}
	key, err := ecKey(block.Bytes)
	if err != nil {
		return l, err
	}
	if l.Key, err = storedKey(key); err != nil {
		return l, err
	}
	l.Region = cmp.Or(f.Region, l.Region)
	l.Client, l.Refresh = exchange.Registration{ID: f.ClientID}, secret.New(f.RefreshToken)
	if t := f.AccessToken; t.ExpiresAt.After(now) {
		l.Access = session.Credentials{AccessKeyID: t.AccessKeyID, SecretAccessKey: secret.New(t.SecretAccessKey),
			SessionToken: secret.New(t.SessionToken), Issued: now.UTC().Truncate(time.Second), Expires: t.ExpiresAt.UTC()}
	}
	return l, l.check()
}
