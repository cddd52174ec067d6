// Package wire is the protocol between the programs and the daemon, and nothing else.
//
// Over a unix socket whose ends have checked each other's uid, the client
// writes one line and the daemon answers with one line, as often as the client
// likes, one request at a time. A line is one JSON object of at most 64 KiB and ends
// with a newline. Fields that one side does not know are ignored; a verb that the daemon does
// not know is refused with the kind "usage", a version that it does not speak with "failed".
//
//	→ {"v":1,"verb":"get","profile":"product_prod_paul"}
//	← {"v":1,"credential":{"AccessKeyId":"ASIA…","SecretAccessKey":"…","SessionToken":"…","Expiration":"2026-01-02T15:04:05Z"}}
//	← {"v":1,"error":{"kind":"denied","message":"…","hint":"…"}}
//
// A client with a person at its terminal says so ("can_ask"). The daemon may
// then tell why it takes long ("notice") and put questions before its answer; the client sends what the
// person says, and whatever line comes next ends the question, answered or not:
//
//	→ {"v":1,"verb":"get","profile":"product_prod_paul","can_ask":true,"timeout_ms":50000}
//	← {"v":1,"ask":{"id":1,"text":"MFA code for security (…): "}}
//	→ {"v":1,"verb":"answer","id":1,"code":"123456"}      or {"v":1,"verb":"cancel","id":1}
//	← {"v":1,"credential":{…}}
//
// "get" may name a role that no profile has; it is then assumed from what "profile" gives. Without an arn, the
// other fields say what is asked otherwise of the profile's own last role. This is for the local socket alone:
// whatever answers for others refuses a request that has a role.
//
//	→ {"v":1,"verb":"get","profile":"security","role":{"arn":"arn:aws:iam::444455556666:role/audit","duration_seconds":900}}
//
// "serve" gives no credential but a loopback endpoint, where the asking process and those that it starts get
// the profile's session for as long as that process lives, fresh each time, in the format of the AWS container credentials. It takes what
// "get" takes; the token is what a request there has to bring.
//
//	→ {"v":1,"verb":"serve","profile":"product_prod_paul","token_file":true}
//	← {"v":1,"endpoint":{"url":"http://127.0.0.1:20123/credentials/…","token":"…","token_file":"…","profile":"product_prod_paul","region":"eu-west-1"}}
//
// "overlay" puts the session into AWS files of the asking process's own, which go when it ends; "publish" and
// "unpublish" keep one in the shared credentials file and take it out. Their answers hold no secret.
//
//	→ {"v":1,"verb":"overlay","profile":"product_prod_paul"}
//	← {"v":1,"overlay":{"profile":"product_prod_paul","aws_shared_credentials_file":"…","expires":"…"}}
//
// It may want more profiles ("also") in the same files: all of them, or the request fails. The answer names all that it
// served ("profiles"), since an older daemon knows nothing of the others.
//
//	→ {"v":1,"verb":"overlay","profile":"product_dev_paul","also":["product_prod_paul"]}
//	← {"v":1,"overlay":{"profile":"product_dev_paul","profiles":["product_dev_paul","product_prod_paul"],"aws_shared_credentials_file":"…","expires":"…"}}
//
// Of a source it may ask for a session of GetFederationToken instead, since the AWS console takes no other of a user; it is given where the source's own is open:
//
//	→ {"v":1,"verb":"get","profile":"security","role":{"federate":true}}
//
// "console" takes what "get" takes, and gives no session but a token with which a browser signs in. "accounts" lists an
// organisation. What does not fit into one line comes in several, of which all but the last say "more".
//
//	→ {"v":1,"verb":"console","profile":"product_prod_paul"}
//	← {"v":1,"sign_in":{"endpoint":"https://signin.aws.amazon.com/federation","token":"…","profile":"…","expires":"…"}}
//	→ {"v":1,"verb":"accounts","profile":"product_mgmt_paul"}
//	← {"v":1,"more":true,"accounts":[{"id":"111122223333","name":"Paul's"}]}
//	← {"v":1,"accounts":[{"id":"444455556666","name":"prod"}]}
//
// "unlock" may want a passphrase of its own. What is sent is not that but its proof, which the client makes as the
// refusal says ("challenge": argon2id). "passphrase" sets another one; the first time without a proof.
//
//	→ {"v":1,"verb":"unlock"}
//	← {"v":1,"error":{"kind":"locked",…},"challenge":{"salt":"…","passes":3,"memory_kib":65536,"lanes":4}}
//	→ {"v":1,"verb":"unlock","proof":"…"}
//
// "handover" ends the daemon in favour of the process that asks. The line of its answer brings open files
// (SCM_RIGHTS of unix(7)): the lock, the listening socket, and one for each of the ports of its endpoints, in that order. No session is in it.
//
//	→ {"v":1,"verb":"handover"}
//	← {"v":1,"heritage":{"ports":[20123],"locked":false}}
//
// No verb returns a long-lived key, a TOTP seed or an MFA code.
package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// Version is the protocol's version.
const Version = 1

// MaxLine bounds a line, its newline included.
const MaxLine = 64 << 10

// The verbs.
const (
	Ping   = "ping"   // is anybody there, and of what version
	Get    = "get"    // the credentials of Profile
	Serve  = "serve"  // an endpoint with the credentials of Profile, as long as the asking process lives
	Login  = "login"  // opens the MFA session of Profile, with Code if there is one
	Logout = "logout" // forgets the sessions of the source Profile; of all, if empty
	Lock   = "lock"   // drops everything and refuses Get and Login
	Unlock = "unlock" // ends Lock, with Proof where that is wanted; Passphrase opens the file keyring, whose key is kept
	State  = "state"  // what the daemon holds

	Passphrase = "passphrase" // sets the passphrase that Unlock wants to Verifier, none if that is nil; Proof of the one before

	Overlay   = "overlay"   // files with the session of Profile, for the process that asks
	Publish   = "publish"   // keeps the session of Profile in the shared credentials file
	Unpublish = "unpublish" // takes it out again; all, if Profile is empty

	Console  = "console"  // a sign-in to the console with the session of Profile
	Accounts = "accounts" // the accounts of the organisation that the session of Profile is allowed to list

	Handover = "handover" // ends the daemon; its sockets go to the process that asks

	// What a client says to a question, within a request.
	Answer = "answer" // Code is what the person typed
	Cancel = "cancel" // the person said no
	Gone   = "gone"   // there is nobody after all
)

// Request is what a client asks.
type Request struct {
	Verb    string
	Profile string
	// AWSConfig and AWSCredentials are the AWS files as the caller's
	// environment names them, absolute, so that the answer does not depend on which
	// shell started the daemon; empty means the daemon's own.
	AWSConfig      string
	AWSCredentials string
	Client         string // version of the asking program
	Offset         int    // of State: the first session wanted, since not all may fit into a line
	Code           secret.String
	// Passphrase opens the file keyring: its key, which the client got for the passphrase. Older clients send the
	// passphrase itself; an older daemon takes the key for one.
	Passphrase secret.String

	// Timeout is how long the client waits; the daemon answers before. 0 is for ever.
	Timeout time.Duration
	MinTTL  time.Duration // of Get and Overlay: how long the credentials have to last at least
	For     time.Duration // of Publish: when it is taken out; 0 means the daemon's default
	CanAsk  bool          // a person is at the client's terminal
	TTY     string        // that terminal's device; may be empty
	Desktop string        // DISPLAY=… and the like, one on a line, for a window that asks
	ID      int           // of the question that is answered

	Role      *Role    // of Get, Serve, Overlay and Console: a role that no profile names; nil for the profile as it is
	TokenFile bool     // of Serve: the token is wanted in a file too
	Also      []string // of Overlay: the profiles beside Profile

	Proof      secret.String // of the passphrase that Unlock wants, which is not the keyring's
	Verifier   *Verifier     // of Passphrase
	StayLocked bool          // of Unlock: it is for the keyring alone, and does not end Lock

	// Registry, State, Keyring and Home are the paths that the caller's environment means, absolute. The daemon uses its
	// own and no others: where these differ the request is refused. Clients that are too old to name them are served.
	Registry, State, Keyring, Home string
}

// Stretch says how the passphrase that Unlock wants is made into its proof: argon2id, 32 bytes, in hex.
type Stretch struct {
	Salt      []byte `json:"salt"`
	Passes    uint32 `json:"passes"`
	MemoryKiB uint32 `json:"memory_kib"`
	Lanes     uint8  `json:"lanes"`
}

// Verifier tells a right proof from a wrong one.
type Verifier struct {
	Stretch
	Sum []byte `json:"sha256"` // of the 32 bytes
}

// Role is a role that no profile names, or with an empty ARN what is asked
// otherwise of a profile's last role. Empty fields ask for nothing.
type Role struct {
	ARN         string `json:"arn,omitempty"`
	ExternalID  string `json:"external_id,omitempty"`
	Seconds     int    `json:"duration_seconds,omitempty"`
	SessionName string `json:"session_name,omitempty"`
	MFASerial   string `json:"mfa_serial,omitempty"`
	Region      string `json:"region,omitempty"`
	Policy      string `json:"policy,omitempty"` // session policy, JSON
	Tags        []Tag  `json:"tags,omitempty"`   // session tags
	// Federate asks for a session of GetFederationToken of a source, narrowed by Policy or else to looking: for the console.
	Federate bool `json:"federate,omitempty"`
}

// Tag is one session tag.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Response is what the daemon answers.
type Response struct {
	Err        *fault.Error
	Credential *Credential
	Endpoint   *Endpoint
	Status     *Status
	Version    string   // of the daemon's program
	Warnings   []string // one line each; about files, never about secrets
	Count      int      // of sessions that Logout forgot
	Ask        *Ask     // not the answer yet: a question
	Notice     string   // not the answer yet: why it takes long
	Files      *Files   // of Overlay
	Challenge  *Stretch // of an Unlock that was refused: how to make the proof that it wants
	Heritage   *Heritage
	SignIn     *SignIn   // of Console
	Accounts   []Account // of Accounts
	More       bool      // not the answer yet: the first of its accounts
	Route      *Route    // of a failed call to AWS: the way that it took
}

// Route is how calls to AWS leave this machine. Empty fields: directly, with the CAs of the system. No password is in
// it.
type Route struct {
	HTTPSProxy string `json:"https_proxy,omitempty"`
	NoProxy    string `json:"no_proxy,omitempty"`
	CABundle   string `json:"ca_bundle,omitempty"`
}

// Heritage is what one daemon leaves to the next beside its sockets.
type Heritage struct {
	Ports  []int `json:"ports"` // of the endpoints, in the order of the sockets that come with it
	Locked bool  `json:"locked"`
}

// Files are the AWS files that Overlay made for the process that asked.
type Files struct {
	Profile string    `json:"profile"`          // exact name, under which the session stands
	Region  string    `json:"region,omitempty"` // of several the first that there is
	Expires time.Time `json:"expires"`          // of several the first
	// Profiles are the exact names of all, Profile first, where several were asked for. A daemon that is too old to know
	// such requests leaves it empty, and served Profile alone.
	Profiles    []string `json:"profiles,omitempty"`
	Credentials string   `json:"aws_shared_credentials_file"`
	Config      string   `json:"aws_config_file,omitempty"` // empty where the caller's own serves
}

// Ask is a question for the person at the client's terminal.
type Ask struct {
	ID     int    `json:"id"`
	Text   string `json:"text"`
	Reason string `json:"reason,omitempty"` // why it is asked again
}

// Credential is a session as it is handed out.
type Credential struct {
	AccessKeyID     string
	SecretAccessKey secret.String
	SessionToken    secret.String
	Expiration      time.Time
	Profile         string // exact name
	Region          string // of the profile; may be empty
	// Role is the ARN of the role that the request named. A daemon that is too old to know such requests leaves it
	// empty, and the session is not of that role.
	Role string
	// Direct says that the role was assumed with the long-lived key itself: the console may then be told how long it lasts.
	Direct bool
}

// Endpoint is where a process gets its credentials over HTTP.
type Endpoint struct {
	URL       string
	Token     secret.String // what a request has to bring as Authorization
	TokenFile string        // that holds Token and goes with the process; empty if none was wanted
	Profile   string        // exact name
	Region    string        // of the profile; may be empty
	Role      string        // as in Credential
}

// SignIn is what a browser signs in to the console with, within 15 minutes.
type SignIn struct {
	Endpoint   string        // URL that takes the token
	Token      secret.String // for one sign-in
	Profile    string        // exact name
	Expiration time.Time     // of the session that it was made of
}

// Account is one account of an organisation.
type Account struct {
	ID         string `json:"id"`                   // twelve digits
	Name       string `json:"name"`                 // any text, at most 250 bytes
	Management bool   `json:"management,omitempty"` // the organisation belongs to it
}

// Who starts daemons, as Status tells it.
const (
	OnDemand   = "on demand"         // a client, which found none
	ByPerson   = "hand"              // in the foreground
	ByService  = "service"           // a service manager
	ByActivity = "socket activation" // a service manager, for a client
)

// Status is what the daemon holds.
type Status struct {
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Version string    `json:"version"`
	// StartedBy says who started it: one of the constants. Empty of one that is too old to say.
	StartedBy string    `json:"started_by,omitempty"`
	Locked    bool      `json:"locked"`
	Keyring   string    `json:"keyring"` // the backend, empty if none was chosen yet
	Answered  int64     `json:"answered"`
	Refused   int64     `json:"refused"`
	Total     int       `json:"total"`    // sessions there are
	Sessions  []Session `json:"sessions"` // from the request's offset on, as many as fit
	Waiting   []Waiting `json:"waiting,omitempty"`
	Warnings  []string  `json:"warnings,omitempty"`

	Published []Published `json:"published,omitempty"`
	Commands  []Command   `json:"commands,omitempty"`

	Goroutines int `json:"goroutines,omitempty"` // of the daemon; steady, or something in it is not given back

	Setup *Setup `json:"setup,omitempty"` // nil of a daemon that is too old to say
}

// Setup is what a daemon works with: its paths, absolute, and what it has from the settings or from its service unit.
type Setup struct {
	Registry   string `json:"registry"`
	StateDir   string `json:"state_dir"`
	KeyringDir string `json:"keyring_dir"` // of the file keyring
	Socket     string `json:"socket"`
	Route
	Path    []string `json:"path,omitempty"`     // directories of the setting
	LeftOut []string `json:"left_out,omitempty"` // of the environment that started it: one sentence each
}

// Command is a program that was started with files or an endpoint of its own.
type Command struct {
	Mode     string    `json:"mode"`     // of exec: "file" or "server"
	Profiles []string  `json:"profiles"` // whose sessions it has; the ARN of a role that no profile names
	PID      int       `json:"pid"`
	Program  string    `json:"program,omitempty"` // its name, where that can be told
	Since    time.Time `json:"since,omitzero"`
}

// Published is a profile whose session is kept in a shared credentials file, or should be.
type Published struct {
	Profile     string     `json:"profile"`
	File        string     `json:"file"`
	AccessKeyID string     `json:"access_key_id,omitempty"` // empty while it is not in the file
	Expires     *time.Time `json:"expires,omitempty"`       // of the session in the file, which is renewed before
	Until       *time.Time `json:"until,omitempty"`         // nil for as long as the daemon runs unlocked
	Error       string     `json:"error,omitempty"`         // why it is not there, or not renewed
}

// Waiting is a device of which somebody is being asked for a code.
type Waiting struct {
	Source   string `json:"source"`
	Device   string `json:"mfa_serial"`
	Requests int    `json:"requests"` // that wait for it
}

// Session is one session that the daemon holds, or failed to get.
type Session struct {
	ID          string     `json:"id,omitempty"` // the same for all who ask STS the same
	Source      string     `json:"source"`
	Role        string     `json:"role,omitempty"` // ARN; empty for the MFA session
	Profile     string     `json:"profile"`        // that asked for it first
	AccessKeyID string     `json:"access_key_id,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
	Renews      *time.Time `json:"renews,omitempty"`
	LastUse     time.Time  `json:"last_use"`
	Endpoint    string     `json:"endpoint,omitempty"` // of STS, where that is not AWS's own of the region
	Error       string     `json:"error,omitempty"`
}

// The private structs are the only place where a secret becomes JSON.
type requestJSON struct {
	V              int    `json:"v"`
	Verb           string `json:"verb"`
	Profile        string `json:"profile,omitempty"`
	AWSConfig      string `json:"aws_config_file,omitempty"`
	AWSCredentials string `json:"aws_shared_credentials_file,omitempty"`
	Client         string `json:"client,omitempty"`
	Offset         int    `json:"offset,omitempty"`
	Code           string `json:"code,omitempty"`
	Passphrase     string `json:"passphrase,omitempty"`

	TimeoutMS int64  `json:"timeout_ms,omitempty"`
	MinTTLMS  int64  `json:"min_ttl_ms,omitempty"`
	ForMS     int64  `json:"for_ms,omitempty"`
	CanAsk    bool   `json:"can_ask,omitempty"`
	TTY       string `json:"tty,omitempty"`
	Desktop   string `json:"desktop,omitempty"`
	ID        int    `json:"id,omitempty"`
	Role      *Role  `json:"role,omitempty"`
	TokenFile bool   `json:"token_file,omitempty"`

	Also []string `json:"also,omitempty"`

	Proof      string    `json:"proof,omitempty"`
	Verifier   *Verifier `json:"verifier,omitempty"`
	StayLocked bool      `json:"stay_locked,omitempty"`

	Registry string `json:"registry,omitempty"`
	State    string `json:"state_dir,omitempty"`
	Keyring  string `json:"keyring_dir,omitempty"`
	Home     string `json:"home,omitempty"`
}

type responseJSON struct {
	V          int             `json:"v"`
	Error      *errorJSON      `json:"error,omitempty"`
	Credential *credentialJSON `json:"credential,omitempty"`
	Endpoint   *endpointJSON   `json:"endpoint,omitempty"`
	Status     *Status         `json:"status,omitempty"`
	Version    string          `json:"version,omitempty"`
	Warnings   []string        `json:"warnings,omitempty"`
	Count      int             `json:"count,omitempty"`
	Ask        *Ask            `json:"ask,omitempty"`
	Notice     string          `json:"notice,omitempty"`
	Files      *Files          `json:"overlay,omitempty"`
	Challenge  *Stretch        `json:"challenge,omitempty"`
	Heritage   *Heritage       `json:"heritage,omitempty"`
	SignIn     *signInJSON     `json:"sign_in,omitempty"`
	Accounts   []Account       `json:"accounts,omitempty"`
	More       bool            `json:"more,omitempty"`
	Route      *Route          `json:"route,omitempty"`
}

type errorJSON struct {
	Kind    fault.Kind `json:"kind"`
	Message string     `json:"message"`
	Hint    string     `json:"hint,omitempty"`
}

type credentialJSON struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string `json:"SecretAccessKey"`
	SessionToken    string `json:"SessionToken"`
	Expiration      string `json:"Expiration"`
	Profile         string `json:"profile,omitempty"`
	Region          string `json:"region,omitempty"`
	Role            string `json:"role,omitempty"`
	Direct          bool   `json:"direct,omitempty"`
}

type endpointJSON struct {
	URL       string `json:"url"`
	Token     string `json:"token"`
	TokenFile string `json:"token_file,omitempty"`
	Profile   string `json:"profile"`
	Region    string `json:"region,omitempty"`
	Role      string `json:"role,omitempty"`
}

type signInJSON struct {
	Endpoint   string `json:"endpoint"`
	Token      string `json:"token"`
	Profile    string `json:"profile"`
	Expiration string `json:"expires"`
}

// EncodeRequest returns the line of a request.
func EncodeRequest(r Request) ([]byte, error) {
	return line(requestJSON{Version, r.Verb, r.Profile, r.AWSConfig, r.AWSCredentials, r.Client, r.Offset, r.Code.Reveal(), r.Passphrase.Reveal(),
		r.Timeout.Milliseconds(), r.MinTTL.Milliseconds(), r.For.Milliseconds(), r.CanAsk, r.TTY, r.Desktop, r.ID, r.Role, r.TokenFile,
		r.Also, r.Proof.Reveal(), r.Verifier, r.StayLocked, r.Registry, r.State, r.Keyring, r.Home})
}

// DecodeRequest reads the line of a request. One of another version is told
// so even where its fields are of other types.
func DecodeRequest(b []byte) (Request, error) {
	var j requestJSON
	if err := json.Unmarshal(b, &j); err != nil && (j.V == 0 || j.V == Version) {
		return Request{}, fault.New(fault.Usage, "the request is not a JSON object of this protocol")
	}
	if j.V != Version {
		return Request{}, fault.New(fault.Failed, "the request is of protocol version %d, the daemon speaks %d", j.V, Version).WithHint("broker service restart")
	}
	return Request{j.Verb, j.Profile, j.AWSConfig, j.AWSCredentials, j.Client, j.Offset, secret.New(j.Code), secret.New(j.Passphrase),
		time.Duration(j.TimeoutMS) * time.Millisecond, time.Duration(j.MinTTLMS) * time.Millisecond, time.Duration(j.ForMS) * time.Millisecond, j.CanAsk, j.TTY, j.Desktop, j.ID, j.Role, j.TokenFile,
		j.Also, secret.New(j.Proof), j.Verifier, j.StayLocked, j.Registry, j.State, j.Keyring, j.Home}, nil
}

// EncodeResponse returns the line of a response. One that is too long
// becomes a failure that says so.
func EncodeResponse(r Response) ([]byte, error) {
	j := responseJSON{V: Version, Status: r.Status, Version: r.Version, Warnings: r.Warnings, Count: r.Count, Ask: r.Ask, Notice: r.Notice, Files: r.Files,
		Challenge: r.Challenge, Heritage: r.Heritage, Route: r.Route, Accounts: r.Accounts, More: r.More}
	if r.Err != nil {
		j.Error = &errorJSON{r.Err.Kind, fault.Line(r.Err.Message), r.Err.Hint.Shown()}
	}
	if c := r.Credential; c != nil {
		j.Credential = &credentialJSON{
			AccessKeyID:     c.AccessKeyID,
			SecretAccessKey: c.SecretAccessKey.Reveal(),
			SessionToken:    c.SessionToken.Reveal(),
			Expiration:      c.Expiration.UTC().Format(time.RFC3339),
			Profile:         c.Profile,
			Region:          c.Region,
			Role:            c.Role,
			Direct:          c.Direct,
		}
	}
	if e := r.Endpoint; e != nil {
		j.Endpoint = &endpointJSON{e.URL, e.Token.Reveal(), e.TokenFile, e.Profile, e.Region, e.Role}
	}
	if s := r.SignIn; s != nil {
		j.SignIn = &signInJSON{s.Endpoint, s.Token.Reveal(), s.Profile, s.Expiration.UTC().Format(time.RFC3339)}
	}
	return line(j)
}

// DecodeResponse reads the line of a response, with the same care for the
// version. A credential must be whole.
func DecodeResponse(b []byte) (Response, error) {
	var j responseJSON
	if err := json.Unmarshal(b, &j); err != nil && (j.V == 0 || j.V == Version) {
		return Response{}, fault.New(fault.Unreachable, "what answers on the socket is not the broker's daemon")
	}
	if j.V != Version {
		return Response{}, fault.New(fault.Unreachable, "the daemon speaks protocol version %d, this program %d", j.V, Version).WithHint("broker service restart")
	}
	r := Response{Status: j.Status, Version: j.Version, Warnings: j.Warnings, Count: j.Count, Ask: j.Ask, Notice: j.Notice, Files: j.Files,
		Challenge: j.Challenge, Heritage: j.Heritage, Route: j.Route, Accounts: j.Accounts, More: j.More}
	if e := j.Error; e != nil {
		r.Err = &fault.Error{Kind: e.Kind, Message: e.Message, Hint: fault.Hint(e.Hint)}
	}
	if c := j.Credential; c != nil {
		expires, err := time.Parse(time.RFC3339, c.Expiration)
		if err != nil || c.AccessKeyID == "" || c.SecretAccessKey == "" || c.SessionToken == "" {
			return Response{}, fault.New(fault.Unreachable, "the daemon's answer is not a whole credential")
		}
		r.Credential = &Credential{c.AccessKeyID, secret.New(c.SecretAccessKey), secret.New(c.SessionToken), expires, c.Profile, c.Region, c.Role, c.Direct}
	}
	if e := j.Endpoint; e != nil {
		if e.URL == "" || e.Token == "" {
			return Response{}, fault.New(fault.Unreachable, "the daemon's answer is not a whole endpoint")
		}
		r.Endpoint = &Endpoint{e.URL, secret.New(e.Token), e.TokenFile, e.Profile, e.Region, e.Role}
	}
	if s := j.SignIn; s != nil {
		expires, err := time.Parse(time.RFC3339, s.Expiration)
		if err != nil || s.Endpoint == "" || s.Token == "" {
			return Response{}, fault.New(fault.Unreachable, "the daemon's answer is not a whole sign-in")
		}
		r.SignIn = &SignIn{s.Endpoint, secret.New(s.Token), s.Profile, expires}
	}
	return r, nil
}

// ErrTooLong is returned for a line over MaxLine.
var ErrTooLong = errors.New("the line is longer than 64 KiB")

func line(v any) ([]byte, error) {
	var b bytes.Buffer
	// No browser reads this: '<' need not take six bytes.
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	if b.Len() > MaxLine {
		return nil, ErrTooLong
	}
	return b.Bytes(), nil
}

// ReadLine reads one line without its newline. Memory is taken as bytes come,
// so an idle or hostile peer costs little. At the end of input the error is io.EOF, within
// a line io.ErrUnexpectedEOF. The bytes are valid until the next call.
func ReadLine(r *bufio.Reader) ([]byte, error) {
	b, err := r.ReadSlice('\n')
	var all []byte
	for errors.Is(err, bufio.ErrBufferFull) && len(all) < MaxLine {
		all = append(all, b...)
		b, err = r.ReadSlice('\n')
	}
	if all != nil {
		b = append(all, b...)
	}
	switch {
	case len(b) > MaxLine, len(b) == MaxLine && err != nil:
		return nil, ErrTooLong
	case err == nil:
		return bytes.TrimSuffix(b, []byte("\n")), nil
	case errors.Is(err, io.EOF) && len(b) > 0:
		return nil, io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("read a line: %w", err)
}
