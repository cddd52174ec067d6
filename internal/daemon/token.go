package daemon

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/grant"
	"broker/internal/lazyregexp"
	"broker/internal/partition"
	"broker/internal/profiles"
	"broker/internal/session"
	"broker/internal/wire"
)

// makeToken replies with a token for a service. The session that the token is made with is not handed out.
func (d *Daemon) makeToken(ctx context.Context, c call) error {
	terms := wire.TokenTerms{}
	if c.req.TokenTerms != nil {
		terms = *c.req.TokenTerms
	}
	purpose, err := checkToken(terms)
	switch {
	case err != nil:
		return err
	case c.req.Role != nil || len(c.req.Also) > 0:
		return fault.New(fault.Usage, "a token needs one profile, and takes no role")
	}
	ask := d.grantRequest(c)
	ask.Delivery, ask.Purpose = audit.Token, purpose
	// Check the region before anybody is asked for a code. Give reports what is wrong with the profile.
	if chain, err := d.chain(ask.Requests[0]); err == nil {
		if _, err := tokenEndpoint(chain, terms); err != nil {
			return err
		}
	}
	var made wire.Token
	ask.Use = func(ctx context.Context, r session.Request, answer session.Answer) error {
		chain, err := d.chain(r)
		if err != nil {
			return err
		}
		endpoint, err := tokenEndpoint(chain, terms)
		if err != nil {
			return err
		}
		made, err = d.AWS.Token(ctx, answer.Credentials, endpoint, terms)
		return err
	}
	return d.grants.Give(ctx, ask, func(answers []session.Answer) error {
		// A presigned request ends with the session that signed it. A token of ECR does not.
		if end := answers[0].Expires; terms.Service != wire.TokenECR && !end.IsZero() && end.Before(made.Expires) {
			made.Expires = end
		}
		return c.reply(wire.Response{Token: &made, Warnings: grant.Lines(answers[0].Warnings)})
	})
}

// tokenEndpoint returns the endpoint of the profile, in the region of the token.
func tokenEndpoint(chain profiles.Chain, terms wire.TokenTerms) (profiles.Endpoint, error) {
	endpoint := chain.Source.Endpoint
	if n := len(chain.Roles); n > 0 {
		endpoint = chain.Roles[n-1].Endpoint
	}
	endpoint.Region = cmp.Or(terms.Region, regionOfHost(terms.Host), chain.Region)
	of, _ := chain.Account()
	switch part := partition.OfRegion(endpoint.Region); {
	case endpoint.Region == "":
		return profiles.Endpoint{}, fault.New(fault.Config, "%s has no region; pass --region, or set the region of the "+
			"profile", fault.Line(chain.Profile)).WithHint("broker token %s --help", terms.Service)
	case part != "" && part != of:
		return profiles.Endpoint{}, fault.New(fault.Usage, "%s is in the partition %s, and the region %s in %s",
			fault.Line(chain.Profile), of, endpoint.Region, part)
	}
	return endpoint, nil
}

// regionOfHost returns the region in a host name of RDS: NAME.ID.REGION.rds.amazonaws.com, or in China
// NAME.ID.rds.REGION.amazonaws.com.cn. It is empty for every other host.
func regionOfHost(host string) string {
	name, _, _ := net.SplitHostPort(host)
	labels := strings.Split(strings.ToLower(name), ".")
	at := slices.Index(labels, "rds")
	if at < 1 || at+1 >= len(labels) || !strings.Contains(strings.Join(labels[at:], "."), "amazonaws") {
		return ""
	}
	for _, region := range []string{labels[at-1], labels[at+1]} {
		if partition.OfRegion(region) != "" {
			return region
		}
	}
	return ""
}

// The forms of names, which must not change the request that is signed.
// https://docs.aws.amazon.com/codeartifact/latest/APIReference/API_GetAuthorizationToken.html
var (
	clusterName = lazyregexp.New(`^[!-~]{1,128}$`) // EKS allows less; the AWS CLI does not check it
	hostName    = lazyregexp.New(`^[0-9A-Za-z]([0-9A-Za-z.-]{0,251}[0-9A-Za-z])?$`)
	domainName  = lazyregexp.New(`^[a-z][a-z0-9-]{0,48}[a-z0-9]$`)
	accountID   = lazyregexp.New(`^[0-9]{12}$`)
)

// maxDatabaseUser is longer than any database allows, in bytes.
const maxDatabaseUser = 256

// checkToken refuses terms that make no token. purpose says for the audit log what the token is for.
func checkToken(t wire.TokenTerms) (purpose string, err error) {
	wrong := func(format string, args ...any) (string, error) {
		return "", fault.New(fault.Usage, format, args...)
	}
	if t.Region != "" && partition.OfRegion(t.Region) == "" {
		return wrong("no partition of AWS has the region %.64q", t.Region)
	}
	switch t.Service {
	case wire.TokenEKS:
		if !clusterName.MatchString(t.Cluster) {
			return wrong("%.64q is not the name of a cluster", t.Cluster)
		}
		return "eks " + t.Cluster, nil
	case wire.TokenRDS:
		host, port, err := net.SplitHostPort(t.Host)
		number, numberErr := strconv.ParseUint(port, 10, 16)
		address, addressErr := netip.ParseAddr(host)
		switch {
		case err != nil:
			return wrong("%.64q is not HOST:PORT, such as db.example.com:5432", t.Host)
		case numberErr != nil || number == 0 || strconv.FormatUint(number, 10) != port:
			return wrong("%.64q is not a port", port)
		case !hostName.MatchString(host) && (addressErr != nil || address.Zone() != ""):
			return wrong("%.64q is not a host", host)
		case t.User == "" || len(t.User) > maxDatabaseUser || !utf8.ValidString(t.User) || fault.Line(t.User) != t.User:
			return wrong("%.64q is not the user of a database", t.User)
		}
		return "rds " + t.User + "@" + t.Host, nil
	case wire.TokenCodeArtifact:
		switch {
		case !domainName.MatchString(t.Domain):
			return wrong("%.64q is not a domain of CodeArtifact", t.Domain)
		case t.Account != "" && !accountID.MatchString(t.Account):
			return wrong("%.64q is not the id of an account, which has 12 digits", t.Account)
		}
		return "codeartifact " + t.Domain, nil
	case wire.TokenECR:
		return "ecr", nil
	}
	return wrong("there is no token for the service %.64q", t.Service)
}
