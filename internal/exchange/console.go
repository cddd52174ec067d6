package exchange

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/signin"
	signintypes "github.com/aws/aws-sdk-go-v2/service/signin/types"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"broker/internal/fault"
	"broker/internal/partition"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// The login of `aws login`: the sign-in service gives credentials for a session of the console.
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sign-in.html

// The public clients of the sign-in service, which need no registration.
const (
	ConsoleSameDevice  = "arn:aws:signin:::devtools/same-device"  // the browser is on this machine
	ConsoleCrossDevice = "arn:aws:signin:::devtools/cross-device" // the page shows a code to paste
)

// confirmationPath is where the page of ConsoleCrossDevice leads to.
const confirmationPath = "/v1/sessions/confirmation"

// maxConsole is the longest life of the credentials, by the model of the service.
const maxConsole = 15 * time.Minute

// ConsoleToken are the credentials of a login to the console, and what renews them.
type ConsoleToken struct {
	// Credentials last up to 15 minutes. Their Subject is set only for a code: the ARN of the IAM user, assumed role,
	// federated user or root user who logged in.
	Credentials session.Credentials
	Refresh     secret.String // replaces the refresh token of the request
}

// ConsoleRedirect returns the redirect of ConsoleCrossDevice, a page that shows the base64 of state=…&code=… for the
// person to paste. Faults: Config, for a region or endpoint that cannot be used.
func (c *Client) ConsoleRedirect(e profiles.Endpoint) (string, error) {
	base, err := c.consoleBase(e)
	if err != nil {
		return "", fault.New(fault.Config, "find the page to log in: %w", err)
	}
	return base + confirmationPath, nil
}

// ConsoleAuthorizeURL returns the page on which a person logs in to the console. redirect is
// http://127.0.0.1:PORT/oauth/callback for ConsoleSameDevice, and ConsoleRedirect for ConsoleCrossDevice. It gets the
// query keys code and state, or error. challenge is as for AuthorizeURL. Faults: Config, Internal.
func (c *Client) ConsoleAuthorizeURL(
	e profiles.Endpoint, clientID, redirect, state, challenge string,
) (string, error) {
	const verb = "find the page to log in"
	base, err := c.consoleBase(e)
	if err != nil {
		return "", fault.New(fault.Config, "%s: %w", verb, err)
	}
	if !LeadsHere(redirect) && redirect != base+confirmationPath {
		return "", fault.New(fault.Internal, "%s: the redirect leads neither to this machine nor to the sign-in service", verb)
	}
	// The service has a name of its own for S256.
	q := url.Values{"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {redirect}, "state": {state},
		"scope": {"openid"}, "code_challenge": {challenge}, "code_challenge_method": {"SHA-256"}}
	return base + "/v1/authorize?" + q.Encode(), nil
}

func (c *Client) consoleBase(e profiles.Endpoint) (string, error) {
	return c.base(e, func(to location) (url.URL, error) {
		found, err := signin.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(),
			signin.EndpointParameters{Region: &to.region, UseFIPS: &to.fips, UseDualStack: aws.Bool(false),
				IsControlPlane: aws.Bool(false)})
		return found.URI, err
	})
}

// CreateConsoleToken exchanges a code or a refresh token for credentials. key is the P-256 key of this login: the
// service binds the refresh token to it, and each request has a proof of it (DPoP, RFC 9449). The region is that in
// which the person logged in.
//
// With a code it makes one attempt. A refresh may be repeated: the service answers it in the same way while the
// refresh token is valid.
//
// Faults: LoginNeeded if a person has to log in, Denied if the person may not log programs in, Config if the region is
// not that of the login, Failed, Network, Throttled, BadAnswer.
// https://docs.aws.amazon.com/signin/latest/APIReference/API_CreateOAuth2Token.html
func (c *Client) CreateConsoleToken(
	ctx context.Context, e profiles.Endpoint, key *ecdsa.PrivateKey, clientID string, g TokenGrant,
) (ConsoleToken, error) {
	q := request{verb: "log in to the console", endpoint: e, service: "the sign-in service", secrets: g.secrets(),
		form: looksLikeJSON, regional: true, explain: (*attempt).failureOfConsole}
	switch {
	case !g.valid() || !g.Device.IsZero():
		return ConsoleToken{}, fault.New(fault.Internal, "%s: there is neither a code nor a refresh token", q.verb)
	case key == nil || key.Curve != elliptic.P256():
		return ConsoleToken{}, fault.New(fault.Internal, "%s: the key of the login is not on P-256", q.verb)
	case !g.Code.IsZero():
		q.effect = "used up the code of the page"
	default:
		q.verb = "refresh the login to the console"
	}
	in := &signin.CreateOAuth2TokenInput{TokenInput: &signintypes.CreateOAuth2TokenRequestBody{
		ClientId: aws.String(clientID), GrantType: aws.String(g.grantType()), Code: text(g.Code.Reveal()),
		CodeVerifier: text(g.Verifier.Reveal()), RedirectUri: text(g.Redirect), RefreshToken: text(g.Refresh.Reveal())}}
	var got ConsoleToken
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		out, err := a.signIn(key).CreateOAuth2Token(ctx, in)
		if err != nil {
			return err
		}
		got, err = a.consoleToken(out.TokenOutput, !g.Code.IsZero())
		return err
	})
	if err != nil {
		return ConsoleToken{}, err
	}
	return got, nil
}

// consoleToken checks an answer.
func (a *attempt) consoleToken(out *signintypes.CreateOAuth2TokenResponseBody, login bool) (ConsoleToken, error) {
	if out == nil || a.look != looksLikeJSON {
		return ConsoleToken{}, a.noAnswer()
	}
	var answered *types.Credentials
	if t := out.AccessToken; t != nil && out.ExpiresIn != nil {
		answered = &types.Credentials{AccessKeyId: t.AccessKeyId, SecretAccessKey: t.SecretAccessKey,
			SessionToken: t.SessionToken, Expiration: aws.Time(a.issued.Add(time.Duration(*out.ExpiresIn) * time.Second))}
	}
	creds, err := a.credentials(answered, maxConsole)
	switch {
	case err != nil:
		return ConsoleToken{}, err
	case !session.Visible(aws.ToString(out.RefreshToken), maxToken):
		return ConsoleToken{}, a.badField("refreshToken", aws.ToString(out.RefreshToken))
	case aws.ToString(out.TokenType) != "aws_sigv4":
		return ConsoleToken{}, a.badField("tokenType", aws.ToString(out.TokenType))
	}
	got := ConsoleToken{Credentials: creds, Refresh: secret.New(*out.RefreshToken)}
	if login {
		arn, ok := subjectOf(aws.ToString(out.IdToken))
		of := partition.OfRegion(a.to.region)
		if !ok || of != "" && partition.OfARN(arn) != of {
			return ConsoleToken{}, a.badField("idToken", aws.ToString(out.IdToken))
		}
		got.Credentials.Subject = arn
	}
	return got, nil
}

// subjectOf returns who an ID token is about. Its signature needs no check, because the token came from the service
// itself over TLS: https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
func subjectOf(token string) (arn string, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > maxToken {
		return "", false
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	var subject struct{ Sub string }
	if err != nil || json.Unmarshal(claims, &subject) != nil {
		return "", false
	}
	for _, kind := range []struct{ service, prefix string }{{"iam", "user/"}, {"iam", "root"}, {"sts", "assumed-role/"}, {"sts", "federated-user/"}} {
		r, name, ok := parseARN(subject.Sub, kind.service, kind.prefix)
		if ok && (name == "") == (kind.prefix == "root") && accountSyntax.MatchString(r.account) {
			return subject.Sub, true
		}
	}
	return "", false
}

// failureOfConsole describes the refusals of the sign-in service.
func (a *attempt) failureOfConsole(r refusedCall) *fault.Error {
	if a.status == http.StatusTooManyRequests || a.status >= http.StatusInternalServerError {
		return nil
	}
	words := a.words(cmp.Or(r.message, r.code))
	switch reason := strings.ToUpper(r.oauth); {
	case reason == "TOKEN_EXPIRED":
		return a.fault(fault.LoginNeeded, nil, "the login has ended: %s", words)
	case reason == "USER_CREDENTIALS_CHANGED":
		return a.fault(fault.LoginNeeded, nil, "the password or the access of the user has changed since the login: %s", words)
	case reason == "AUTHCODE_EXPIRED":
		return a.fault(fault.LoginNeeded, nil, "the code of the page has expired: %s", words)
	case reason == "INSUFFICIENT_PERMISSIONS":
		return a.fault(fault.Denied, nil, "the user or role may not log programs in, the policy "+
			"SignInLocalDevelopmentAccess would allow it: %s", words)
	case reason == "INVALID_GRANT", oauthName(r.code) == "invalid_grant":
		return a.fault(fault.LoginNeeded, nil, "AWS does not accept the code or the refresh token: %s", words)
	case reason == "INVALID_REQUEST":
		return a.fault(fault.Config, nil, "AWS refused it in region %s, which must be the region of the login: %s",
			a.to.region, words)
	case oauthName(r.code) == "access_denied":
		return a.fault(fault.Denied, nil, "AWS denied it: %s", words)
	}
	return nil
}

// signIn returns the SDK's client of the sign-in service for this one request; see location.options.
func (a *attempt) signIn(key *ecdsa.PrivateKey) *signin.Client {
	return signin.New(signin.Options{AppID: "broker", Region: a.to.region, BaseEndpoint: text(a.to.url),
		EndpointOptions: signin.EndpointResolverOptions{UseFIPSEndpoint: a.to.fipsState()}, Retryer: aws.NopRetryer{},
		DisableClockSkewCorrection: true, HTTPClient: prover{a, key}})
}

// prover adds the proof of the key of a login to the request of an attempt.
type prover struct {
	*attempt
	key *ecdsa.PrivateKey
}

// Do implements signin.HTTPClient.
func (p prover) Do(r *http.Request) (*http.Response, error) {
	proof, err := proofOf(p.key, r.Method, r.URL, p.client.now())
	if err != nil {
		return nil, err
	}
	r.Header.Set("DPoP", proof)
	return p.attempt.Do(r)
}

// coordinate is the length of a coordinate of P-256, and of each half of a signature, in bytes. RFC 7518 wants zero
// bytes at the beginning, too.
const coordinate = 32

var errKey = errors.New("the key of the login cannot be encoded")

// proofOf returns the DPoP proof of RFC 9449 for one request: a JWT with the public key, signed with ES256.
func proofOf(key *ecdsa.PrivateKey, method string, u *url.URL, now time.Time) (string, error) {
	point, err := key.PublicKey.Bytes() // 4, x, y: the coordinates have their full length
	if err != nil || len(point) != 1+2*coordinate {
		return "", errKey
	}
	encode := base64.RawURLEncoding.EncodeToString
	head, err := json.Marshal(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": map[string]string{
		"kty": "EC", "crv": "P-256", "x": encode(point[1 : 1+coordinate]), "y": encode(point[1+coordinate:])}})
	if err != nil {
		return "", errKey
	}
	to := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	claims, err := json.Marshal(map[string]any{"htm": method, "htu": to.String(), "iat": now.Unix(), "jti": rand.Text()})
	if err != nil {
		return "", errKey
	}
	signed := encode(head) + "." + encode(claims)
	hash := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, hash[:])
	if err != nil {
		return "", errKey
	}
	var signature [2 * coordinate]byte
	r.FillBytes(signature[:coordinate])
	s.FillBytes(signature[coordinate:])
	return signed + "." + encode(signature[:]), nil
}
