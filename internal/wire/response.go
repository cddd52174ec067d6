package wire

import (
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// Response is an answer of the daemon. Fields with secrets and optional structs are encoded by responseJSON.
type Response struct {
	Err        *fault.Error `json:"-"`
	Credential *Credential  `json:"-"`
	Endpoint   *Endpoint    `json:"-"`
	Status     *Status      `json:"-"`
	Version    string       `json:"version,omitempty"`  // of the daemon's program
	Warnings   []string     `json:"warnings,omitempty"` // one line each; about files, never about secrets
	Count      int          `json:"count,omitempty"`    // number of sessions that Logout removed
	Prompt     *Prompt      `json:"-"`                  // not the answer yet: a prompt
	Notice     string       `json:"notice,omitempty"`   // not the answer yet: why it takes so long
	Files      *Files       `json:"-"`                  // of PrivateFiles
	Challenge  *Stretch     `json:"-"`                  // of a refused Unlock: how to make the proof
	Replaced   *Replaced    `json:"-"`
	SignIn     *SignIn      `json:"-"`                    // of Console
	Page       *Page        `json:"-"`                    // of BeginLogin, and of FinishLogin while nobody has confirmed
	Door       *Door        `json:"-"`                    // of OpenDoor
	Token      *Token       `json:"-"`                    // of MakeToken
	Accounts   []Account    `json:"accounts,omitempty"`   // of Accounts
	Assigned   []Assignment `json:"assigned,omitempty"`   // of Assigned
	Lines      []string     `json:"lines,omitempty"`      // of Rotate: for people; of Unpublish: profiles
	KeyCreated time.Time    `json:"key_created,omitzero"` // of RotatePlan and RotateLook: when the key in use was made
	More       bool         `json:"more,omitempty"`       // not the last line of the answer: more of a list follows
	Checked    *Checked     `json:"-"`                    // of Check
	Route      *Route       `json:"-"`                    // of a failed call to AWS: the proxy and CAs that it used
	Setup      *Setup       `json:"-"`                    // of a request with other paths: the paths of this daemon
}

// Route is how calls to AWS leave this machine. If the fields are empty, calls go directly, with the CAs of the
// system. It holds no password.
type Route struct {
	HTTPSProxy string `json:"https_proxy,omitempty"`
	NoProxy    string `json:"no_proxy,omitempty"`
	CABundle   string `json:"ca_bundle,omitempty"`
}

// Replaced is what one daemon leaves to the next, in addition to its sockets.
type Replaced struct {
	Ports  []int `json:"ports"` // of the endpoints, in the order of the sockets that are sent with it
	Locked bool  `json:"locked"`
	// Doors are the ids of the doors whose sockets follow those of Ports, in their order. It is empty unless the request
	// said TakesDoors.
	Doors []string `json:"doors,omitempty"`
}

// Files are the AWS files that PrivateFiles made for the calling process.
type Files struct {
	Profile string    `json:"profile"`          // exact name, which is the name of the section
	Region  string    `json:"region,omitempty"` // the first one, if there are several profiles
	Expires time.Time `json:"expires"`          // the earliest one, if there are several sessions
	// Profiles are the exact names of all profiles, Profile first, if several were asked for. A daemon that is too
	// old for such requests leaves it empty, and serves Profile only.
	Profiles    []string `json:"profiles,omitempty"`
	Credentials string   `json:"aws_shared_credentials_file"`
	Config      string   `json:"aws_config_file,omitempty"` // empty if the caller's own config is used
	MaskDefault bool     `json:"mask_default,omitempty"`    // as in the request
}

// Prompt is a prompt for the person at the client's terminal.
type Prompt struct {
	ID     int    `json:"id"`
	Text   string `json:"text"`
	Reason string `json:"reason,omitempty"` // why the last code failed
	// Lines are shown above Text. Choice says that Text is a question with answers of one letter; for Enter and Ctrl-D,
	// the client sends "n", and Cancel for Ctrl-C only.
	Lines  []string `json:"lines,omitempty"`
	Choice bool     `json:"choice,omitempty"`
	// Offer says that the prompt is open elsewhere; Text says where. The client answers with Here.
	Offer bool `json:"offer,omitempty"`
}

// Door is a door that is open.
type Door struct {
	Name      string     `json:"name"`
	Dir       string     `json:"dir"`      // its directory, which holds its socket: see DoorSocket
	Profiles  []string   `json:"profiles"` // exact names
	Region    string     `json:"region,omitempty"`
	ReadOnly  bool       `json:"read_only,omitempty"` // this and the next two as in DoorTerms
	MaxTTL    int        `json:"max_ttl_seconds,omitempty"`
	Container bool       `json:"container,omitempty"`
	Until     *time.Time `json:"until,omitempty"` // nil if it ends with its process
	PID       int        `json:"pid,omitempty"`   // of that process
	Program   string     `json:"program,omitempty"`
	Since     time.Time  `json:"since,omitzero"`
	Given     int64      `json:"given,omitempty"` // number of sessions that it handed out since the daemon started
	Error     string     `json:"error,omitempty"` // why it hands out nothing now
}

// DoorSocket is the name of the socket in the directory of a door.
const DoorSocket = "socket"

// Token is a token for a service that takes no session.
type Token struct {
	Token   secret.String
	User    string    // of ECR
	Expires time.Time // when the service stops accepting it
}

// Credential is a session that is handed out.
type Credential struct {
	AccessKeyID     string
	SecretAccessKey secret.String
	SessionToken    secret.String
	Expiration      time.Time
	Profile         string // exact name
	Region          string // of the profile; may be empty
	// Role is the ARN of the role that the request named. A daemon that is too old for such requests leaves it
	// empty, and the session is not of that role.
	Role string
	// Direct says that the role was assumed with the long-lived key. The console may then be told how long to
	// last.
	Direct bool
	// Account is the account of the session, twelve digits; empty if its ARNs do not contain it.
	Account string
}

// Endpoint is where a process gets its credentials over HTTP.
type Endpoint struct {
	URL       string
	Token     secret.String // value of the Authorization header of a request
	TokenFile string        // file that holds Token and is removed with the process; empty if not asked for
	Profile   string        // exact name
	Region    string        // of the profile; may be empty
	Role      string        // as in Credential
}

// SignIn is the token with which a browser signs in to the console, within 15 minutes.
type SignIn struct {
	Endpoint   string        // URL that accepts the token
	Token      secret.String // for one sign-in
	Profile    string        // exact name
	Expiration time.Time     // of the session that the token was made from
}

// Account is one account of an organization.
type Account struct {
	ID         string `json:"id"`                   // twelve digits
	Name       string `json:"name"`                 // any text, at most 250 bytes
	Management bool   `json:"management,omitempty"` // the organization's management account
	State      string `json:"state,omitempty"`      // as AWS names it, such as ACTIVE
	Path       string `json:"path,omitempty"`       // names of the organizational units, from the root on, if asked for
}

// Assignment is a permission set that a person has in an account.
type Assignment struct {
	AccountID string `json:"account_id"` // twelve digits
	Account   string `json:"account"`    // its name: any text, at most 250 bytes
	Role      string `json:"role"`       // the permission set, at most 64 bytes
}

// Checked is what AWS said about a role.
type Checked struct {
	WithMFA    *Refusal `json:"with_mfa,omitempty"`    // why the role cannot be assumed; nil if it can
	WithoutMFA *Refusal `json:"without_mfa,omitempty"` // the same without a code
	// NoDevice says that the source has no MFA device, so that WithMFA was without a code too.
	NoDevice bool `json:"no_device,omitempty"`
	// ExternalID is "required" or "ignored". It is empty if the request has no external id, or the role cannot be
	// assumed.
	ExternalID string `json:"external_id,omitempty"`
	MaxSeconds int    `json:"max_seconds,omitempty"` // longest session; 0 if IAM did not say
	Tags       string `json:"tags,omitempty"`        // "accepted" or "refused": session tags; empty if IAM did not say
	Seconds    int    `json:"seconds,omitempty"`     // the session that the profile asks for
}

// Refusal says why AWS refused a role.
type Refusal struct {
	Message string `json:"message"`
}
