package daemon

import (
	"context"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/grant"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/wire"
)

// AWS makes the calls to AWS services other than STS. Its errors are faults.
type AWS interface {
	// SignIn exchanges a session for a token with which a browser signs in to the console of a partition. It
	// returns the endpoint that issued the token. life is how long the console session lasts; 0 leaves that to
	// AWS.
	SignIn(ctx context.Context, with session.Credentials, partition, caBundle string, life time.Duration) (
		endpoint string, token secret.String, err error)
	// Accounts lists the active accounts of the organization. The session must belong to its management account.
	Accounts(ctx context.Context, with session.Credentials, endpoint profiles.Endpoint) ([]wire.Account, error)
	// AllAccounts lists all accounts, with the paths of their organizational units. If AWS denies the paths, denied says
	// why.
	AllAccounts(ctx context.Context, with session.Credentials, endpoint profiles.Endpoint) (
		list []wire.Account, denied, err error)
	// Assigned lists what a portal assigns to the person whose access token this is.
	Assigned(ctx context.Context, access secret.String, endpoint profiles.Endpoint) ([]wire.Assignment, error)
	// Role returns what IAM says about a role: its longest session, and whether it accepts session tags. The session
	// must be of the role's account.
	Role(ctx context.Context, with session.Credentials, endpoint profiles.Endpoint, arn string) (
		longest time.Duration, tagged bool, err error)
	// Token makes a token for a service that takes no session. Its terms are valid, and endpoint has their region.
	Token(ctx context.Context, with session.Credentials, endpoint profiles.Endpoint, terms wire.TokenTerms) (
		wire.Token, error)
}

// signIn replies with a sign-in token. The session that the token is made from is not handed out.
func (d *Daemon) signIn(ctx context.Context, c call) error {
	ask := d.grantRequest(c)
	ask.Delivery = audit.Console
	var sign wire.SignIn
	ask.Use = func(ctx context.Context, r session.Request, answer session.Answer) (err error) {
		sign.Endpoint, sign.Token, err = d.token(ctx, r, answer)
		return err
	}
	return d.grants.Give(ctx, ask, func(answers []session.Answer) error {
		sign.Profile, sign.Expiration = answers[0].Profile, answers[0].Expires
		return c.reply(wire.Response{SignIn: &sign, Warnings: grant.Lines(answers[0].Warnings)})
	})
}

func (d *Daemon) token(ctx context.Context, r session.Request, answer session.Answer) (string, secret.String, error) {
	chain, err := d.chain(r)
	if err != nil {
		return "", secret.String{}, err
	}
	bundle := chain.Source.Endpoint.CABundle
	if r.AdHoc != nil && r.AdHoc.ARN != "" {
		chain.Roles = []profiles.Role{r.AdHoc.Role} // only the last role matters here
	} else if n := len(chain.Roles); n > 0 {
		bundle = chain.Roles[n-1].Endpoint.CABundle
	}
	partition, _ := chain.Account()
	var life time.Duration
	if answer.Direct {
		life = time.Until(answer.Expires)
	}
	return d.AWS.SignIn(ctx, answer.Credentials, partition, bundle, life)
}

// accounts lists the accounts of an organization. The session that signs the call is not handed out.
func (d *Daemon) accounts(ctx context.Context, c call) error {
	ask := d.grantRequest(c)
	ask.Event, ask.Delivery = "used", ""
	var list []wire.Account
	var denied error
	ask.Use = func(ctx context.Context, r session.Request, answer session.Answer) error {
		endpoint, err := d.globalEndpoint(r)
		if err != nil {
			return err
		}
		if c.req.AllAccounts {
			list, denied, err = d.AWS.AllAccounts(ctx, answer.Credentials, endpoint)
			return err
		}
		list, err = d.AWS.Accounts(ctx, answer.Credentials, endpoint)
		return err
	}
	return d.grants.Give(ctx, ask, func(answers []session.Answer) error {
		warnings := grant.Lines(answers[0].Warnings)
		if denied != nil {
			warnings = append(warnings, "the organizational units are not known: "+fault.Line(denied.Error()))
		}
		return c.reply(wire.Response{Accounts: list, Warnings: warnings})
	})
}

// assigned lists what the portal of a profile or session assigns to the person who is logged in. The access token is
// not handed out: it gives every permission set of the person.
func (d *Daemon) assigned(ctx context.Context, c call) error {
	var list []wire.Assignment
	answer, err := d.Broker.Portal(ctx, d.request(c),
		func(ctx context.Context, access session.Credentials, endpoint profiles.Endpoint) (err error) {
			list, err = d.AWS.Assigned(ctx, access.SessionToken, endpoint)
			return err
		})
	event := "used"
	if err != nil {
		event = "refused"
	}
	d.record(event, "", c, answer, err)
	if err != nil {
		return err
	}
	return c.reply(wire.Response{Assigned: list})
}

// globalEndpoint returns the endpoint of a request's profile for a service that has one endpoint in each partition.
func (d *Daemon) globalEndpoint(r session.Request) (profiles.Endpoint, error) {
	chain, err := d.chain(r)
	if err != nil {
		return profiles.Endpoint{}, err
	}
	of := chain.Source.Endpoint
	if n := len(chain.Roles); n > 0 {
		of = chain.Roles[n-1].Endpoint
	}
	return of.Global(), nil
}

// chain returns the chain of a request's profile.
func (d *Daemon) chain(r session.Request) (profiles.Chain, error) {
	set, err := d.Store.Load(r.Files)
	if err != nil {
		return profiles.Chain{}, err
	}
	return set.Resolve(r.Profile)
}
