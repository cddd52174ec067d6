package session

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/system"
)

// longestConsoleLogin is how long the sessions of `aws login` last.
// https://docs.aws.amazon.com/signin/latest/userguide/command-line-sign-in.html
const longestConsoleLogin = 15 * time.Minute

// planOther plans the steps of a chain whose source is not an IAM user. No step of it takes an MFA code.
func (p *Plan) planOther(chain profiles.Chain, d *Defaults) error {
	source := chain.Source
	source.Endpoint = source.Endpoint.Replaced(d.STSEndpoint) // a logout has no step
	p.Source = source
	for _, role := range chain.Roles {
		if role.FreshMFA {
			return fault.New(fault.Config, "%s: mfa = each needs an IAM user with an MFA device, but the source of %q is %q",
				role.Origin, chain.Profile, source.Name).WithHint("broker explain %s", chain.Profile)
		}
	}
	first := Step{Call: Call{Endpoint: source.Endpoint}, LongTerm: true, Profile: source.Name, Origin: source.Origin}
	what, most := "", time.Duration(0) // what the last step is for messages, and how long it can last; 0 if unknown
	roles := chain.Roles
	switch source.Kind {
	case profiles.Portal:
		first.Operation = CreateToken
		what, most = "a permission set", longestRole
	case profiles.ConsoleLogin:
		first.Operation = CreateOAuth2Token
		what, most = "the session of a console login", longestConsoleLogin
	case profiles.WebIdentity:
		if len(roles) == 0 {
			return fault.New(fault.Config, "%s: %q has a web identity token, but no role_arn", source.Origin, source.Name).
				WithHint("broker explain %s", chain.Profile)
		}
		what, most = d.longest(roles[0].ARN)
		first = p.webIdentityStep(roles[0], d, most)
		roles = roles[1:]
	case profiles.OtherProgram:
		first.Operation, first.Endpoint = RunProgram, profiles.Endpoint{}
	default:
		return fault.New(fault.Internal, "unknown kind of source %q", source.Kind)
	}
	p.Steps = append(p.Steps, first)
	if set := chain.Assignment; set != nil {
		p.Steps = append(p.Steps, Step{
			Call: Call{Operation: GetRoleCredentials, Endpoint: source.Endpoint, AccountID: set.AccountID,
				RoleName: set.RoleName},
			Profile: set.Profile,
			Origin:  set.Origin,
		})
	}
	for _, role := range roles {
		step := p.roleStep(role, d)
		p.chained(&step)
		p.Steps = append(p.Steps, step)
		what, most = "a role that is assumed with temporary credentials", hour
	}
	if most > 0 && d.MinTTL > most {
		return d.tooLong(chain.Profile, what, most)
	}
	return nil
}

// webIdentityStep returns the step that assumes a role with a token from a file, for most at most. AWS takes the
// session tags and the source identity from the token, and the call has no external id.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
func (p *Plan) webIdentityStep(role profiles.Role, d *Defaults, most time.Duration) Step {
	step := p.roleStep(role, d)
	step.Operation, step.LongTerm = AssumeRoleWithWebIdentity, true
	if step.attributed() || step.ExternalID != "" {
		p.Notes = append(p.Notes, "the token of the role decides on session tags and a source identity, and the role takes "+
			"no external id, so these settings have no effect")
	}
	step.Tags, step.TransitiveTags, step.SourceIdentity, step.ExternalID = nil, nil, "", ""
	step.Duration = min(max(step.Duration, d.MinTTL), most)
	return step
}

// refuse returns an error for a request that a plan cannot serve with the credentials of step i. Nobody gets the
// access token of a portal: it gives every permission set of the person.
func (p *Plan) refuse(i int, req *Request) error {
	switch {
	case p.Source.Kind != profiles.IAMUser && !req.Code.IsZero():
		return fault.New(fault.Usage, "%q takes no MFA code", p.Source.Name).WithHint("broker login %s", p.login())
	case p.Steps[i].Operation == CreateToken && !req.Login:
		return fault.New(fault.Usage, "%q is a login to IAM Identity Center and has no session of its own; use a profile "+
			"with an account and a permission set", p.Profile).WithHint("broker profiles list")
	}
	return nil
}

// identityOf returns what tells a source from all others, as far as its sessions are concerned.
func identityOf(source profiles.Source) []string {
	if source.Kind == profiles.IAMUser {
		return []string{source.AccessKeyID}
	}
	return []string{string(source.Kind), source.Name, source.StartURL, strings.Join(source.Scopes, ","), source.ARN,
		source.TokenFile, source.Command}
}

// pageLogin is a source to which a person logs in on a web page. The vault renews the login without a person as long
// as AWS allows it. Only the command `broker login` opens a page: see BeginLogin.
type pageLogin struct{ *Broker }

func (l pageLogin) open(ctx context.Context, plan *Plan, i int, _ bool) (Credentials, error) {
	creds, err := l.cfg.Vault.Open(ctx, plan.Source, plan.Steps[i].Call, secret.String{})
	if fault.Is(err, fault.LoginNeeded) {
		err = fault.Of(err).WithHint("broker login %s", plan.login())
	}
	return creds, err
}

// endTimeout limits the wait for AWS to end a login.
const endTimeout = 20 * time.Second

func (l pageLogin) logout(ctx context.Context, source profiles.Source) error {
	if l.cfg.Logins == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	return l.cfg.Logins.EndLogin(ctx, source)
}

// webIdentity is a role that is assumed with a token from a file, which another program keeps up to date.
type webIdentity struct{ *Broker }

func (w webIdentity) open(ctx context.Context, plan *Plan, i int, _ bool) (Credentials, error) {
	token, err := readToken(plan.Source.TokenFile)
	if err != nil {
		return Credentials{}, fault.New(fault.Config, "%s: the web identity token of %q: %w", plan.Source.Origin,
			plan.Source.Name, err)
	}
	creds, err := w.cfg.STS.Assume(ctx, Credentials{SessionToken: token}, plan.Steps[i].at(w.cache.now().wall))
	if fault.Is(err, fault.ExpiredSession) { // no step before this one can be repeated
		err = fault.New(fault.Failed, "the token in %s has expired, and the program that writes it has not renewed it: %w",
			plan.Source.TokenFile, err)
	}
	return creds, err
}

func (webIdentity) logout(context.Context, profiles.Source) error { return nil }

// LongestWebIdentity is the longest web identity token that AWS accepts, in bytes.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
const LongestWebIdentity = 20000

// readToken reads a token. Kubernetes replaces the file by way of symbolic links, so they are followed.
func readToken(path string) (secret.String, error) {
	if err := system.Trusted(path); err != nil {
		return secret.String{}, err
	}
	f, _, err := system.OpenRegular(path, 0)
	if err != nil {
		return secret.String{}, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, LongestWebIdentity+2)) // with a newline
	if err != nil {
		return secret.String{}, err
	}
	token := strings.TrimSpace(string(b))
	switch {
	case token == "":
		return secret.String{}, fault.New(fault.Config, "%s is empty", path)
	case !Visible(token, LongestWebIdentity) || !isJWT(token):
		return secret.String{}, fault.New(fault.Config, "%s does not contain a token of OpenID Connect (a JWT)", path)
	}
	return secret.New(token), nil
}

// isJWT reports whether a text has the form of a signed JWT. A path to another secret, such as a password, must not
// send it to AWS. https://www.rfc-editor.org/rfc/rfc7515#section-7.1
func isJWT(text string) bool {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return false
	}
	for _, part := range parts[:2] {
		var object map[string]any
		if b, err := base64.RawURLEncoding.DecodeString(part); err != nil || json.Unmarshal(b, &object) != nil {
			return false
		}
	}
	_, err := base64.RawURLEncoding.DecodeString(parts[2])
	return err == nil && parts[2] != ""
}

// Visible reports whether a text has visible ASCII characters only, at least one and at most limit. Other characters
// could end a line of a file or of a variable into which credentials are written.
func Visible(text string, limit int) bool {
	return text != "" && len(text) <= limit &&
		!strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

// trustedProgram is the credential_process of another program, which the user trusted.
type trustedProgram struct{ *Broker }

func (t trustedProgram) open(ctx context.Context, plan *Plan, _ int, _ bool) (Credentials, error) {
	if t.cfg.Run == nil {
		return Credentials{}, fault.New(fault.Internal, "no credential_process can run")
	}
	out, err := t.cfg.Run(ctx, plan.Source.Command)
	if err != nil {
		return Credentials{}, err
	}
	creds, problem := parseProcess(out, t.cache.now().wall)
	if problem != "" {
		return Credentials{}, &fault.Error{Kind: fault.BadAnswer, Err: ErrProgram,
			Message: fmt.Sprintf("the credential_process of %q %s", plan.Source.Name, problem)}
	}
	return creds, nil
}

func (trustedProgram) logout(context.Context, profiles.Source) error { return nil }

// parseProcess parses what a credential_process printed. Broker needs to know when the session ends, and never hands
// out a long-lived key, so it refuses credentials without an Expiration or a SessionToken. The problem contains
// nothing of the output.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
func parseProcess(out secret.String, now time.Time) (creds Credentials, problem string) {
	var doc struct {
		Version                                    int
		AccessKeyId, SecretAccessKey, SessionToken string //nolint:revive // as in the document
		Expiration                                 string
	}
	if err := json.Unmarshal([]byte(out.Reveal()), &doc); err != nil {
		return Credentials{}, "did not print one JSON document"
	}
	expires, err := time.Parse(time.RFC3339, doc.Expiration)
	switch {
	case doc.Version != 1:
		return Credentials{}, "printed another version than 1"
	case doc.AccessKeyId == "" || doc.SecretAccessKey == "":
		return Credentials{}, "printed no credentials"
	case doc.SessionToken == "":
		return Credentials{}, "printed a long-lived key, which Broker does not hand out; store it with broker add"
	case doc.Expiration == "":
		return Credentials{}, "printed no Expiration, so Broker cannot know when the session ends"
	case err != nil:
		return Credentials{}, "printed an invalid Expiration"
	case !expires.After(now):
		return Credentials{}, "printed credentials that have expired"
	case expires.Sub(now) > longestSession+time.Hour: // their clock may be ahead
		return Credentials{}, "printed an Expiration that is later than AWS ever allows"
	case !Visible(doc.AccessKeyId, 128) || !Visible(doc.SecretAccessKey, 256) || !Visible(doc.SessionToken, 16<<10):
		return Credentials{}, "printed credentials with blanks or control characters, or that are too long"
	}
	return Credentials{AccessKeyID: doc.AccessKeyId, SecretAccessKey: secret.New(doc.SecretAccessKey),
		SessionToken: secret.New(doc.SessionToken), Issued: now, Expires: expires}, ""
}

// BeginLogin returns the page on which a person logs in to the source of a request. redirect is as for Logins.
func (b *Broker) BeginLogin(ctx context.Context, req Request, redirect string) (Login, Answer, error) {
	plan, err := b.pagePlan(&req)
	if err != nil {
		return Login{}, Answer{}, err
	}
	login, err := b.cfg.Logins.BeginLogin(ctx, plan.Source, redirect)
	return login, plan.loginAnswer(time.Time{}), err
}

// FinishLogin finishes a login that BeginLogin has begun. Everything that was held of the source is dropped: it may
// belong to another person, and a cached failure may be over. See Logins for ErrPending and ErrSlowDown. The answer
// holds no credentials. Its Expires is when a person has to log in again, or zero if that is not known.
func (b *Broker) FinishLogin(ctx context.Context, req Request, login Login, code secret.String) (Answer, error) {
	plan, err := b.pagePlan(&req)
	if err != nil {
		return Answer{}, err
	}
	before := b.logout.of(plan.Source.Name)
	until, err := b.cfg.Logins.FinishLogin(ctx, plan.Source, login, code)
	if err != nil {
		return plan.loginAnswer(time.Time{}), err
	}
	if b.logout.of(plan.Source.Name) != before {
		// The vault may have stored the login after Logout cleared the keyring.
		if err = (pageLogin{b}).logout(context.WithoutCancel(ctx), plan.Source); err == nil {
			err = fault.New(fault.LoginNeeded, "%q was logged out during the login", plan.Source.Name).
				WithHint("broker login %s", plan.login())
		}
		return plan.loginAnswer(time.Time{}), err
	}
	b.cache.drop(func(s *slot) bool { return s.plan.Source.Name == plan.Source.Name })
	b.tagAgain(plan.Source.Name)
	if err := b.refuseLocked(); err != nil {
		return Answer{}, err
	}
	_, _ = b.step(ctx, plan, 0, &req) // so that status shows the login; who needs the session sees an error
	return plan.loginAnswer(until), nil
}

// Adopted forgets the sessions that were got with the login of a source: the vault took over the login that another
// tool made, perhaps for another person. The login itself, which is being opened, stays.
func (b *Broker) Adopted(source string) { b.cache.outdate(source) }

// loginAnswer returns the answer for a login.
func (p *Plan) loginAnswer(until time.Time) Answer {
	return Answer{Credentials: Credentials{Expires: until}, Profile: p.Profile, Source: p.Source.Name,
		Endpoints: p.Endpoints()}
}

// pagePlan returns the plan of a request for a login on a page.
func (b *Broker) pagePlan(req *Request) (*Plan, error) {
	if err := b.refuseLocked(); err != nil {
		return nil, err
	}
	req.Login = true
	plan, _, err := b.plan(req)
	switch {
	case err != nil:
		return nil, err
	case !plan.Source.Kind.ByPage():
		return nil, fault.New(fault.Usage, "%q has no login on a web page", plan.Source.Name).
			WithHint("broker login %s", plan.Source.Name)
	case b.cfg.Logins == nil:
		return nil, fault.New(fault.Internal, "this daemon cannot log in on a web page")
	}
	return plan, nil
}
