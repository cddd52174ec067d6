package brokerd

import (
	"context"
	"time"

	"broker/internal/console"
	"broker/internal/exchange"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/wire"
)

// awsCalls implements daemon.AWS.
type awsCalls struct {
	settings func() profiles.Settings
	route    func() profiles.Route
	offset   func() time.Duration // AWS's clock minus ours
}

// SignIn implements daemon.AWS.
func (q awsCalls) SignIn(
	ctx context.Context, with session.Credentials, partition, caBundle string, life time.Duration,
) (string, secret.String, error) {
	url, err := console.Federation(partition, q.settings().STSEndpoint)
	if err != nil {
		return "", secret.String{}, err
	}
	// Any user may listen there: the URL is either AWS's own, over https, or that of a simulator in the registry.
	endpoint := profiles.Endpoint{URL: url, CABundle: caBundle, Listener: profiles.AnyListener}
	client := exchange.New(exchange.Options{Route: q.route})
	defer client.Close()
	token, err := client.SigninToken(ctx, keysOf(with), endpoint, life)
	return url, token, err
}

// Accounts implements daemon.AWS.
func (q awsCalls) Accounts(
	ctx context.Context, with session.Credentials, endpoint profiles.Endpoint,
) ([]wire.Account, error) {
	client := exchange.New(exchange.Options{STSEndpoint: q.settings().STSEndpoint, Route: q.route})
	defer client.Close()
	found, err := client.Accounts(ctx, keysOf(with), endpoint)
	var list []wire.Account
	for _, a := range found {
		list = append(list, wire.Account(a))
	}
	return list, err
}

// AllAccounts implements daemon.AWS.
func (q awsCalls) AllAccounts(
	ctx context.Context, with session.Credentials, endpoint profiles.Endpoint,
) (list []wire.Account, denied, err error) {
	client := exchange.New(exchange.Options{STSEndpoint: q.settings().STSEndpoint, Route: q.route})
	defer client.Close()
	found, denied, err := client.AllAccounts(ctx, keysOf(with), endpoint)
	for _, a := range found {
		list = append(list, wire.Account(a))
	}
	return list, denied, err
}

// Assigned implements daemon.AWS.
func (q awsCalls) Assigned(
	ctx context.Context, access secret.String, endpoint profiles.Endpoint,
) ([]wire.Assignment, error) {
	client := exchange.New(exchange.Options{STSEndpoint: q.settings().STSEndpoint, Route: q.route})
	defer client.Close()
	found, err := client.Assigned(ctx, endpoint, access)
	var list []wire.Assignment
	for _, a := range found {
		list = append(list, wire.Assignment(a))
	}
	return list, err
}

// Role implements daemon.AWS.
func (q awsCalls) Role(
	ctx context.Context, with session.Credentials, endpoint profiles.Endpoint, arn string,
) (time.Duration, bool, error) {
	client := exchange.New(exchange.Options{STSEndpoint: q.settings().STSEndpoint, Route: q.route})
	defer client.Close()
	got, err := client.Role(ctx, keysOf(with), endpoint, arn)
	return got.Longest, got.Tagged, err
}

// Token implements daemon.AWS.
func (q awsCalls) Token(
	ctx context.Context, with session.Credentials, endpoint profiles.Endpoint, terms wire.TokenTerms,
) (wire.Token, error) {
	client := exchange.New(exchange.Options{STSEndpoint: q.settings().STSEndpoint, Route: q.route, Offset: q.offset()})
	defer client.Close()
	var made exchange.ServiceToken
	var err error
	switch keys := keysOf(with); terms.Service {
	case wire.TokenEKS:
		made, err = client.EKSToken(ctx, keys, endpoint, terms.Cluster)
	case wire.TokenRDS:
		made, err = client.RDSToken(ctx, keys, endpoint, terms.Host, terms.User)
	case wire.TokenCodeArtifact:
		made, err = client.CodeArtifactToken(ctx, keys, endpoint.Global(), terms.Domain, terms.Account)
	case wire.TokenECR:
		made, err = client.ECRToken(ctx, keys, endpoint.Global())
	}
	return wire.Token(made), err
}

func keysOf(c session.Credentials) exchange.Keys {
	return exchange.Keys{AccessKeyID: c.AccessKeyID, Secret: c.SecretAccessKey, Token: c.SessionToken}
}
