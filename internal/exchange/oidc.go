package exchange

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssooidc"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// The calls to the OIDC service of IAM Identity Center, which logs people in. They are not signed. The region of the
// endpoint is sso_region. https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/Welcome.html

// ErrBadRegistration means that the OIDC service does not accept the registration: register again, and let a person
// log in (fault.LoginNeeded).
var ErrBadRegistration = errors.New("registration not accepted")

// The grant types of a registration. AWS answers 500 to a client with both an authorization code and a device code.
const (
	grantCode    = "authorization_code"
	grantDevice  = "urn:ietf:params:oauth:grant-type:device_code"
	grantRefresh = "refresh_token"
)

// registeredRedirect is the redirect of a registration. AWS accepts it with any port.
const registeredRedirect = "http://127.0.0.1/oauth/callback"

// LongestPortal is the longest session of the portal, and so the longest life of an access token.
// https://docs.aws.amazon.com/singlesignon/latest/userguide/configure-user-session.html
const LongestPortal = 90 * 24 * time.Hour

// Limits for what the OIDC service answers. AWS does not document them; a registration lasts 90 days.
const (
	maxRegistration = 400 * 24 * time.Hour
	maxDeviceGrant  = 24 * time.Hour
	maxInterval     = 5 * time.Minute
	maxUserCode     = 32
	maxLoginURL     = 2048
	// defaultInterval is that of RFC 8628.
	defaultInterval = 5 * time.Second
)

// Registration is Broker's registration as a client of the OIDC service in one region, for one way to log in.
type Registration struct {
	ID      string
	Secret  secret.String
	Expires time.Time // by the clock of AWS
}

// DeviceGrant is a login that a person confirms on a page, on any machine.
type DeviceGrant struct {
	DeviceCode secret.String
	UserCode   string // at most 32 printable characters; the page shows it, too
	// URL is the page, with the code in it: https, or http on loopback, without control characters. Its host belongs
	// to the portal, and may be one that the company chose.
	URL      string
	Expires  time.Time     // by the clock of AWS
	Interval time.Duration // between two calls of CreateToken, more than zero
}

// TokenGrant is what is exchanged for a token. Exactly one of Code, Device and Refresh is set.
type TokenGrant struct {
	Code, Verifier secret.String // the code that the page led back with, and the code verifier of PKCE
	Redirect       string        // of the page, for Code
	Device         secret.String // DeviceGrant.DeviceCode
	Refresh        secret.String // the refresh token of an earlier token
}

// Token is the session of a person at the portal.
type Token struct {
	Access  secret.String
	Refresh secret.String // empty if AWS sent none: after a refresh, the old one stays valid
	Issued  time.Time     // by the clock of AWS
	Expires time.Time     // of Access, by the clock of AWS
}

// RegisterClient registers Broker at the OIDC service. device is for StartDevice, otherwise the registration is for
// AuthorizeURL. Without a scope, AWS sends no refresh token. startURL is the URL of the portal.
//
// Faults: Config for a wrong scope, region or portal, Denied, Failed, Network, Throttled, BadAnswer.
// https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/API_RegisterClient.html
func (c *Client) RegisterClient(
	ctx context.Context, e profiles.Endpoint, startURL string, scopes []string, device bool,
) (Registration, error) {
	in := &ssooidc.RegisterClientInput{ClientName: aws.String("broker"), ClientType: aws.String("public"),
		Scopes: scopes, GrantTypes: []string{grantDevice, grantRefresh}}
	if !device {
		in.GrantTypes, in.RedirectUris = []string{grantCode, grantRefresh}, []string{registeredRedirect}
		in.IssuerUrl = text(startURL)
	}
	q := oidcRequest("register Broker at "+startURL, e, TokenGrant{})
	var got Registration
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		out, err := a.oidc().RegisterClient(ctx, in)
		if err != nil {
			return err
		}
		expires := time.Unix(out.ClientSecretExpiresAt, 0).UTC()
		switch {
		case a.look != looksLikeJSON:
			return a.noAnswer()
		case !session.Visible(aws.ToString(out.ClientId), maxName):
			return a.badField("clientId", aws.ToString(out.ClientId))
		case !session.Visible(aws.ToString(out.ClientSecret), maxToken):
			return a.badField("clientSecret", aws.ToString(out.ClientSecret))
		case !expires.After(a.issued) || expires.Sub(a.issued) > maxRegistration:
			return a.badAnswer("the answer of %s has an invalid clientSecretExpiresAt", a.host)
		}
		got = Registration{ID: *out.ClientId, Secret: secret.New(*out.ClientSecret), Expires: expires}
		return nil
	})
	return got, err
}

// StartDevice begins a login that a person confirms on a page. startURL is the URL of the portal.
//
// Faults: LoginNeeded with ErrBadRegistration; Config if the portal is in another region or does not exist; and those
// of RegisterClient. https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/API_StartDeviceAuthorization.html
func (c *Client) StartDevice(
	ctx context.Context, e profiles.Endpoint, reg Registration, startURL string,
) (DeviceGrant, error) {
	in := &ssooidc.StartDeviceAuthorizationInput{ClientId: aws.String(reg.ID),
		ClientSecret: aws.String(reg.Secret.Reveal()), StartUrl: aws.String(startURL)}
	q := oidcRequest("begin the login at "+startURL, e, TokenGrant{})
	q.secrets = []secret.String{reg.Secret}
	var got DeviceGrant
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		out, err := a.oidc().StartDeviceAuthorization(ctx, in)
		if err != nil {
			return err
		}
		life := time.Duration(out.ExpiresIn) * time.Second
		interval := time.Duration(out.Interval) * time.Second
		if interval == 0 {
			interval = defaultInterval
		}
		switch {
		case a.look != looksLikeJSON:
			return a.noAnswer()
		case !session.Visible(aws.ToString(out.DeviceCode), maxToken):
			return a.badField("deviceCode", aws.ToString(out.DeviceCode))
		case !session.Visible(aws.ToString(out.UserCode), maxUserCode):
			return a.badField("userCode", aws.ToString(out.UserCode))
		case !isPage(aws.ToString(out.VerificationUriComplete)):
			return a.badField("verificationUriComplete", aws.ToString(out.VerificationUriComplete))
		case life <= 0 || life > maxDeviceGrant:
			return a.badAnswer("the answer of %s has an invalid expiresIn", a.host)
		case interval < 0 || interval > maxInterval:
			return a.badAnswer("the answer of %s has an invalid interval", a.host)
		}
		got = DeviceGrant{DeviceCode: secret.New(*out.DeviceCode), UserCode: *out.UserCode,
			URL: *out.VerificationUriComplete, Expires: a.issued.Add(life), Interval: interval}
		return nil
	})
	return got, err
}

// isPage reports whether a browser may open raw, and a terminal may show it.
func isPage(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && session.Visible(raw, maxLoginURL) && u.Hostname() != "" && u.User == nil &&
		(u.Scheme == "https" || u.Scheme == "http" && onLoopback(u.Hostname()))
}

// AuthorizeURL returns the page on which a person logs in. It leads back to redirect, which must be
// http://127.0.0.1:PORT/oauth/callback, with the query keys code and state, or error. challenge is the base64url of
// the SHA-256 of the code verifier, without padding (RFC 7636). The endpoint is that of the OIDC service, which does
// not tell the address of its page. Faults: Config, Internal.
func (c *Client) AuthorizeURL(
	e profiles.Endpoint, reg Registration, redirect, state, challenge string, scopes []string,
) (string, error) {
	const verb = "find the page to log in"
	if !LeadsHere(redirect) {
		return "", fault.New(fault.Internal, "%s: the redirect does not lead to this machine", verb)
	}
	base, err := c.base(e, func(to location) (url.URL, error) {
		found, err := ssooidc.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(),
			ssooidc.EndpointParameters{Region: &to.region, UseFIPS: &to.fips, UseDualStack: aws.Bool(false)})
		return found.URI, err
	})
	if err != nil {
		return "", fault.New(fault.Config, "%s: %w", verb, err)
	}
	q := url.Values{"response_type": {"code"}, "client_id": {reg.ID}, "redirect_uri": {redirect}, "state": {state},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"}}
	if len(scopes) > 0 {
		q.Set("scopes", strings.Join(scopes, ","))
	}
	return base + "/authorize?" + q.Encode(), nil
}

// base returns the endpoint of a service whose page people visit, without a slash at its end. resolve applies the
// SDK's rules, unless the configuration has an URL.
func (c *Client) base(e profiles.Endpoint, resolve func(location) (url.URL, error)) (string, error) {
	to, err := c.locate(e, "")
	if err == nil {
		err = checkRegion(e)
	}
	if err != nil {
		return "", err
	}
	if to.url != "" {
		return strings.TrimRight(to.url, "/"), nil
	}
	u, err := resolve(to)
	if err != nil {
		return "", errors.New(innermost(err))
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// LeadsHere reports whether a redirect leads back to this machine: as registered, with a port.
func LeadsHere(redirect string) bool {
	port, ok := strings.CutPrefix(redirect, "http://127.0.0.1:")
	port, path := strings.CutSuffix(port, "/oauth/callback")
	n, err := strconv.ParseUint(port, 10, 16)
	return ok && path && err == nil && n > 0 && strconv.FormatUint(n, 10) == port
}

// CreateToken exchanges a grant for a token. For a Device it asks once whether the person has confirmed.
//
// It makes one attempt, because each grant counts once. If the answer is lost (Network or BadAnswer, and MaybeSeen),
// AWS may have replaced a refresh token, so a person may have to log in.
//
// Faults: LoginNeeded if a person has to log in; with session.ErrPending or session.ErrSlowDown if nobody has
// confirmed yet; with ErrBadRegistration. Config if the portal is in another region. The others are those of
// RegisterClient. https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/API_CreateToken.html
func (c *Client) CreateToken(
	ctx context.Context, e profiles.Endpoint, reg Registration, g TokenGrant,
) (Token, error) {
	q := oidcRequest("log in to IAM Identity Center", e, g)
	if !g.valid() {
		return Token{}, fault.New(fault.Internal, "%s: there is not exactly one grant", q.verb)
	}
	q.secrets = append(g.secrets(), reg.Secret)
	in := &ssooidc.CreateTokenInput{ClientId: aws.String(reg.ID), ClientSecret: aws.String(reg.Secret.Reveal()),
		GrantType: aws.String(g.grantType()), Code: text(g.Code.Reveal()), CodeVerifier: text(g.Verifier.Reveal()),
		RedirectUri: text(g.Redirect), DeviceCode: text(g.Device.Reveal()), RefreshToken: text(g.Refresh.Reveal())}
	switch {
	case !g.Code.IsZero():
		q.effect = "used up the code of the page"
	case !g.Device.IsZero():
		q.effect = "ended the login"
	default:
		q.verb, q.effect = "refresh the session of IAM Identity Center", "replaced the refresh token"
	}
	var got Token
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		out, err := a.oidc().CreateToken(ctx, in)
		if err != nil {
			return err
		}
		life, refresh := time.Duration(out.ExpiresIn)*time.Second, aws.ToString(out.RefreshToken)
		switch {
		case a.look != looksLikeJSON:
			return a.noAnswer()
		case !session.Visible(aws.ToString(out.AccessToken), maxToken):
			return a.badField("accessToken", aws.ToString(out.AccessToken))
		case refresh != "" && !session.Visible(refresh, maxToken):
			return a.badField("refreshToken", refresh)
		case !strings.EqualFold(aws.ToString(out.TokenType), "Bearer"):
			return a.badField("tokenType", aws.ToString(out.TokenType))
		case life <= 0 || life > LongestPortal+slack:
			return a.badAnswer("the answer of %s has an invalid expiresIn", a.host)
		}
		got = Token{Access: secret.New(*out.AccessToken), Refresh: secret.New(refresh), Issued: a.issued,
			Expires: a.issued.Add(life)}
		return nil
	})
	return got, err
}

// valid reports whether there is exactly one grant, with all of its parts.
func (g TokenGrant) valid() bool {
	n := 0
	for _, s := range []secret.String{g.Code, g.Device, g.Refresh} {
		if !s.IsZero() {
			n++
		}
	}
	code := !g.Code.IsZero()
	return n == 1 && code == !g.Verifier.IsZero() && code == (g.Redirect != "")
}

func (g TokenGrant) grantType() string {
	switch {
	case !g.Code.IsZero():
		return grantCode
	case !g.Device.IsZero():
		return grantDevice
	}
	return grantRefresh
}

func (g TokenGrant) secrets() []secret.String {
	return []secret.String{g.Code, g.Verifier, g.Device, g.Refresh}
}

func oidcRequest(verb string, e profiles.Endpoint, g TokenGrant) request {
	return request{verb: verb, endpoint: e, service: "IAM Identity Center", form: looksLikeJSON, regional: true,
		explain: func(a *attempt, r refusedCall) *fault.Error { return a.failureOfOIDC(g, r) }}
}

// failureOfOIDC describes the refusals of the OIDC service. Their names are those of OAuth:
// https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/API_CreateToken.html#API_CreateToken_Errors
func (a *attempt) failureOfOIDC(g TokenGrant, r refusedCall) *fault.Error {
	name, words := oauthName(r.code), a.words(r.message)
	device, refresh := !g.Device.IsZero(), !g.Refresh.IsZero()
	switch {
	case name == "authorization_pending":
		return a.fault(fault.LoginNeeded, session.ErrPending, "the login is not confirmed on the page yet")
	case name == "slow_down":
		return a.fault(fault.LoginNeeded, session.ErrSlowDown,
			"the login is not confirmed on the page yet, and Broker asked too often")
	case (name == "access_denied" || name == "invalid_request") && r.reason != "":
		return a.fault(fault.Denied, nil, "IAM Identity Center cannot use its encryption key (%s): %s", a.words(r.reason), words)
	case name == "access_denied" && device:
		return a.fault(fault.LoginNeeded, nil, "the login was declined on the page")
	case name == "access_denied":
		return a.fault(fault.Denied, nil, "AWS denied it: %s", words)
	case name == "expired_token" && device, name == "invalid_grant" && device:
		return a.fault(fault.LoginNeeded, nil, "the login was not confirmed in time: %s", words)
	case name == "expired_token", name == "invalid_grant":
		if refresh {
			return a.fault(fault.LoginNeeded, nil, "the session has ended: %s", words)
		}
		return a.fault(fault.LoginNeeded, nil, "the code of the page is wrong, was used or has expired: %s", words)
	case name == "invalid_client", name == "unauthorized_client":
		return a.fault(fault.LoginNeeded, ErrBadRegistration, "AWS does not accept the registration of Broker: %s", words)
	case name == "invalid_request_region" && regionSyntax.MatchString(r.region) && len(r.region) <= maxRegion:
		return a.fault(fault.Config, nil, "the portal is in region %s, but sso_region is %s", r.region, a.to.region)
	case name == "invalid_request" && refresh:
		// The service also answers this to a refresh token of another region.
		return a.fault(fault.LoginNeeded, nil,
			"AWS does not accept the refresh token in region %s, sso_region must be that of the portal: %s", a.to.region, words)
	case name == "invalid_request", name == "invalid_request_region":
		return a.fault(fault.Config, nil, "AWS refused it in region %s, check sso_region and sso_start_url: %s", a.to.region, words)
	case name == "invalid_scope":
		return a.fault(fault.Config, nil, "AWS does not accept sso_registration_scopes: %s", words)
	}
	return nil
}

// oauthName turns the name of an exception, such as SlowDownException, into the name that OAuth has for it.
func oauthName(code string) string {
	var b strings.Builder
	for i, r := range strings.TrimSuffix(code, "Exception") {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// oidc returns the SDK's client of the OIDC service for this one request; see location.options.
func (a *attempt) oidc() *ssooidc.Client {
	return ssooidc.New(ssooidc.Options{AppID: "broker", Region: a.to.region, BaseEndpoint: text(a.to.url),
		EndpointOptions: ssooidc.EndpointResolverOptions{UseFIPSEndpoint: a.to.fipsState()}, Retryer: aws.NopRetryer{},
		DisableClockSkewCorrection: true, HTTPClient: a})
}
