package wire

import (
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// Response is what the daemon answers. What holds a secret or has fields of its own is in responseJSON.
type Response struct {
	Err        *fault.Error `json:"-"`
	Credential *Credential  `json:"-"`
	Endpoint   *Endpoint    `json:"-"`
	Status     *Status      `json:"-"`
	Version    string       `json:"version,omitempty"`  // of the daemon's program
	Warnings   []string     `json:"warnings,omitempty"` // one line each; about files, never about secrets
	Count      int          `json:"count,omitempty"`    // of sessions that Logout forgot
	Ask        *Ask         `json:"-"`                  // not the answer yet: a question
	Notice     string       `json:"notice,omitempty"`   // not the answer yet: why it takes long
	Files      *Files       `json:"-"`                  // of Overlay
	Challenge  *Stretch     `json:"-"`                  // of an Unlock that was refused: how to make the proof
	Takeover   *Takeover    `json:"-"`
	SignIn     *SignIn      `json:"-"`                  // of Console
	Accounts   []Account    `json:"accounts,omitempty"` // of Accounts
	More       bool         `json:"more,omitempty"`     // not the answer yet: the first of its accounts
	Route      *Route       `json:"-"`                  // of a failed call to AWS: the way that it took
	Setup      *Setup       `json:"-"`                  // of a request that means another daemon: the paths of this one
}

// Route is how calls to AWS leave this machine. Empty fields: directly, with the CAs of the system. No password is in
// it.
type Route struct {
	HTTPSProxy string `json:"https_proxy,omitempty"`
	NoProxy    string `json:"no_proxy,omitempty"`
	CABundle   string `json:"ca_bundle,omitempty"`
}

// Takeover is what one daemon leaves to the next beside its sockets.
type Takeover struct {
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
	MaskDefault bool     `json:"mask_default,omitempty"`    // as it was asked for
}

// Ask is a question for the person at the client's terminal.
type Ask struct {
	ID     int    `json:"id"`
	Text   string `json:"text"`
	Reason string `json:"reason,omitempty"` // why it is asked again
	// Offer says that the question stands elsewhere, and Text says where. It is answered with Here.
	Offer bool `json:"offer,omitempty"`
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
	// Account is that of the session, twelve digits; empty if its ARNs do not tell it.
	Account string
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
