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
// While the question stands at another terminal, the daemon offers it to those that wait ("offer"):
//
//	← {"v":1,"ask":{"id":1,"text":"waiting for the code …","offer":true}}
//	→ {"v":1,"verb":"here","id":1}
//	← {"v":1,"ask":{"id":2,"text":"MFA code for security (…): "}}
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
// Or it wants files in which [default] leads to no credentials, for a program that has an endpoint. They hold no
// session. An older daemon does not repeat the word, and put one there:
//
//	→ {"v":1,"verb":"overlay","profile":"product_dev_paul","mask_default":true}
//	← {"v":1,"overlay":{"profile":"product_dev_paul","mask_default":true,"aws_shared_credentials_file":"…"}}
//
// Of a source it may ask for a session of GetFederationToken instead, since the AWS console takes no other of a user; it is given where the source's own is open:
//
//	→ {"v":1,"verb":"get","profile":"security","role":{"federate":true}}
//
// "console" takes what "get" takes, and gives no session but a token with which a browser signs in. "accounts" lists an
// organisation. What does not fit into one line comes in several; all but the last say "more".
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
	"time"

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
	Here   = "here"   // to an offer: the person wants to be asked here
)

// Request is what a client asks. Its secrets and durations are in requestJSON.
type Request struct {
	Verb    string `json:"verb"`
	Profile string `json:"profile,omitempty"`
	// AWSConfig and AWSCredentials are the AWS files as the caller's environment names them, absolute, so that the
	// answer does not depend on which shell started the daemon; empty means the daemon's own.
	AWSConfig      string `json:"aws_config_file,omitempty"`
	AWSCredentials string `json:"aws_shared_credentials_file,omitempty"`
	Client         string `json:"client,omitempty"` // version of the asking program
	// Offset is the first session wanted of State, since not all may fit into a line.
	Offset int           `json:"offset,omitempty"`
	Code   secret.String `json:"-"`
	// Passphrase opens the file keyring: its key, which the client got for the passphrase. Older clients send the
	// passphrase itself; an older daemon takes the key for one.
	Passphrase secret.String `json:"-"`

	Timeout time.Duration `json:"-"`                 // how long the client waits; the daemon answers before; 0 is for ever
	MinTTL  time.Duration `json:"-"`                 // of Get and Overlay: how long the credentials have to last at least
	For     time.Duration `json:"-"`                 // of Publish: when it is taken out; 0 means the daemon's default
	CanAsk  bool          `json:"can_ask,omitempty"` // a person is at the client's terminal
	TTY     string        `json:"tty,omitempty"`     // that terminal's device, for daemons that do not ask the kernel; may be empty
	Desktop string        `json:"desktop,omitempty"` // DISPLAY=… and the like, one on a line, for a window that asks
	ID      int           `json:"id,omitempty"`      // of the question that is answered

	// Role, of Get, Serve, Overlay and Console, is a role that no profile names; nil for the profile as it is.
	Role      *Role    `json:"-"`
	TokenFile bool     `json:"token_file,omitempty"` // of Serve: the token is wanted in a file too
	Also      []string `json:"also,omitempty"`       // of Overlay: the profiles beside Profile
	// MaskDefault, of Overlay, wants files without a way to credentials in [default], and without a session.
	MaskDefault bool `json:"mask_default,omitempty"`

	Proof      secret.String `json:"-"`                     // of the passphrase that Unlock wants, not the keyring's
	Verifier   *Verifier     `json:"-"`                     // of Passphrase
	StayLocked bool          `json:"stay_locked,omitempty"` // of Unlock: it is for the keyring alone, and does not end Lock

	// Registry, State, Keyring and Home are the paths that the caller's environment means, absolute. The daemon uses its
	// own and no others: where these differ the request is refused. Clients that are too old to name them are served.
	Registry string `json:"registry,omitempty"`
	State    string `json:"state_dir,omitempty"`
	Keyring  string `json:"keyring_dir,omitempty"`
	Home     string `json:"home,omitempty"`
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
