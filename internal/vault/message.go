package vault

import (
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/rotate"
	"broker/internal/secret"
	"broker/internal/session"
)

// This is the only file of the package in which secrets are plain text: the request on the stdin of the vault
// process, and the answer on its stdout. Only this package and package process may touch a Request or an Answer.

// MaxMessage limits a request and an answer, in bytes.
const MaxMessage = 64 << 10

// Operation names what a request does.
type Operation string

// The operations.
const (
	OpOpen       Operation = "open"
	OpPut        Operation = "put"
	OpSetSeed    Operation = "set-seed"
	OpRemoveSeed Operation = "remove-seed"
	OpRemove     Operation = "remove"
	OpDrop       Operation = "drop"
	OpDescribe   Operation = "describe"
	OpCheck      Operation = "check"
	OpProbe      Operation = "probe"
	OpCreate     Operation = "create"
	OpSeal       Operation = "seal"
	OpUnseal     Operation = "unseal"
	OpForget     Operation = "forget-sealed"
	OpDevices    Operation = "devices"

	OpMakeDevice   Operation = "make-device"
	OpEnableDevice Operation = "enable-device"
	OpKeepDevice   Operation = "keep-device"

	OpForeignKeys Operation = "foreign-keys"
	OpAdopt       Operation = "adopt"

	OpKeys      Operation = "keys"
	OpNewKey    Operation = "new-key"
	OpTryKey    Operation = "try-key"
	OpKeyStatus Operation = "key-status"
	OpDeleteKey Operation = "delete-key"
	OpForgetKey Operation = "forget-key"

	OpBeginLogin  Operation = "begin-login"
	OpFinishLogin Operation = "finish-login"
	OpEndLogin    Operation = "end-login"
	OpLogins      Operation = "logins"

	OpTry     Operation = "try"
	OpMigrate Operation = "migrate"
	OpClear   Operation = "clear"
)

// Request is what the caller writes.
type Request struct {
	Op         Operation         `json:"op"`
	Version    string            `json:"version,omitempty"` // of the calling program; empty if that is the same program
	Backend    string            `json:"backend"`
	Dir        string            `json:"dir,omitempty"`
	StateDir   string            `json:"state_dir,omitempty"`
	Registry   string            `json:"registry,omitempty"`
	TimeoutMS  int64             `json:"timeout_ms"`
	Passphrase string            `json:"passphrase,omitempty"` // of the file keyring, or the key from an earlier answer
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
	// To is the backend that items are copied to; Overwrite lets them replace existing items.
	To        string `json:"to,omitempty"`
	Overwrite bool   `json:"overwrite,omitempty"`
	// With signs calls to IAM in place of the long-lived key. Key is the key that an operation changes, KeyID the one
	// in use.
	With   *Credentials `json:"with,omitempty"`
	Key    string       `json:"key,omitempty"`
	Active bool         `json:"active,omitempty"`
	// UseSeed says that the stored seed belongs to the device that the call names.
	UseSeed bool `json:"use_seed,omitempty"`
	// OffsetMS is AWS's clock minus ours, from an earlier answer.
	OffsetMS int64 `json:"offset_ms,omitempty"`
	// Device is the device of the three operations that enroll one. NextCode is the code after Code.
	Device   *DeviceRequest `json:"device,omitempty"`
	NextCode string         `json:"next_code,omitempty"`
	// Page is a source that people log in to on a web page, and the login that has begun.
	Page *Page `json:"page,omitempty"`
	// Route is the route to AWS; a proxy may have a password.
	Route profiles.Route `json:"route"`
}

// Answer is what the vault process writes: a fault, or the result of the Operation.
type Answer struct {
	Fault       *Fault       `json:"fault,omitempty"`
	Credentials *Credentials `json:"credentials,omitempty"`
	Identity    *Identity    `json:"identity,omitempty"`
	Info        *Info        `json:"info,omitempty"`
	Sealed      string       `json:"sealed,omitempty"`
	Serials     []string     `json:"serials,omitempty"` // of MFA devices
	Names       []string     `json:"names,omitempty"`   // keys in a foreign keyring, sources that were kept, or logins
	Copied      *Copied      `json:"copied,omitempty"`
	Keys        *rotate.Keys `json:"keys,omitempty"`
	Device      *Device      `json:"device,omitempty"`
	Page        *Page        `json:"page,omitempty"` // of OpBeginLogin
	Until       time.Time    `json:"until,omitzero"` // of OpFinishLogin, see session.Logins
	// Adopted means that OpOpen took over the login of aws sso login.
	Adopted bool `json:"adopted,omitempty"`
	// Key opens the file keyring from now on, in place of the passphrase. It is empty if the passphrase is still
	// needed.
	Key string `json:"key,omitempty"`
	// OffsetMS is AWS's clock minus ours. It is valid if OffsetKnown, which means that AWS was called.
	OffsetMS    int64 `json:"offset_ms,omitempty"`
	OffsetKnown bool  `json:"offset_known,omitempty"`
}

// backends returns the keyrings that the request uses.
func (q *Request) backends() []string {
	names := []string{q.Backend, q.To}
	if q.Foreign != nil {
		names = append(names, q.Foreign.Backend)
	}
	return names
}

// ownFile reports whether the request uses our own file keyring, and so carries its passphrase.
func (q *Request) ownFile() bool { return q.Backend == File || q.To == File }

// Fault is a failure in the form in which it passes between the processes.
type Fault struct {
	Kind    fault.Kind `json:"kind"`
	Message string     `json:"message"`
	Hint    string     `json:"hint,omitempty"`
	Reason  string     `json:"reason,omitempty"`  // a name in reasons
	Next    time.Time  `json:"next,omitzero"`     // of an mfa.SpentError
	Damaged string     `json:"damaged,omitempty"` // of an mfa.SpentError
}

// Credentials is a session in the form in which it passes between the processes.
type Credentials struct {
	AccessKeyID     string    `json:"access_key_id"`
	SecretAccessKey string    `json:"secret_access_key"`
	SessionToken    string    `json:"session_token"`
	Expires         time.Time `json:"expires"`
	Issued          time.Time `json:"issued,omitzero"`
	Subject         string    `json:"subject,omitempty"`
	LoginEnds       time.Time `json:"login_ends,omitzero"`
}

// DeviceRequest says how a device is enrolled; see Enrollment.
type DeviceRequest struct {
	Serial   string `json:"serial,omitempty"`
	Replaces string `json:"replaces,omitempty"`
	Store    bool   `json:"store,omitempty"`
	Show     bool   `json:"show,omitempty"`
}

// Page is a source of a kind that has ByPage, and a login that has begun; see profiles.Source and session.Login. Proof
// is the only secret of it that leaves the vault process.
type Page struct {
	Kind       profiles.Kind `json:"kind"`
	StartURL   string        `json:"start_url,omitempty"`
	Scopes     []string      `json:"scopes,omitempty"`
	ARN        string        `json:"arn,omitempty"`
	URL        string        `json:"url,omitempty"`
	Redirect   string        `json:"redirect,omitempty"`
	State      string        `json:"state,omitempty"`
	UserCode   string        `json:"user_code,omitempty"`
	Expires    time.Time     `json:"expires,omitzero"`
	IntervalMS int64         `json:"interval_ms,omitempty"`
	Proof      string        `json:"proof,omitempty"`
	Adopt      string        `json:"adopt,omitempty"`
}

// Device is a device that is being enrolled. Seed is set only in the answer that reports its creation, and only if
// the request had Show: no operation returns a seed that the keyring holds.
type Device struct {
	Serial   string `json:"serial"`
	User     string `json:"user"`
	Seed     string `json:"seed,omitempty"`
	Stored   bool   `json:"stored,omitempty"`
	Enabled  bool   `json:"enabled,omitempty"`
	Replaces string `json:"replaces,omitempty"`
}

// Sealed returns the session with its secrets wrapped.
func (c *Credentials) Sealed() session.Credentials {
	return session.Credentials{
		AccessKeyID:     c.AccessKeyID,
		SecretAccessKey: secret.New(c.SecretAccessKey),
		SessionToken:    secret.New(c.SessionToken),
		Expires:         c.Expires,
		Issued:          c.Issued,
		Subject:         c.Subject,
		LoginEnds:       c.LoginEnds,
	}
}

// In putRequest, adoptRequest, seedRequest, openRequest, keyRequest, deviceRequest, signing, sealRequest and
// withPassphrase the secrets of the caller enter a request.

func putRequest(key Key, endpoint profiles.Endpoint, verify bool) *Request {
	return &Request{Op: OpPut, Source: key.Name, KeyID: key.AccessKeyID, SecretKey: key.Secret.Reveal(),
		Seed: key.Seed.Reveal(), Replace: key.Replace, KeepSeed: key.KeepSeed, Verify: verify, Endpoint: endpoint}
}

func adoptRequest(
	from Foreign,
	passphrase secret.String,
	key, source, keyID string,
	endpoint profiles.Endpoint,
) *Request {
	return &Request{
		Op:            OpAdopt,
		Foreign:       &from,
		ForeignPhrase: passphrase.Reveal(),
		ForeignKey:    key,
		Source:        source,
		KeyID:         keyID,
		Verify:        true,
		KeepSeed:      true,
		Endpoint:      endpoint,
	}
}

func seedRequest(name string, seed secret.String) *Request {
	return &Request{Op: OpSetSeed, Source: name, Seed: seed.Reveal()}
}

func openRequest(source profiles.Source, call session.Call, code secret.String) *Request {
	return &Request{Op: OpOpen, Registry: source.Registry, Source: source.Name, KeyID: source.AccessKeyID, Call: &call,
		Code:    code.Reveal(),
		UseSeed: source.MFASerial == call.MFASerial, Page: pageOf(source, session.Login{})}
}

// pageOf returns a source with a login, or nil for a source of another kind.
func pageOf(source profiles.Source, login session.Login) *Page {
	if !source.Kind.ByPage() {
		return nil
	}
	return &Page{Kind: source.Kind, StartURL: source.StartURL, Scopes: source.Scopes, ARN: source.ARN,
		URL: login.URL, Redirect: login.Redirect, State: login.State, UserCode: login.UserCode, Expires: login.Expires,
		IntervalMS: login.Interval.Milliseconds(), Proof: login.Proof.Reveal(), Adopt: login.Adopt}
}

func loginRequest(op Operation, source profiles.Source, login session.Login, code secret.String) *Request {
	return &Request{Op: op, Registry: source.Registry, Source: source.Name, Endpoint: source.Endpoint,
		Code: code.Reveal(), Page: pageOf(source, login)}
}

// login returns the login of an answer.
func (p *Page) login() session.Login {
	return session.Login{URL: p.URL, Redirect: p.Redirect, State: p.State, UserCode: p.UserCode, Expires: p.Expires,
		Interval: time.Duration(p.IntervalMS) * time.Millisecond, Proof: secret.New(p.Proof)}
}

func keyRequest(op Operation, of rotate.Signer, key string) *Request {
	return &Request{Op: op, Registry: of.Source.Registry, Source: of.Source.Name, KeyID: of.Source.AccessKeyID, Key: key,
		Endpoint: of.Endpoint, With: signing(of.With)}
}

func deviceRequest(op Operation, e Enrollment, code, next secret.String) *Request {
	return &Request{Op: op, Source: e.Source, KeyID: e.KeyID, Endpoint: e.Endpoint, Code: code.Reveal(),
		NextCode: next.Reveal(), With: signing(e.With),
		Device: &DeviceRequest{Serial: e.Serial, Replaces: e.Replaces, Store: e.Store, Show: e.Show}}
}

// signing returns the session that signs calls, or nil.
func signing(with *session.Credentials) *Credentials {
	if with == nil {
		return nil
	}
	return &Credentials{AccessKeyID: with.AccessKeyID, SecretAccessKey: with.SecretAccessKey.Reveal(),
		SessionToken: with.SessionToken.Reveal(), Expires: with.Expires}
}

// seed returns the seed of a new device.
func (d *Device) seed() secret.String { return secret.New(d.Seed) }

func sealRequest(name string, data secret.String) *Request {
	return &Request{Op: OpSeal, Source: name, Sealed: data.Reveal()}
}

func (a *Answer) sealed() secret.String { return secret.New(a.Sealed) }

func (q *Request) withPassphrase(p secret.String) { q.Passphrase = p.Reveal() }

func (a *Answer) key() secret.String { return secret.New(a.Key) }
