// Package session turns a chain into a plan, and a plan into credentials. A cache, keyed by what STS is asked for,
// holds the sessions. The package does not depend on the AWS SDK, the keyring or the socket; it declares what it
// needs from them as interfaces.
package session

import (
	"cmp"
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
	"broker/internal/partition"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// Operation names a call to AWS, or RunProgram.
type Operation string

// The operations of plans. Those of the first group are calls of STS:
// https://docs.aws.amazon.com/STS/latest/APIReference/API_Operations.html
const (
	GetSessionToken           Operation = "GetSessionToken"
	AssumeRole                Operation = "AssumeRole"
	AssumeRoleWithWebIdentity Operation = "AssumeRoleWithWebIdentity"
	// GetFederationToken is for the console only, which does not accept a session of GetSessionToken.
	GetFederationToken Operation = "GetFederationToken"

	// CreateToken of IAM Identity Center gives Credentials whose SessionToken is the access token.
	// https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/API_CreateToken.html
	CreateToken Operation = "CreateToken"
	// GetRoleCredentials of IAM Identity Center takes the access token.
	// https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html
	GetRoleCredentials Operation = "GetRoleCredentials"
	// CreateOAuth2Token is of the sign-in service of the console.
	// https://docs.aws.amazon.com/signin/latest/APIReference/API_CreateOAuth2Token.html
	CreateOAuth2Token Operation = "CreateOAuth2Token"

	RunProgram Operation = "RunProgram" // a trusted program prints the credentials
)

// Tag is one session tag.
type Tag = profiles.Tag

// Call is one call as plain data: all its parameters except the MFA code, and without the credentials that
// sign it.
type Call struct {
	Operation   Operation
	Endpoint    profiles.Endpoint
	Duration    time.Duration // 0 leaves it to STS
	MFASerial   string        // set where the call carries a code
	RoleARN     string
	SessionName string
	ExternalID  string
	Policy      string
	// PolicyARN is a managed policy. The session may do what Policy or PolicyARN allows and neither denies.
	PolicyARN string `json:",omitempty"`
	Tags      []Tag
	// For AssumeRole only.
	TransitiveTags []string `json:",omitempty"` // keys of Tags that roles assumed with the session inherit
	SourceIdentity string   `json:",omitempty"`
	// For GetRoleCredentials only.
	AccountID string `json:",omitempty"`
	RoleName  string `json:",omitempty"`
}

// Credentials are the temporary credentials of one step.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey secret.String
	SessionToken    secret.String
	Expires         time.Time // by the clock of AWS
	Issued          time.Time // the time of AWS's clock when it answered
	Subject         string    // ARN of the assumed role session, or of the federated user; empty for GetSessionToken
	Cached          bool      // the cache had them: nothing was fetched for this request
	// LoginEnds is when AWS ends the login that gave them, by its clock, whatever renews them. Zero if it is not known.
	LoginEnds time.Time
}

// SessionName returns the name of the role session or of the federated user, or "".
func (c Credentials) SessionName() string { return c.Subject[strings.LastIndexByte(c.Subject, '/')+1:] }

// Assumer makes AssumeRole calls that are signed with temporary credentials, GetRoleCredentials, and
// AssumeRoleWithWebIdentity. The latter two take only the SessionToken of the credentials: the access token or the web
// identity token.
// Its errors are faults: Denied, ExpiredSession, Throttled, Network, Clock, BadAnswer.
type Assumer interface {
	Assume(ctx context.Context, with Credentials, call Call) (Credentials, error)
}

// Errors that callers of Opener and Assumer distinguish within one kind of fault.
var (
	// ErrDurationTooLong means that the role, role chaining or the call allows less time than was asked for
	// (fault.Failed). The same call with one hour works.
	ErrDurationTooLong = errors.New("duration too long")
	// ErrUnknownKey means that AWS does not know the long-lived key (fault.Denied). The key was deleted or
	// deactivated, or is only a few seconds old.
	ErrUnknownKey = errors.New("unknown access key")
	// ErrTagsRefused means that the role's trust policy, or a policy of the caller, does not allow session tags or
	// the source identity (fault.Denied). The same call without them may work.
	ErrTagsRefused = errors.New("session tags refused")
	// ErrWrongDevice means that the MFA serial is not of this user's device (fault.CodeRejected). Another code
	// would not help.
	ErrWrongDevice = errors.New("wrong MFA device")
	// ErrProgram means that a trusted program printed something that is not a session (fault.BadAnswer). AWS was not
	// asked.
	ErrProgram = errors.New("the answer of a program")
	// ErrPending means that nobody has confirmed the code on the page yet (fault.LoginNeeded): ask again after the
	// Interval of the Login. ErrSlowDown means the same, with five seconds more from then on.
	ErrPending  = errors.New("not confirmed yet")
	ErrSlowDown = errors.New("not confirmed yet, and asked too often")
)

// Opener makes the calls that must be signed with the long-lived key of a source. Only an Opener can reach the
// keyring. The code may be empty. Then Open returns a session of the source that it kept, or makes a code from the
// stored seed, or fails with LoginNeeded. Further faults: Keyring, KeyringLocked, CodeRejected, NotFound and those
// of Assumer.
type Opener interface {
	Open(ctx context.Context, source profiles.Source, call Call, code secret.String) (Credentials, error)
	// Drop removes the kept session of a source, which a refresh token can renew. refused is the access key id of the
	// session that AWS refused, and another session stays; if it is empty, any session is removed.
	Drop(ctx context.Context, source, refused string) error
}

// Logins logs people in to sources of a kind that has ByPage. The secrets stay in the keyring; Open of an Opener uses
// them. The faults are those of Opener.
type Logins interface {
	// BeginLogin returns the page on which a person logs in to a source of a kind that has ByPage. redirect is the
	// address to which the page leads; without one, the person confirms a code on the page.
	BeginLogin(ctx context.Context, source profiles.Source, redirect string) (Login, error)
	// FinishLogin exchanges the code that the page led back with for tokens, and keeps them. Without a redirect there
	// is no code: it asks once whether the person has confirmed; see ErrPending. It returns when a person has to log in
	// again, or the zero time if that is not known.
	FinishLogin(ctx context.Context, source profiles.Source, login Login, code secret.String) (time.Time, error)
	// EndLogin ends a login at AWS, if AWS can end it, and deletes all that was kept of it. For a login that no file names
	// any more, the source has only the Name and the Registry.
	EndLogin(ctx context.Context, source profiles.Source) error
	// LoginNames returns the names of the logins that are kept for a registry, also of those that no file names.
	LoginNames(ctx context.Context, registry string) ([]string, error)
}

// Login is a login on a web page that has begun.
type Login struct {
	URL      string
	Redirect string // as in the call of BeginLogin; a page with none shows UserCode
	State    string // the redirect must have it
	UserCode string
	Expires  time.Time     // until then the person can log in
	Interval time.Duration // between two questions whether the person has confirmed
	// Proof is what FinishLogin needs besides the code: the code verifier of PKCE, or the device code.
	Proof secret.String
	// Adopt is the absolute directory in which `aws login` keeps its logins. If it is set, no login has begun:
	// FinishLogin takes over the login that this tool has for the ARN of the source, or fails with NotFound. From then on
	// that tool has to log in again, because each refresh ends the refresh token before it: ask the person first.
	Adopt string
}

// Step is one call of a plan, and how it is signed.
type Step struct {
	Call
	// LongTerm means that the step needs what the source keeps: mostly, the vault signs the call with the long-lived
	// key. Otherwise the daemon signs it with the session of the step before.
	LongTerm bool
	// Seeded means that a stored seed makes the code, so nobody is prompted.
	Seeded  bool
	Profile string // the profile or source that the step is for
	Origin  profiles.Origin
	// ElevatedUntil is when the full rights of a profile with read_only = true end; zero without such rights. It is
	// in the key in addition to the Call.
	ElevatedUntil time.Time

	optional bool // if AWS refuses the tags or the source identity, do without both
	program  bool // the last tag is that of Limit.For; if AWS refuses the tags, the first retry leaves this one out
}

// ReadOnly reports whether AWS's own policy limits the session of this step to reading.
func (s *Step) ReadOnly() bool { return s.PolicyARN != "" }

// at returns the call of the step as it is sent at a moment. An elevated session lasts no longer than the rights do,
// but at least shortestRole.
func (s *Step) at(now time.Time) Call {
	call := s.Call
	if !s.ElevatedUntil.IsZero() {
		call.Duration = max(min(call.Duration, s.ElevatedUntil.Sub(now).Truncate(time.Second)), shortestRole)
	}
	return call
}

// NeedsPerson reports whether the step needs a code that no stored seed can make.
func (s Step) NeedsPerson() bool { return s.MFASerial != "" && !s.Seeded }

// Plan is the list of calls for a chain: at least one step. Only the first step can be LongTerm.
type Plan struct {
	Profile string
	Region  string
	Source  profiles.Source
	Steps   []Step
	Notes   []string // what a person should know about the plan, for `explain`
	// MFAProcess is the program that gives codes. MFAPrompt lists where people are prompted.
	MFAProcess string
	MFAPrompt  []string
	Guard      profiles.Guard
	// Directories are the trusted directories, to which the session may belong or not.
	Directories *profiles.Directories
	Warnings    []profiles.Warning // about settings of the profile that have no effect
	keys        []Key
	settings    *profiles.Settings // the settings that the plan was made with: a failure is cached for these only
}

// Endpoints returns the endpoints of the plan that are not AWS's own of their region, each once, separated by ",
// ".
func (p *Plan) Endpoints() string {
	var urls []string
	for _, s := range p.Steps {
		if url := s.Endpoint.URL; url != "" && !slices.Contains(urls, url) {
			urls = append(urls, url)
		}
	}
	return strings.Join(urls, ", ")
}

// Key is a hash of what STS is asked for, from the source up to one step. Two profiles with the same key share a
// session.
type Key [sha256.Size]byte

// String returns a short form that distinguishes keys in output. It reveals nothing: no part of a key is secret.
func (k Key) String() string { return hex.EncodeToString(k[:8]) }

// Defaults are the values that a plan uses where the profile sets none, and the wishes for this plan.
type Defaults struct {
	SessionDuration time.Duration // of the MFA session
	STSEndpoint     string        // replaces every endpoint; for simulators
	MFAPrompt       []string      // where people are prompted for a code, in order: "tty", "gui"
	Wish
}

// hour is the longest lifetime of a role that was assumed with temporary credentials, and the default of STS.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
const hour = time.Hour

// The shortest and longest lifetimes of a role, and the longest of a session of GetSessionToken.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
const (
	shortestRole   = 15 * time.Minute
	longestRole    = 12 * time.Hour
	longestSession = 36 * time.Hour
)

// NewPlan decides which calls a chain needs. It makes no call. The error says why no plan can last as long as was
// asked for.
func NewPlan(chain profiles.Chain, d Defaults) (*Plan, error) {
	if d.AdHoc != nil && d.AdHoc.Federate {
		return federationPlan(chain, d)
	}
	p := &Plan{Profile: chain.Profile, Region: chain.Region, Source: chain.Source, Guard: chain.Guard,
		Directories: chain.Directories, settings: new(profiles.Settings),
		MFAPrompt:  d.MFAPrompt,
		MFAProcess: chain.MFAProcess, Warnings: chain.Warnings}
	plan := p.planOther
	if chain.Source.Kind == profiles.IAMUser {
		plan = p.planUser
	}
	if err := plan(chain, &d); err != nil {
		return nil, err
	}
	last := &p.Steps[len(p.Steps)-1]
	p.sayProgram(chain.Roles, &d)
	if d.AdHoc != nil {
		last.Policy = d.AdHoc.Policy
	}
	switch n := len(chain.Roles); {
	case n == 0 || !chain.Roles[n-1].ReadOnly:
	case d.ElevatedUntil.IsZero() || d.Limit.ReadOnly:
		if last.Policy != "" && allows(last.Policy) {
			return nil, d.allowsMore(chain.Profile)
		}
		last.PolicyARN = "arn:" + cmp.Or(partition.OfARN(last.RoleARN), partition.Default) + ":iam::aws:" + readOnly
	default:
		last.ElevatedUntil = d.ElevatedUntil
	}
	for i := range p.Steps {
		if p.Steps[i].Operation != RunProgram { // it calls nothing
			p.Steps[i].Endpoint = p.Steps[i].Endpoint.Replaced(d.STSEndpoint)
		}
	}
	p.keys = keysOf(p)
	return p, nil
}

// allowsMore returns the error for a session policy of a read-only profile that allows anything.
func (d *Defaults) allowsMore(profile string) error {
	const why = "%q is read-only, and AWS adds what a session policy allows to what ReadOnlyAccess allows; " +
		"send a policy that only denies"
	if d.Limit.ReadOnly {
		return fault.New(fault.Usage, why, profile).WithHint("broker explain %s", profile)
	}
	return fault.New(fault.Usage, why+", or elevate the profile", profile).
		WithHint("broker elevate %s --for 15m --reason WHY", profile)
}

// planUser plans the steps of a chain whose source is an IAM user.
func (p *Plan) planUser(chain profiles.Chain, d *Defaults) error {
	serial := chain.Source.MFASerial
	if len(chain.Roles) > 0 && chain.Roles[0].MFASerial != "" {
		serial = chain.Roles[0].MFASerial
	}
	// A stored seed belongs to the device of the source and to no other.
	seeded := chain.Source.HasSeed && serial == chain.Source.MFASerial
	direct, err := d.fit(&chain)
	if err != nil {
		return err
	}
	// Without a device, GetSessionToken gives no more rights than the key has, and none for IAM.
	keyed := len(chain.Roles) > 0 && (serial == "" || chain.Source.NoSession)
	if chain.Source.NoSession && !keyed {
		return noSession(chain.Source)
	}
	if direct && serial == "" && chain.Roles[0].FreshMFA {
		return fault.New(fault.Config,
			"%s: %q needs a code for each session (mfa = each), but its source has no MFA device",
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
		step := p.roleStep(role, d)
		if direct || keyed && i == 0 {
			step.LongTerm, step.Seeded, step.MFASerial = true, seeded, serial
		}
		switch {
		case direct && serial != "":
			if role.FreshMFA {
				p.Notes = append(p.Notes, "mfa = each: every session of this role needs a code of its own")
			} else {
				p.Notes = append(p.Notes, longNeedsKey)
			}
		case !direct:
			p.chained(&step)
		}
		if i > 0 && role.MFASerial != "" && role.MFASerial != serial {
			p.Notes = append(p.Notes, fmt.Sprintf("%s sets the device %s, but AWS accepts no code when a role is assumed from a role; "+
				"the session of %s is used", role.Profile, role.MFASerial, serial))
		}
		p.Steps = append(p.Steps, step)
	}
	switch {
	case keyed:
		p.Notes = append(p.Notes, "the role is assumed with the key itself, without a session of "+chain.Source.Name)
	case len(chain.Roles) == 0 && serial == "":
		p.Notes = append(p.Notes, noDevice)
	}
	return nil
}

// roleStep returns the step that assumes a role.
func (p *Plan) roleStep(role profiles.Role, d *Defaults) Step {
	step := Step{
		Call: Call{
			Operation:   AssumeRole,
			Endpoint:    role.Endpoint,
			Duration:    cmp.Or(role.Duration, hour),
			RoleARN:     role.ARN,
			SessionName: d.Who.name(cmp.Or(role.SessionName, usualName)),
			ExternalID:  role.ExternalID,
			Tags:        d.Who.tags(role.Tags),

			TransitiveTags: role.TransitiveTags,
		},
		Profile:  role.Profile,
		Origin:   role.Origin,
		optional: role.OptionalTags,
	}
	if role.SourceIdentity != "" {
		step.SourceIdentity = d.Who.name(role.SourceIdentity)
	}
	if step.optional && d.Untagged != nil && d.Untagged(p.Source.Name, role.ARN, false) && step.attributed() {
		p.Warnings = append(slices.Clip(p.Warnings), step.withoutTags())
	}
	return step
}

// chained limits a step to the time that AWS gives a role that is assumed with temporary credentials.
func (p *Plan) chained(step *Step) {
	if step.Duration > hour {
		p.Notes = append(p.Notes, fmt.Sprintf("%s asks for %s, but AWS gives a chained role one hour at most",
			step.Profile, profiles.FormatDuration(step.Duration)))
		step.Duration = hour
	}
}

// longNeedsKey says why an open session of the source is not enough.
const longNeedsKey = "AWS gives more than one hour only if a role is assumed with the long-lived key, so this role needs " +
	"its own code"

// readOnly is the policy of a session of a profile with read_only = true. This AWS managed policy allows reading the
// resources of an account, with their contents. It does not allow assuming another role.
// https://docs.aws.amazon.com/aws-managed-policy/latest/reference/ReadOnlyAccess.html
const readOnly = "policy/ReadOnlyAccess"

// noDevice says what a session that GetSessionToken gave without a code cannot do.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
const noDevice = "without an MFA device, the session of a source cannot call IAM, and of STS only AssumeRole and " +
	"GetCallerIdentity"

// noSession returns the error for a source with session = none.
func noSession(source profiles.Source) error {
	return fault.New(fault.Config,
		"%s: source %q gives no session of its own (session = none); use a profile with a role",
		source.Origin, source.Name).
		WithHint("broker profiles list")
}

// fit adapts the chain's durations to the wishes. It reports whether the chain's only role must be assumed with
// the long-lived key.
func (d *Defaults) fit(chain *profiles.Chain) (direct bool, err error) {
	tooLong := func(what string, most time.Duration) error { return d.tooLong(chain.Profile, what, most) }
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
				return false, fault.New(fault.Config,
					"%s: mfa = each does not work in a chain of roles: AWS accepts no code there", role.Origin)
			}
		}
		return false, nil
	}
	role := chain.Roles[0]
	what, most := d.longest(role.ARN)
	if d.MinTTL > most {
		return false, tooLong(what, most)
	}
	role.Duration = min(max(role.Duration, d.MinTTL), most)
	// Copy the roles: other callers share the chain.
	chain.Roles = []profiles.Role{role}
	return role.Duration > hour || role.FreshMFA, nil
}

// longest returns how long a role that is not chained can last, and its name for messages.
func (d *Defaults) longest(role string) (what string, most time.Duration) {
	if d.Short != nil && d.Short(role) {
		return "the role " + role, hour
	}
	return "a role", longestRole
}

// tooLong returns the error for a wish that no session can fulfill.
func (d *Defaults) tooLong(profile, what string, most time.Duration) error {
	return fault.New(fault.Failed, "%s lasts at most %s, so no session can last %s", what,
		profiles.FormatDuration(most), profiles.FormatDuration(d.MinTTL)).WithHint("broker explain %s", profile)
}

// Key returns the cache key of step i. It covers all parameters of the steps up to i.
func (p *Plan) Key(i int) Key { return p.keys[i] }

// keysOf chains the hashes: the key of a step covers the steps before it.
func keysOf(p *Plan) []Key {
	keys := make([]Key, len(p.Steps))
	// Each field is written with its length, so that two different lists of values cannot look the same.
	var buf []byte
	field := func(s string) {
		buf = strconv.AppendInt(buf, int64(len(s)), 10)
		buf = append(append(buf, ':'), s...)
	}
	for _, v := range identityOf(p.Source) {
		field(v)
	}
	for i, s := range p.Steps {
		for _, v := range []string{
			string(s.Operation), s.Endpoint.Region, s.Endpoint.URL, s.Endpoint.Listener, s.Endpoint.CABundle,
			strconv.FormatBool(s.Endpoint.Legacy), strconv.FormatBool(s.Endpoint.FIPS),
			strconv.FormatBool(s.Endpoint.Compatible),
			s.Duration.String(), s.MFASerial, s.RoleARN, s.SessionName, s.ExternalID, s.Policy, s.PolicyARN,
			s.SourceIdentity, s.AccountID, s.RoleName, until(s.ElevatedUntil),
			strconv.Itoa(len(s.Tags)), strconv.Itoa(len(s.TransitiveTags)),
		} {
			field(v)
		}
		for _, key := range s.TransitiveTags {
			field(key)
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

// until writes a moment for a key.
func until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixNano(), 10)
}

// Subject names what the last step gives: the role's ARN, the permission set, or the source's name.
func (p *Plan) Subject() string {
	return cmp.Or(p.Steps[len(p.Steps)-1].subject(Credentials{}), p.Source.Name)
}
