// Package profiles owns the files that name profiles. It reads ~/.aws/config, ~/.aws/credentials and Broker's
// registry by AWS's rules, resolves a name to a chain, edits these files line by line, and links profiles to the
// helper. It knows nothing of the AWS SDK, the keyring or the daemon, and it never returns a long-lived key.
package profiles

import (
	"cmp"
	"fmt"
	"time"

	"broker/internal/fault"
	"broker/internal/partition"
	"broker/internal/paths"
)

// Files names the files that a request uses. All paths are absolute.
type Files struct {
	Config      string // ~/.aws/config or AWS_CONFIG_FILE
	Credentials string // ~/.aws/credentials or AWS_SHARED_CREDENTIALS_FILE
	Registry    string // ~/.config/broker/config or BROKER_CONFIG
	// AWS is ~/.aws, the directory of the config and credentials files that AWS tools read unless a variable names
	// others. Broker compares with it to tell a default AWS file from any other; see Place. If it is empty, no
	// file counts as a default one.
	AWS string
}

// FilesOf returns the files that the program's paths name.
func FilesOf(p paths.Paths) Files {
	return Files{Config: p.Config, Credentials: p.Credentials, Registry: p.Registry, AWS: p.AWS}
}

// Origin is the place where a value was written. The zero Origin means that the value is a default.
type Origin struct {
	File string
	Line int
}

// String returns "file:line", only the file if Line is 0, or "default" for the zero Origin.
func (o Origin) String() string {
	switch {
	case o.File == "":
		return "default"
	case o.Line == 0:
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// Endpoint is the STS endpoint that a step calls, as configured in the files. Source:
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-sts-regionalized-endpoints.html
type Endpoint struct {
	Region   string // a region, or "aws-global" for the global endpoint; empty means the partition's first region
	URL      string // overrides the endpoint of the region
	Legacy   bool   // sts_regional_endpoints = legacy
	FIPS     bool   // use_fips_endpoint = true
	CABundle string // a PEM file that replaces the system's root certificates
	// Compatible means that an STS other than AWS's answers at URL. Some checks of its answers are skipped.
	Compatible bool `json:",omitempty"`
	// Listener is who besides the user may listen at a plain-http URL: a uid, AnyListener, or nobody if it is
	// empty.
	Listener string `json:",omitempty"`
}

// Route is how to reach AWS: a proxy, and the trusted CAs.
type Route struct {
	HTTPSProxy string `json:"https_proxy,omitempty"` // URL, may contain a password; "" for none
	// NoProxy lists the hosts that are reached without the proxy, in the format of
	// https://pkg.go.dev/golang.org/x/net/http/httpproxy
	NoProxy  string `json:"no_proxy,omitempty"`
	CABundle string `json:"ca_bundle,omitempty"` // PEM file of CAs, absolute path; "" for the system's
}

// Kind is how the first credentials of a chain are obtained.
type Kind string

// The kinds of sources.
const (
	IAMUser      Kind = ""             // with the long-lived key of an IAM user
	Portal       Kind = "portal"       // with a session of IAM Identity Center
	ConsoleLogin Kind = "console"      // with a session of `aws login`
	WebIdentity  Kind = "web-identity" // with a token from a file
	OtherProgram Kind = "program"      // with the trusted credential_process of another program
)

// ByPage reports whether a person logs in to such a source on a web page.
func (k Kind) ByPage() bool { return k == Portal || k == ConsoleLogin }

// Assignment is an account and a permission set of IAM Identity Center that a profile names.
type Assignment struct {
	Profile   string // the profile that has both
	AccountID string
	RoleName  string // of the permission set
	Origin    Origin // the line of sso_account_id
}

// Source is where the first credentials of a chain come from. For an IAM user it is the registry's part of the
// long-lived key. The secrets are in the keyring under Name.
type Source struct {
	Name        string
	Kind        Kind
	StartURL    string   // of Portal, as written but without a "#" and slashes at its end
	Scopes      []string // of Portal
	ARN         string   // of ConsoleLogin: login_session
	TokenFile   string   // of WebIdentity
	Command     string   // of OtherProgram: credential_process
	AccessKeyID string
	KeyCreated  time.Time // the day, UTC, on which the key was created, or a later one; zero if it is not known
	MFASerial   string    // ARN or hardware number; empty if the user has no MFA
	MFAProcess  string    // command that prints a code of the device; empty if there is none
	HasSeed     bool      // the keyring holds the TOTP seed, so Broker computes codes without a prompt
	Guard       Guard
	NoSession   bool // session = none: Broker never calls GetSessionToken and assumes roles with the key itself
	Endpoint    Endpoint
	Origin      Origin // the line of the section
	// Registry is the file that the section was read from: an absolute path without symbolic links.
	Registry string
}

// CheckIAM refuses a source with an endpoint_url: what answers there need not be AWS's IAM, which has its keys and MFA
// devices.
func (s Source) CheckIAM() error {
	if s.Endpoint.URL == "" {
		return nil
	}
	return fault.New(fault.Usage, "source %q signs in at %s, which need not have AWS's IAM", s.Name,
		fault.Line(s.Endpoint.URL)).WithHint("broker explain %s", s.Name)
}

// Role is one role to assume.
type Role struct {
	Profile    string // the profile that defines the role
	ARN        string
	ExternalID string
	// SessionName is empty if the profile sets none; Broker then chooses one. It and the next two may have
	// placeholders: see Fill.
	SessionName    string
	SourceIdentity string // empty if the profile sets none
	Tags           []Tag  // session tags; only their values have placeholders
	TransitiveTags []string
	OptionalTags   bool          // if AWS refuses the tags or the source identity, Broker asks without both
	ReadOnly       bool          // the session gets AWS's ReadOnlyAccess policy
	Duration       time.Duration // 0 if the profile sets none; AWS's default is one hour
	MFASerial      string        // the role profile's own mfa_serial; empty means the source's
	FreshMFA       bool          // mfa = each: each session of this role needs its own code
	Endpoint       Endpoint
	Origin         Origin // the line of role_arn
}

// Chain is what a profile resolves to: a source, then zero or more roles in the order in which they are assumed.
type Chain struct {
	Profile string // the exact name, after resolving aliases
	Region  string // the profile's own region, passed to the tools that Broker starts; may be empty
	Source  Source
	// Assignment is set if the kind of Source is Portal, and nil otherwise.
	Assignment *Assignment
	Roles      []Role
	Guard      Guard // the strictest of its profiles and its source
	// Directories are the trusted directories of the Set.
	Directories *Directories
	// MFAProcess is the command that prints a code of the source's device, or empty.
	MFAProcess string
	Warnings   []Warning // settings of the profile that are ignored
	// Values lists every value that was used, in reading order, for `explain`.
	Values []Value
}

// Account returns the partition and the account in which a chain ends, as given by its ARNs and its assignment. If
// they give none, the results are "aws" and "".
func (c Chain) Account() (part, id string) {
	arn := cmp.Or(c.Source.MFASerial, c.Source.ARN)
	switch n := len(c.Roles); {
	case n > 0:
		arn = c.Roles[n-1].ARN
	case c.Assignment != nil:
		return cmp.Or(partition.OfRegion(c.Source.Endpoint.Region), "aws"), c.Assignment.AccountID
	}
	return cmp.Or(partition.OfARN(arn), "aws"), partition.AccountOfARN(arn)
}

// Value is one setting that was used for a chain.
type Value struct {
	Profile string // the profile or source that has the setting
	Key     string
	Text    string
	Origin  Origin
}

// Settings is the [settings] section of the registry, with defaults filled in.
type Settings struct {
	KeyringBackend  string        // "" if none was chosen yet
	SessionDuration time.Duration // duration of the MFA session; 15m to 36h, default 12h
	STSEndpoint     string        // for simulators; plain http only on loopback
	LockAfter       time.Duration // lock after this time without use; 0, the default, is never
	LockOn          []string      // events that lock: "suspend", "screen"; nil, the default, is neither
	AuditRequired   bool          // Broker gives out nothing that it cannot write to the audit log
	MaxAge          time.Duration // status reminds of keys that are older; 0 if it does not
	Notices         bool          // show notices on the desktop; the default
	MFAPrompt       []string      // where prompts for a code appear, in this order: "tty", "gui"
	Catalog         string        // the team's account map: a file, or a git repository; unchecked, may be empty
	CatalogPath     string        // path of the map in the repository; unchecked, may be empty
	HTTPSProxy      string        // URL of the proxy for calls to AWS, may contain a password; "" for none
	NoProxy         string        // hosts that are reached without the proxy, in curl's format
	CABundle        string        // PEM file of the CAs trusted for AWS, absolute path; "" for the system's
	Registries      []string      // other registries that may use this home directory's keyring, absolute paths
	Path            []string      // directories of programs in addition to the system's, absolute
	// GnuPGHome and PasswordStoreDir are the data directories of gpg and pass, absolute; "" for their defaults.
	GnuPGHome, PasswordStoreDir string
	Origins                     map[string]Origin
}

// Has reports whether the registry sets a key of [settings].
func (s Settings) Has(key string) bool { _, ok := s.Origins[key]; return ok }

// Replaced returns the endpoint with the URL of the setting sts_endpoint, which replaces every other one. If the
// setting is empty, it returns the endpoint itself.
func (e Endpoint) Replaced(stsEndpoint string) Endpoint {
	if stsEndpoint != "" {
		e.URL, e.Listener = stsEndpoint, AnyListener
	}
	return e
}

// Global returns the endpoint of a service that has one endpoint in each partition. The URL of an endpoint is that of
// STS, so it is left out.
func (e Endpoint) Global() Endpoint {
	return Endpoint{Region: e.Region, FIPS: e.FIPS, CABundle: e.CABundle}
}

// String describes the endpoint for people.
func (e Endpoint) String() string {
	switch {
	case e.URL != "":
		return e.URL
	case e.Region == "":
		return "STS of the partition's first region"
	case e.Region == "aws-global":
		return "the global STS"
	}
	s := "STS of " + e.Region
	if e.FIPS {
		s += ", FIPS"
	}
	if e.Legacy {
		s += ", or the global one for legacy regions"
	}
	return s
}
