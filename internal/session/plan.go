// Package session is the heart: it turns a chain into a plan, and a plan into
// credentials, through a cache that is keyed by what STS is asked. It refuses to know the
// AWS SDK, the keyring and the socket; what it needs of them it declares here as interfaces.
package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// Operation is a call of the STS API.
type Operation string

// The calls that a plan is made of. GetFederationToken is for the console alone, which takes no
// session of GetSessionToken.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_Operations.html
const (
	GetSessionToken Operation = "GetSessionToken"
	AssumeRole      Operation = "AssumeRole"

	GetFederationToken Operation = "GetFederationToken"
)

// Tag is one session tag.
type Tag struct{ Key, Value string }

// Call is one call to STS as pure data: everything that it is asked, but for
// the credentials that sign it and the MFA code.
type Call struct {
	Operation   Operation
	Endpoint    profiles.Endpoint
	Duration    time.Duration // 0 leaves it to STS
	MFASerial   string        // set where the call carries a code
	RoleARN     string
	SessionName string
	ExternalID  string
	Policy      string
	PolicyARN   string `json:",omitempty"` // of a managed policy; of GetFederationToken alone
	Tags        []Tag
}

// Credentials are the temporary credentials of one step.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey secret.String
	SessionToken    secret.String
	Expires         time.Time // by the clock of AWS
	Issued          time.Time // what the clock of AWS said when it answered
	Subject         string    // ARN of the assumed role session, or of the federated user; empty for GetSessionToken
}

// Assumer makes AssumeRole calls that are signed with temporary credentials.
// Its errors are faults: Denied, ExpiredSession, Throttled, Network, Clock, BadAnswer.
type Assumer interface {
	Assume(ctx context.Context, with Credentials, call Call) (Credentials, error)
}

// What a caller of Opener or Assumer tells apart within one kind of fault.
var (
	// ErrDurationTooLong: the role, role chaining or the call allows less time than
	// was asked (fault.Failed). The same call with an hour works.
	ErrDurationTooLong = errors.New("duration too long")
	// ErrUnknownKey: AWS does not know the long-lived key (fault.Denied). It was
	// deleted or deactivated, or is a few seconds old.
	ErrUnknownKey = errors.New("unknown access key")
	// ErrWrongDevice: the MFA serial is not of this user's device
	// (fault.CodeRejected). Another code would not help.
	ErrWrongDevice = errors.New("wrong MFA device")
)

// Opener makes the calls that must be signed with the long-lived key of a
// source: it alone can reach the keyring. The code may be empty: then a
// session that was kept of the source answers, or the stored seed makes a code,
// or the error is LoginNeeded. Further faults: Keyring, KeyringLocked,
// CodeRejected, NotFound and those of Assumer.
type Opener interface {
	Open(ctx context.Context, source profiles.Source, call Call, code secret.String) (Credentials, error)
	// Drop forgets the session that was kept of a source.
	Drop(ctx context.Context, source string) error
}

// Step is one call of a plan and who makes it.
type Step struct {
	Call
	// LongTerm says that the call is signed with the long-lived key, by the
	// vault; otherwise with the session of the step before, by the daemon.
	LongTerm bool
	// Seeded says that a stored seed makes the code, so that nobody is asked.
	Seeded  bool
	Profile string // the profile or source that the step is for
	Origin  profiles.Origin
}

// NeedsPerson reports whether nobody but a person can give the code of this step.
func (s Step) NeedsPerson() bool { return s.MFASerial != "" && !s.Seeded }

// Plan is what a chain comes to: at least one step. Only the first is LongTerm.
type Plan struct {
	Profile string
	Region  string
	Source  profiles.Source
	Steps   []Step
	Notes   []string // what a person should know about the plan, for `explain`
	// MFAProcess is the program that gives the codes, and MFAPrompt the persons who are asked.
	MFAProcess string
	MFAPrompt  []string
	Warnings   []profiles.Warning // settings of the profile that do not count
	keys       []Key
	settings   *profiles.Settings // that the plan was made with: a failure counts under the same ones alone
}

// Endpoints are the endpoints of the plan that are not AWS's by their region, each once, with ", " between.
func (p *Plan) Endpoints() string {
	var urls []string
	for _, s := range p.Steps {
		if url := s.Endpoint.URL; url != "" && !slices.Contains(urls, url) {
			urls = append(urls, url)
		}
	}
	return strings.Join(urls, ", ")
}

// Key is what STS is asked, from the source to one step, as a hash. Two
// profiles with the same key share a session.
type Key [sha256.Size]byte

// String is short and tells keys apart for people and programs; nothing can be
// learned from it, since nothing that goes into a key is secret.
func (k Key) String() string { return hex.EncodeToString(k[:8]) }

// Defaults are what a plan takes where the profile says nothing, and what is wished of it.
type Defaults struct {
	SessionDuration time.Duration // of the MFA session
	STSEndpoint     string        // replaces every endpoint; for simulators
	MFAPrompt       []string      // who is asked for a code, in this order: "tty", "gui"
	Wish
}

// hour is the longest a role lives that was assumed with temporary
// credentials, and what STS gives when it is not told.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
const hour = time.Hour

// longest is how long a role and a session of GetSessionToken can live at most.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
const (
	longestRole    = 12 * time.Hour
	longestSession = 36 * time.Hour
)

// NewPlan decides the calls for a chain. It makes none. The error says why no
// plan can last as long as is wished.
func NewPlan(chain profiles.Chain, d Defaults) (*Plan, error) {
	if d.AdHoc != nil && d.AdHoc.Federate {
		return federationPlan(chain, d)
	}
	p := &Plan{Profile: chain.Profile, Region: chain.Region, Source: chain.Source, settings: new(profiles.Settings),
		MFAPrompt:  d.MFAPrompt,
		MFAProcess: chain.MFAProcess, Warnings: chain.Warnings}
	serial := chain.Source.MFASerial
	if len(chain.Roles) > 0 && chain.Roles[0].MFASerial != "" {
		serial = chain.Roles[0].MFASerial
	}
	// A stored seed belongs to the device of the source and to no other.
	seeded := chain.Source.HasSeed && serial == chain.Source.MFASerial
	direct, err := d.fit(&chain)
	if err != nil {
		return nil, err
	}
	// Without a device GetSessionToken gives no more than the key has, and no way to IAM.
	keyed := len(chain.Roles) > 0 && (serial == "" || chain.Source.NoSession)
	if chain.Source.NoSession && !keyed {
		return nil, noSession(chain.Source)
	}
	if direct && serial == "" && chain.Roles[0].FreshMFA {
		return nil, fault.New(fault.Config, "%s: %q needs a code for each session (mfa = each), but its source has no MFA device",
			chain.Roles[0].Origin, chain.Profile).
			WithHint("broker mfa set %s --serial ARN", chain.Source.Name)
	}
	if !direct && !keyed {
		p.Steps = append(p.Steps, Step{
			Call: Call{
				Operation: GetSessionToken,
				Endpoint:  chain.Source.Endpoint,
				Duration:  d.SessionDuration,
				MFASerial: serial,
			},
			LongTerm: true,
			Seeded:   seeded,
			Profile:  chain.Source.Name,
			Origin:   chain.Source.Origin,
		})
	}
	for i, role := range chain.Roles {
		step := Step{
			Call: Call{
				Operation:   AssumeRole,
				Endpoint:    role.Endpoint,
				Duration:    role.Duration,
				RoleARN:     role.ARN,
				SessionName: role.SessionName,
				ExternalID:  role.ExternalID,
			},
			Profile: role.Profile,
			Origin:  role.Origin,
		}
		if step.SessionName == "" {
			step.SessionName = d.SessionName
		}
		if step.Duration == 0 {
			step.Duration = hour
		}
		if direct || keyed && i == 0 {
			step.LongTerm, step.Seeded, step.MFASerial = true, seeded, serial
		}
		switch {
		case direct && serial != "":
			if role.FreshMFA {
				p.Notes = append(p.Notes, "mfa = each: every session of this role needs a code of its own")
			} else {
				p.Notes = append(p.Notes, "more than one hour is given only to a role that is assumed with the long-lived key, so this role has a code of its own")
			}
		case !direct && step.Duration > hour:
			step.Duration = hour
			p.Notes = append(p.Notes, fmt.Sprintf("%s asks for %v, but AWS gives a chained role one hour at most", role.Profile, role.Duration))
		}
		if i > 0 && role.MFASerial != "" && role.MFASerial != serial {
			p.Notes = append(p.Notes, fmt.Sprintf("%s names the device %s, but a role that is assumed from a role cannot be given a code; the session of %s is used", role.Profile, role.MFASerial, serial))
		}
		p.Steps = append(p.Steps, step)
	}
	switch {
	case keyed:
		p.Notes = append(p.Notes, "the role is assumed with the key itself, without a session of "+chain.Source.Name)
	case len(chain.Roles) == 0 && serial == "":
		p.Notes = append(p.Notes, NoDevice)
	}
	if d.AdHoc != nil {
		last := &p.Steps[len(p.Steps)-1]
		last.Policy, last.Tags = d.AdHoc.Policy, d.AdHoc.Tags
	}
	if d.STSEndpoint != "" {
		for i := range p.Steps {
			p.Steps[i].Endpoint.URL, p.Steps[i].Endpoint.Listener = d.STSEndpoint, profiles.AnyListener
		}
	}
	p.keys = keysOf(p)
	return p, nil
}

// NoDevice says what AWS does not do for a session that GetSessionToken gave without a code.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
const NoDevice = "without an MFA device the session of a source can call no IAM, and of STS only AssumeRole and " +
	"GetCallerIdentity"

// noSession says that a source gives no session of its own.
func noSession(source profiles.Source) error {
	return fault.New(fault.Config,
		"%s: source %q gives no session of its own (session = none); use a profile with a role",
		source.Origin, source.Name).
		WithHint("broker profiles list")
}

// fit makes the chain's durations those that are wished, and reports whether its
// one role is to be assumed with the long-lived key.
func (d *Defaults) fit(chain *profiles.Chain) (direct bool, err error) {
	tooLong := func(what string, most time.Duration) error {
		return fault.New(fault.Failed, "%s lives for %v at most, so nothing can last %v", what, most, d.MinTTL).WithHint("broker explain %s", chain.Profile)
	}
	switch n := len(chain.Roles); {
	case n == 0:
		if d.MinTTL > longestSession {
			return false, tooLong("the session of a source", longestSession)
		}
		d.SessionDuration = max(d.SessionDuration, d.MinTTL)
		return false, nil
	case n > 1:
		if d.MinTTL > hour {
			return false, tooLong("a role that is assumed from a role", hour)
		}
		for _, role := range chain.Roles {
			if role.FreshMFA {
				return false, fault.New(fault.Config, "%s: mfa = each is for a role that is assumed with the key itself; in a chain of roles AWS takes no code", role.Origin)
			}
		}
		return false, nil
	}
	role := chain.Roles[0]
	short := d.Short != nil && d.Short(role.ARN)
	switch {
	case d.MinTTL > longestRole:
		return false, tooLong("a role", longestRole)
	case d.MinTTL > hour && short:
		return false, tooLong("the role "+role.ARN, hour)
	}
	role.Duration = max(role.Duration, d.MinTTL)
	if short {
		role.Duration = min(role.Duration, hour)
	}
	// The chain is shared with its other users.
	chain.Roles = []profiles.Role{role}
	return role.Duration > hour || role.FreshMFA, nil
}

// Key is the cache key of step i. It covers everything that the steps up to i ask.
func (p *Plan) Key(i int) Key { return p.keys[i] }

// keysOf chains the hashes: a step's key covers the step before it.
func keysOf(p *Plan) []Key {
	keys := make([]Key, len(p.Steps))
	// Every field is written with its length, so that no two lists of values look the same.
	var buf []byte
	field := func(s string) {
		buf = strconv.AppendInt(buf, int64(len(s)), 10)
		buf = append(append(buf, ':'), s...)
	}
	field(p.Source.AccessKeyID)
	for i, s := range p.Steps {
		for _, v := range []string{
			string(s.Operation), s.Endpoint.Region, s.Endpoint.URL, s.Endpoint.Listener, s.Endpoint.CABundle,
			strconv.FormatBool(s.Endpoint.Legacy), strconv.FormatBool(s.Endpoint.FIPS),
			strconv.FormatBool(s.Endpoint.Compatible),
			s.Duration.String(), s.MFASerial, s.RoleARN, s.SessionName, s.ExternalID, s.Policy, s.PolicyARN,
			strconv.Itoa(len(s.Tags)),
		} {
			field(v)
		}
		for _, t := range s.Tags {
			field(t.Key)
			field(t.Value)
		}
		keys[i] = sha256.Sum256(buf)
		buf = append(buf[:0], keys[i][:]...)
	}
	return keys
}

// Subject says in one word what the last step gives: the role's ARN, or the source's name.
func (p *Plan) Subject() string {
	if last := p.Steps[len(p.Steps)-1]; last.RoleARN != "" {
		return last.RoleARN
	}
	return p.Source.Name
}
