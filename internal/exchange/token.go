package exchange

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/codeartifact"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// ServiceToken is a token for a service that takes no session.
type ServiceToken struct {
	Token   secret.String
	User    string    // of ECR, for the registry
	Expires time.Time // UTC, whole seconds; see who makes it
}

// How long a presigned request says that it is valid, and how long the AWS CLI says that a token for EKS is: EKS
// accepts it for 15 minutes, whatever the request says.
// https://docs.aws.amazon.com/eks/latest/best-practices/identity-and-access-management.html
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
const (
	eksURL  = time.Minute
	eksLife = 14 * time.Minute
	rdsLife = 15 * time.Minute
)

// emptyHash is the SHA-256 of an empty body, in hex.
const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// maxTokenLife is the longest life of a token of ECR or CodeArtifact, by their documentation.
const maxTokenLife = 12 * time.Hour

// EKSToken returns what `aws eks get-token` makes: a presigned GetCallerIdentity, which the cluster sends to STS to
// learn whose session it is. Nothing is sent. The token says for which cluster it is. Expires is 14 minutes from now.
// Faults: Config, for a region or endpoint that cannot be used.
func (c *Client) EKSToken(ctx context.Context, keys Keys, e profiles.Endpoint, cluster string) (ServiceToken, error) {
	const verb = "make a token for EKS"
	e.Legacy = false // the cluster may be where nobody can reach the global endpoint
	to, err := c.regional(e)
	if err != nil {
		return ServiceToken{}, fault.New(fault.Config, "%s: %w", verb, err)
	}
	found, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, sts.EndpointParameters{Region: &to.region,
		UseFIPS: &to.fips, UseDualStack: aws.Bool(false), UseGlobalEndpoint: aws.Bool(false), Endpoint: text(to.url)})
	if err != nil {
		return ServiceToken{}, fault.New(fault.Config, "%s: %s", verb, innermost(err))
	}
	query := url.Values{"Action": {"GetCallerIdentity"}, "Version": {"2011-06-15"}}
	now := c.now()
	header := http.Header{"X-K8s-Aws-Id": {cluster}}
	signed, err := presign(ctx, keys, found.URI, query, header, "sts", to.region, eksURL, now)
	if err != nil {
		return ServiceToken{}, fault.New(fault.Internal, "%s: the request cannot be signed", verb)
	}
	token := "k8s-aws-v1." + base64.RawURLEncoding.EncodeToString([]byte(signed))
	return ServiceToken{Token: secret.New(token), Expires: now.Add(eksLife).Truncate(time.Second)}, nil
}

// RDSToken returns what `aws rds generate-db-auth-token` makes: the password of a user of a database, a presigned
// request that is sent to nobody. host is HOST:PORT. The database accepts it for 15 minutes. Faults: Config, for a
// region that cannot be used.
func (c *Client) RDSToken(
	ctx context.Context, keys Keys, e profiles.Endpoint, host, user string,
) (ServiceToken, error) {
	const verb = "make a token for RDS"
	to, err := c.regional(e)
	if err != nil {
		return ServiceToken{}, fault.New(fault.Config, "%s: %w", verb, err)
	}
	query := url.Values{"Action": {"connect"}, "DBUser": {user}}
	now := c.now()
	signed, err := presign(ctx, keys, url.URL{Scheme: "https", Host: host}, query, http.Header{}, "rds-db", to.region,
		rdsLife, now)
	if err != nil {
		return ServiceToken{}, fault.New(fault.Internal, "%s: the request cannot be signed", verb)
	}
	return ServiceToken{Token: secret.New(strings.TrimPrefix(signed, "https://")),
		Expires: now.Add(rdsLife).Truncate(time.Second)}, nil
}

// regional is locate for a token that needs a region.
func (c *Client) regional(e profiles.Endpoint) (location, error) {
	if err := checkRegion(e); err != nil {
		return location{}, err
	}
	return c.locate(e, "")
}

// presign signs a GET request in its query. The query has botocore's order, which is not sorted: the session token is
// after the names of the signed headers.
func presign(ctx context.Context, keys Keys, to url.URL, query url.Values, header http.Header, service, region string,
	valid time.Duration, at time.Time) (string, error) {
	query.Set("X-Amz-Expires", strconv.Itoa(int(valid/time.Second)))
	if to.Path == "" {
		to.Path = "/"
	}
	to.RawQuery = query.Encode()
	// The host is signed in lower case, and stays in the URL as it is.
	r := (&http.Request{Method: http.MethodGet, URL: &to, Host: strings.ToLower(to.Host), Header: header}).WithContext(ctx)
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, keys.aws(), r, emptyHash, service, region, at)
	if err != nil {
		return "", err
	}
	base, sorted, _ := strings.Cut(signed, "?")
	var first, last []string
	for field := range strings.SplitSeq(sorted, "&") {
		switch name, _, _ := strings.Cut(field, "="); name {
		case "X-Amz-Security-Token":
			last = append([]string{field}, last...)
		case "X-Amz-Signature":
			last = append(last, field)
		default:
			first = append(first, field)
		}
	}
	return base + "?" + strings.Join(append(first, last...), "&"), nil
}

// CodeArtifactToken calls GetAuthorizationToken of CodeArtifact: the password for the repositories of a domain. owner
// is the account of the domain, or empty for that of the keys. The token ends with the session. Its faults are those
// of Call, without CodeRejected.
// https://docs.aws.amazon.com/codeartifact/latest/APIReference/API_GetAuthorizationToken.html
func (c *Client) CodeArtifactToken(
	ctx context.Context, keys Keys, e profiles.Endpoint, domain, owner string,
) (ServiceToken, error) {
	q := request{verb: "get a token of the domain " + domain, keys: keys, endpoint: e, service: "CodeArtifact",
		regional: true}
	in := &codeartifact.GetAuthorizationTokenInput{Domain: aws.String(domain), DomainOwner: text(owner),
		DurationSeconds: aws.Int64(0)}
	var got ServiceToken
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		out, err := a.codeArtifact().GetAuthorizationToken(ctx, in)
		if err != nil {
			return err
		}
		got, err = a.token("authorizationToken", aws.ToString(out.AuthorizationToken), out.Expiration)
		return err
	})
	return got, err
}

// ECRToken calls GetAuthorizationToken of ECR: user and password for every registry of the region that the keys may
// use, also those of other accounts. ECR accepts it for 12 hours, even if the session ends before. Its faults are those
// of Call, without CodeRejected.
// https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html
func (c *Client) ECRToken(ctx context.Context, keys Keys, e profiles.Endpoint) (ServiceToken, error) {
	q := request{verb: "get a token of the registry", keys: keys, endpoint: e, service: "ECR", regional: true}
	var got ServiceToken
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		out, err := a.ecr().GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
		switch {
		case err != nil:
			return err
		case !a.answersJSON():
			return a.noAnswer()
		case len(out.AuthorizationData) != 1:
			return a.badAnswer("the answer of %s has %d tokens instead of one", a.host, len(out.AuthorizationData))
		}
		data := out.AuthorizationData[0]
		// The base64 of USER:PASSWORD.
		both, err := base64.StdEncoding.DecodeString(aws.ToString(data.AuthorizationToken))
		user, password, _ := strings.Cut(string(both), ":")
		if err != nil || !session.Visible(user, maxName) {
			return a.badField("authorizationToken", aws.ToString(data.AuthorizationToken))
		}
		got, err = a.token("authorizationToken", password, data.ExpiresAt)
		got.User = user
		return err
	})
	if err != nil {
		return ServiceToken{}, err
	}
	return got, nil
}

// token checks a token and its end. The value of an invalid field is never shown.
func (a *attempt) token(field, value string, expires *time.Time) (ServiceToken, error) {
	switch {
	case !a.answersJSON() || !json.Valid(a.body):
		return ServiceToken{}, a.noAnswer()
	case !session.Visible(value, maxToken):
		return ServiceToken{}, a.badField(field, value)
	case expires == nil:
		return ServiceToken{}, a.badField("expiration", "")
	case !expires.After(a.issued):
		return ServiceToken{}, a.badAnswer("the token of %s expired before it arrived", a.host)
	case expires.Sub(a.issued) > maxTokenLife+slack:
		return ServiceToken{}, a.badAnswer("the token of %s would expire later than AWS ever allows", a.host)
	}
	return ServiceToken{Token: secret.New(value), Expires: expires.UTC().Truncate(time.Second)}, nil
}

// codeArtifact returns the SDK's client of CodeArtifact for this one request; see location.options.
func (a *attempt) codeArtifact() *codeartifact.Client {
	return codeartifact.New(codeartifact.Options{AppID: "broker", Region: a.to.region, BaseEndpoint: text(a.to.url),
		EndpointOptions: codeartifact.EndpointResolverOptions{UseFIPSEndpoint: a.to.fipsState()}, Retryer: aws.NopRetryer{},
		DisableClockSkewCorrection: true, HTTPClient: a, HTTPSignerV4: a, Credentials: a})
}

// ecr returns the SDK's client of ECR for this one request.
func (a *attempt) ecr() *ecr.Client {
	return ecr.New(ecr.Options{AppID: "broker", Region: a.to.region, BaseEndpoint: text(a.to.url),
		EndpointOptions: ecr.EndpointResolverOptions{UseFIPSEndpoint: a.to.fipsState()}, Retryer: aws.NopRetryer{},
		DisableClockSkewCorrection: true, HTTPClient: a, HTTPSignerV4: a, Credentials: a})
}
