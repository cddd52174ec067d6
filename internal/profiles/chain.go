// Package profiles owns the files that name profiles: it reads ~/.aws/config,
// ~/.aws/credentials and the broker's registry with AWS's meaning, resolves a
// name to a chain, edits these files line by line, and links profiles to the helper. It refuses
// to know the AWS SDK, the keyring or the daemon, and it never returns a long-lived key.
package profiles

import (
	"cmp"
	"fmt"
	"time"

	"broker/internal/partition"
	"broker/internal/paths"
)

// Files says which files a request is about. All paths are absolute.
type Files struct {
	Config      string // ~/.aws/config or AWS_CONFIG_FILE
	Credentials string // ~/.aws/credentials or AWS_SHARED_CREDENTIALS_FILE
	Registry    string // ~/.config/broker/config or BROKER_CONFIG
	// AWS is ~/.aws, the directory of the config and credentials file that AWS tools read when no variable moves them.
	// It tells the default AWS files from others; see Place. If it is empty, all are others.
	AWS string
}

// FilesOf are those among the paths of the program.
func FilesOf(p paths.Paths) Files {
	return Files{Config: p.Config, Credentials: p.Credentials, Registry: p.Registry, AWS: p.AWS}
}

// Origin says where a value was written. The zero Origin means that nobody
// wrote it: it is a default.
type Origin struct {
	File string
	Line int
}

// String is "file:line", the file alone where no line is meant, or "default".
func (o Origin) String() string {
	switch {
	case o.File == "":
		return "default"
	case o.Line == 0:
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// Endpoint says which STS a step talks to, as far as files say it.
// Facts: https://docs.aws.amazon.com/sdkref/latest/guide/feature-sts-regionalized-endpoints.html
type Endpoint struct {
	Region   string // a region, or "aws-global" for the global endpoint; empty means the partition's first region
	URL      string // replaces the endpoint that the region would give
	Legacy   bool   // sts_regional_endpoints = legacy
	FIPS     bool   // use_fips_endpoint = true
	CABundle string // a PEM file that replaces the system's roots
	// Compatible says that an STS which is not AWS's answers at URL: some checks of its answers are left out.
	Compatible bool `json:",omitempty"`
	// Listener says who besides the user may listen at a URL of plain http: a uid, AnyListener, or nobody if it is empty.
	Listener string `json:",omitempty"`
}

// Route is the way to AWS: a proxy, and the CAs that are trusted.
type Route struct {
	HTTPSProxy string `json:"https_proxy,omitempty"` // URL, which may hold a password; "" for none
	// NoProxy lists the hosts that are reached without the proxy:
	// https://pkg.go.dev/golang.org/x/net/http/httpproxy
	NoProxy  string `json:"no_proxy,omitempty"`
	CABundle string `json:"ca_bundle,omitempty"` // file of CAs in PEM, absolute; "" for the system's
}

// Source is an IAM user's long-lived key as the registry knows it: all but the
// secrets, which are in the keyring under Name.
type Source struct {
	Name        string
	AccessKeyID string
	MFASerial   string // ARN or hardware number; empty for a user without MFA
	MFAProcess  string // command that prints a code of the device; empty for none
	HasSeed     bool   // the keyring holds the TOTP seed, so that nobody is asked
	NoSession   bool   // session = none: GetSessionToken is never called, and roles are assumed with the key itself
	Endpoint    Endpoint
	Origin      Origin // the line of the section
	// Registry is the file that the section was read from, absolute and without symbolic links.
	Registry string
}

// Role is one role to assume.
type Role struct {
	Profile    string // the profile that names it
	ARN        string
	ExternalID string
	// SessionName is empty where the profile names none; the default is the broker's choice.
	SessionName string
	Duration    time.Duration // 0 where the profile says nothing; AWS's default is one hour
	MFASerial   string        // the role profile's own mfa_serial; empty means the source's
	FreshMFA    bool          // mfa = each: every session of this role needs a code of its own
	Endpoint    Endpoint
	Origin      Origin // the line of role_arn
}

// Chain is what a profile resolves to: a source, then zero or more roles, in
// the order in which they are assumed.
type Chain struct {
	Profile string // the exact name, after aliases
	Region  string // the profile's own region, for the tools that are started with it; may be empty
	Source  Source
	Roles   []Role
	// MFAProcess is the command that prints a code of the source's device; empty for none.
	MFAProcess string
	Warnings   []Warning // settings of the profile that do not count
	// Values lists every value that took part, in reading order, for `explain`.
	Values []Value
}

// Account is the partition and the account in which a chain ends, as far as its ARNs tell them; else
// they are aws, and empty.
func (c Chain) Account() (part, id string) {
	arn := c.Source.MFASerial
	if n := len(c.Roles); n > 0 {
		arn = c.Roles[n-1].ARN
	}
	return cmp.Or(partition.OfARN(arn), "aws"), partition.AccountOfARN(arn)
}

// Value is one setting that took part in a chain.
type Value struct {
	Profile string // the profile or source whose setting it is
	Key     string
	Text    string
	Origin  Origin
}

// Settings is the [settings] section of the registry, with defaults filled in.
type Settings struct {
	KeyringBackend  string        // "" means that none was chosen yet
	SessionDuration time.Duration // of the MFA session; 15m to 36h, default 12h
	STSEndpoint     string        // for simulators; plain http on loopback alone
	LockAfter       time.Duration // without use; 0 = never, which is the default
	LockOn          []string      // what locks: "suspend", "screen"; nil for neither, which is the default
	AuditRequired   bool          // nothing is given out that cannot be written into the audit log
	MFAPrompt       []string      // who is asked for a code, in this order: "tty", "gui"
	Catalog         string        // where the team's account map is: a file, or a git repository; unchecked, may be empty
	CatalogPath     string        // of the map within the repository; unchecked, may be empty
	HTTPSProxy      string        // URL of the proxy for calls to AWS, with a password if it needs one; "" means none
	NoProxy         string        // hosts that are reached without it, as curl has it
	CABundle        string        // file with the CAs that are trusted for AWS, absolute; "" means the system's
	Registries      []string      // other registries that may use the keyring of this home, absolute
	Path            []string      // directories of programs beside the system's, absolute
	// GnuPGHome and PasswordStoreDir are where gpg and pass keep what is theirs, absolute; "" means their defaults.
	GnuPGHome, PasswordStoreDir string
	Origins                     map[string]Origin
}

// Has reports whether the registry sets a key of [settings].
func (s Settings) Has(key string) bool { _, ok := s.Origins[key]; return ok }

// String says where a step talks to, for people.
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
		s += ", or the global one where that is the legacy way"
	}
	return s
}
