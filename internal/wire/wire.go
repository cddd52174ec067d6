// Package wire is the protocol between the programs and the daemon.
//
// The protocol runs over a unix socket whose two ends have checked each other's uid. The client writes one line,
// and the daemon answers with one line. The client may send any number of requests, one at a time. A line is one
// JSON object of at most 64 KiB that ends with a newline. Unknown fields are ignored. The daemon refuses an
// unknown verb with the kind "usage", and an unknown version with "failed".
//
//	→ {"v":1,"verb":"get","profile":"product_prod_paul"}
//	← {"v":1,"credential":{"AccessKeyId":"ASIA…","SecretAccessKey":"…","SessionToken":"…","Expiration":"2026-01-02T15:04:05Z"}}
//	← {"v":1,"error":{"kind":"denied","message":"…","hint":"…"}}
//
// A client with a person at its terminal sets "can_ask". The daemon may then explain a delay ("notice") and show
// prompts before its answer. The client sends what the person typed. The next line from the daemon ends the
// prompt, whether it was answered or not:
//
//	→ {"v":1,"verb":"get","profile":"product_prod_paul","can_ask":true,"timeout_ms":50000}
//	← {"v":1,"ask":{"id":1,"text":"MFA code for security (…): "}}
//	→ {"v":1,"verb":"answer","id":1,"code":"123456"}      or {"v":1,"verb":"cancel","id":1}
//	← {"v":1,"credential":{…}}
//
// While the prompt is open at another terminal, the daemon offers it to the waiting clients ("offer"):
//
//	← {"v":1,"ask":{"id":1,"text":"waiting for the code …","offer":true}}
//	→ {"v":1,"verb":"here","id":1}
//	← {"v":1,"ask":{"id":2,"text":"MFA code for security (…): "}}
//
// "get" may give a role that no profile defines. It is assumed from "profile". Without an arn, the other fields
// override those of the profile's last role. Only the local socket accepts this: a server that answers for other
// machines must refuse a request with a role.
//
//	→ {"v":1,"verb":"get","profile":"security","role":{"arn":"arn:aws:iam::444455556666:role/audit","duration_seconds":900}}
//
// "serve" returns no credential but a loopback endpoint. There, the calling process and its children get the
// profile's current session while that process lives, in the format of the AWS container credentials. The fields
// are those of "get". The token is the value of the Authorization header.
//
//	→ {"v":1,"verb":"serve","profile":"product_prod_paul","token_file":true}
//	← {"v":1,"endpoint":{"url":"http://127.0.0.1:20123/credentials/…","token":"…","token_file":"…","profile":"product_prod_paul","region":"eu-west-1"}}
//
// "overlay" writes the session to private AWS files of the calling process, which are removed when it ends.
// "publish" and "unpublish" keep a session in the shared credentials file, and remove it. Their answers hold no
// secret.
//
//	→ {"v":1,"verb":"overlay","profile":"product_prod_paul"}
//	← {"v":1,"overlay":{"profile":"product_prod_paul","aws_shared_credentials_file":"…","expires":"…"}}
//
// "overlay" may ask for more profiles ("also") in the same files: it serves all of them, or it fails. The answer
// lists all served profiles ("profiles"), because an older daemon ignores "also".
//
//	→ {"v":1,"verb":"overlay","profile":"product_dev_paul","also":["product_prod_paul"]}
//	← {"v":1,"overlay":{"profile":"product_dev_paul","profiles":["product_dev_paul","product_prod_paul"],"aws_shared_credentials_file":"…","expires":"…"}}
//
// "overlay" may also ask for files that hide the credentials of [default], for a program that has an endpoint.
// They hold no session. An older daemon does not repeat "mask_default" in its answer, and writes a session:
//
//	→ {"v":1,"verb":"overlay","profile":"product_dev_paul","mask_default":true}
//	← {"v":1,"overlay":{"profile":"product_dev_paul","mask_default":true,"aws_shared_credentials_file":"…"}}
//
// A request for a source may ask for a session of GetFederationToken, the only kind that the AWS console accepts
// for a user. It needs an open MFA session of the source:
//
//	→ {"v":1,"verb":"get","profile":"security","role":{"federate":true}}
//
// "console" takes the fields of "get". It returns no session but a token with which a browser signs in. "accounts"
// lists the accounts of an organization. If they do not fit into one line, the answer has several; all but the
// last have "more".
//
//	→ {"v":1,"verb":"console","profile":"product_prod_paul"}
//	← {"v":1,"sign_in":{"endpoint":"https://signin.aws.amazon.com/federation","token":"…","profile":"…","expires":"…"}}
//	→ {"v":1,"verb":"accounts","profile":"product_mgmt_paul"}
//	← {"v":1,"more":true,"accounts":[{"id":"111122223333","name":"Paul's"}]}
//	← {"v":1,"accounts":[{"id":"444455556666","name":"prod"}]}
//
// "assigned" lists the accounts and permission sets of the person who is logged in to a portal, in the same way. The
// access token with which the daemon asks for them stays there.
//
//	→ {"v":1,"verb":"assigned","profile":"my-sso"}
//	← {"v":1,"assigned":[{"account_id":"111122223333","account":"prod","role":"Admin"}]}
//
// "begin-login" begins a login on a web page, and "finish-login" finishes it with the code that the page led back with.
// Without a redirect, a person confirms a code on the page; until then the answer of "finish-login" is the page again,
// with the time to wait. Neither returns a session or a token. The proof of a page is of no value without its code.
//
//	→ {"v":1,"verb":"begin-login","profile":"my-sso","page":{"redirect":"http://127.0.0.1:20123/oauth/callback"}}
//	← {"v":1,"page":{"url":"https://…/authorize?…","redirect":"…","state":"…","proof":"…"}}
//	→ {"v":1,"verb":"finish-login","profile":"my-sso","code":"…","page":{…}}
//	← {"v":1,"status":{"sessions":[{"source":"my-sso",…}]}}
//
// "rotate" replaces the key of a source, in steps; "notice" tells which. It may show a question. The answer has lines
// for people, and no secret.
//
//	→ {"v":1,"verb":"rotate","profile":"security","rotation":{"step":"start","grace_seconds":86400},"can_ask":true}
//	← {"v":1,"notice":"creating a new key"}
//	← {"v":1,"lines":["the old key …2222 is deactivated, and will be deleted at 2026-01-03 15:04 UTC; …"]}
//
// "unlock" may need its own passphrase. The client does not send the passphrase but a proof, which it computes
// with the parameters in the refusal ("challenge": argon2id). "passphrase" sets a new one; only the first one
// needs no proof.
//
//	→ {"v":1,"verb":"unlock"}
//	← {"v":1,"error":{"kind":"locked",…},"challenge":{"salt":"…","passes":3,"memory_kib":65536,"lanes":4}}
//	→ {"v":1,"verb":"unlock","proof":"…"}
//
// "handover" ends the daemon so that the calling process can replace it. The line of the answer carries open files
// (SCM_RIGHTS of unix(7)): the lock, the listening socket, and the socket of each endpoint port, in that order. It
// carries no session.
//
//	→ {"v":1,"verb":"handover"}
//	← {"v":1,"heritage":{"ports":[20123],"locked":false}}
//
// "open-door" opens a door: a second socket, which answers "ping" and "get" alone, for the profiles that are named and
// nothing else. A door of a process ends with it; another one ends after "for_ms" or with "close-door". "attend" shows
// the prompts of a door at the client's terminal, after a line with "more". It is answered when the door has ended.
//
//	→ {"v":1,"verb":"open-door","profile":"product_dev_paul","door":{"name":"product_dev_paul"},"for_ms":28800000}
//	← {"v":1,"door":{"name":"product_dev_paul","dir":"…","profiles":["product_dev_paul"],"until":"…"}}
//	→ {"v":1,"verb":"attend","profile":"product_dev_paul"}
//
// "token" returns a token for a service that takes no session: EKS, RDS, CodeArtifact or ECR.
//
//	→ {"v":1,"verb":"token","profile":"product_dev_paul","token":{"service":"eks","cluster":"main"}}
//	← {"v":1,"token":{"token":"…","expires":"…"}}
//
// No verb returns a long-lived key, a TOTP seed or an MFA code.
package wire

import (
	"time"

	"broker/internal/secret"
)

// Version is the version of the protocol.
const Version = 1

// MaxLine is the longest line in bytes, including its newline.
const MaxLine = 64 << 10

// The verbs.
const (
	Ping   = "ping"   // whether the daemon runs, and its version
	Get    = "get"    // returns the credentials of Profile
	Serve  = "serve"  // makes an endpoint with the credentials of Profile, until the calling process ends
	Login  = "login"  // opens the MFA session of Profile, with Code if set
	Logout = "logout" // removes the sessions of the source Profile, or of all sources if it is empty
	Lock   = "lock"   // drops all sessions and refuses Get and Login
	Unlock = "unlock" // ends Lock, with Proof if needed; Passphrase opens the file keyring, whose key is cached
	State  = "state"  // returns the Status

	// BeginLogin returns the Page on which a person logs in to the source of Profile. FinishLogin exchanges the Code
	// that the Page led back with. Its answer has the Page again if nobody has confirmed yet.
	BeginLogin  = "begin-login"
	FinishLogin = "finish-login"

	Passphrase = "passphrase" // sets the passphrase of Unlock, or removes it if Verifier is nil; Proof is of the old one

	PrivateFiles = "overlay"   // makes files with the session of Profile, for the calling process
	Publish      = "publish"   // keeps the session of Profile in the shared credentials file
	Unpublish    = "unpublish" // removes it again; removes all if Profile is empty

	Console  = "console"  // returns a sign-in to the console with the session of Profile
	Accounts = "accounts" // lists the accounts of the organization, with the session of Profile
	Assigned = "assigned" // lists what the portal of Profile assigns to the person who is logged in

	Rotate = "rotate" // replaces the key of the source Profile, see Rotation
	Check  = "check"  // says whether the Role of Profile can be assumed, with and without a code; returns no session

	OpenDoor  = "open-door"  // opens a door for the sessions of Profile and Also
	CloseDoor = "close-door" // closes the door whose name is Profile
	Attend    = "attend"     // shows the prompts of the door whose name is Profile at the client's terminal, until it ends

	MakeToken = "token" // returns a Token of TokenTerms, made with the session of Profile

	Allow = "allow" // allows sessions of the guarded Profile beforehand, for For, because of Reason
	Deny  = "deny"  // removes what Allow allowed

	Replace = "handover" // ends the daemon; the calling process gets its sockets

	// What a client answers to a prompt, within a request.
	Answer = "answer" // Code is what the person typed
	Cancel = "cancel" // the person declined
	Gone   = "gone"   // nobody can be asked
	Here   = "here"   // to an offer: the person wants the prompt here
)

// Request is a request of a client. Its secrets and durations are encoded by requestJSON.
type Request struct {
	Verb    string `json:"verb"`
	Profile string `json:"profile,omitempty"`
	// AWSConfig and AWSCredentials are the absolute paths of the AWS files in the caller's environment, so that
	// the answer does not depend on the shell that started the daemon. Empty means the daemon's own files.
	AWSConfig      string `json:"aws_config_file,omitempty"`
	AWSCredentials string `json:"aws_shared_credentials_file,omitempty"`
	Client         string `json:"client,omitempty"` // version of the calling program
	// Offset, of State, is the index of the first session to return, because not all may fit into a line.
	Offset int           `json:"offset,omitempty"`
	Code   secret.String `json:"-"`
	// Passphrase is the key of the file keyring, which the client derived from the passphrase. Older clients send
	// the passphrase itself. An older daemon takes the key for a passphrase.
	Passphrase secret.String `json:"-"`

	Timeout time.Duration `json:"-"`                 // how long the client waits; 0 means forever
	MinTTL  time.Duration `json:"-"`                 // of Get and PrivateFiles: least remaining lifetime of the credentials
	For     time.Duration `json:"-"`                 // of Publish, Allow and OpenDoor; 0 means the daemon's default
	CanAsk  bool          `json:"can_ask,omitempty"` // a person is at the client's terminal
	TTY     string        `json:"tty,omitempty"`     // that terminal, for daemons that do not ask the kernel
	Desktop string        `json:"desktop,omitempty"` // DISPLAY=… and similar, one per line, for a window
	ID      int           `json:"id,omitempty"`      // of the prompt that is answered

	// AllAccounts, of Accounts, asks also for the accounts that are not active, and for the organizational units.
	AllAccounts bool `json:"all_accounts,omitempty"`

	// Role, of Get, Serve, PrivateFiles, Console and Check, is a role that no profile defines; nil uses the profile
	// unchanged.
	Role      *Role    `json:"-"`
	TokenFile bool     `json:"token_file,omitempty"` // of Serve: also write the token to a file
	Also      []string `json:"also,omitempty"`       // of PrivateFiles and OpenDoor: more profiles in addition to Profile
	// MaskDefault, of PrivateFiles, asks for files that hide the credentials of [default] and hold no session.
	MaskDefault bool `json:"mask_default,omitempty"`

	Rotation   *Rotation   `json:"-"`                     // of Rotate
	TakesDoors bool        `json:"takes_doors,omitempty"` // of Replace: the calling daemon can take over doors
	Door       *DoorTerms  `json:"-"`                     // of OpenDoor
	TokenTerms *TokenTerms `json:"-"`                     // of MakeToken

	// Agent is the coding agent that runs the client, by the client's environment; empty for none. It can only narrow
	// what the client gets.
	Agent string `json:"agent,omitempty"`

	Page *Page `json:"-"` // of BeginLogin, with nothing but Redirect; of FinishLogin, the page of BeginLogin

	// Reason, of Allow, is why. Everywhere, of Allow and Deny, means the whole machine and not only the terminal or
	// process tree of the client. Elevate, of Allow, allows the full role of a profile with read_only = true.
	Reason     string `json:"reason,omitempty"`
	Everywhere bool   `json:"everywhere,omitempty"`
	Elevate    bool   `json:"elevate,omitempty"`

	Proof      secret.String `json:"-"`                     // of the passphrase for Unlock, not of the keyring's
	Verifier   *Verifier     `json:"-"`                     // of Passphrase
	StayLocked bool          `json:"stay_locked,omitempty"` // of Unlock: only unlock the keyring, do not end Lock

	// Registry, State, Keyring and Home are the absolute paths of the caller's environment. The daemon uses only
	// its own paths and refuses a request if these differ. Clients that are too old to send them are served.
	Registry string `json:"registry,omitempty"`
	State    string `json:"state_dir,omitempty"`
	Keyring  string `json:"keyring_dir,omitempty"`
	Home     string `json:"home,omitempty"`
}

// Page is a web page on which a person logs in to a source.
type Page struct {
	URL string
	// Redirect is the address on loopback to which the page leads the browser with State and a code. Without one, the
	// person confirms UserCode on the page, or copies a code from it if UserCode is empty.
	Redirect string
	State    string
	UserCode string
	Expires  time.Time
	Interval time.Duration // between two requests of FinishLogin without a code
	Proof    secret.String // what FinishLogin needs besides the code
	// Adopt is the directory in which `aws login` keeps its logins. FinishLogin takes over its login of the source, and
	// needs no code.
	Adopt string
}

// Stretch says how to compute the proof from the passphrase for Unlock: argon2id, 32 bytes, in hex.
type Stretch struct {
	Salt      []byte `json:"salt"`
	Passes    uint32 `json:"passes"`
	MemoryKiB uint32 `json:"memory_kib"`
	Lanes     uint8  `json:"lanes"`
}

// Verifier distinguishes a right proof from a wrong one.
type Verifier struct {
	Stretch
	Sum []byte `json:"sha256"` // of the 32 bytes
}

// Role is a role that no profile defines. With an empty ARN, it overrides fields of a profile's last role. Empty
// fields override nothing.
type Role struct {
	ARN         string `json:"arn,omitempty"`
	ExternalID  string `json:"external_id,omitempty"`
	Seconds     int    `json:"duration_seconds,omitempty"`
	SessionName string `json:"session_name,omitempty"`
	MFASerial   string `json:"mfa_serial,omitempty"`
	Region      string `json:"region,omitempty"`
	Policy      string `json:"policy,omitempty"` // session policy, JSON
	Tags        []Tag  `json:"tags,omitempty"`   // session tags
	// Federate asks for a session of GetFederationToken of a source, for the console. Policy limits it; without a
	// Policy it is read-only.
	Federate bool `json:"federate,omitempty"`
}

// Tag is one session tag.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}
