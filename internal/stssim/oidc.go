package stssim

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// This file answers the OIDC service of Identity Center: who registers, asks a person to allow it, and gets tokens.
// https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/Welcome.html

// The grant types.
const (
	grantCode    = "authorization_code"
	grantRefresh = "refresh_token"
	grantDevice  = "urn:ietf:params:oauth:grant-type:device_code"
)

// The scopes that say something about the portal.
const (
	scopeAccount = "sso:account:access"
	scopePortal  = "sso-portal:*" // as no scope at all: without a refresh token
)

// slowDown is how much longer a client must wait after each slow_down.
const slowDown = 5 * time.Second

// The error texts are from public issues where there are any.
var (
	errBadClient     = &apiError{http.StatusUnauthorized, "InvalidClientException", "Invalid client provided"}
	errExpiredClient = &apiError{http.StatusUnauthorized, "InvalidClientException", "Client has expired"}
	errTwoFlows      = &apiError{http.StatusInternalServerError, "InternalServerException", "Internal server error"}
	errPending       = oidcError("AuthorizationPendingException", "Authorization is pending")
	errSlowDown      = oidcError("SlowDownException", "Polling too frequently")
	errExpiredCode   = oidcError("ExpiredTokenException", "Device code has expired")
	errRefused       = oidcError("AccessDeniedException", "The user denied the request")
	errBadGrant      = oidcError("InvalidGrantException", "Invalid grant provided")
	errBadRefresh    = oidcError("InvalidGrantException", "Invalid refresh token provided")
	errForeignToken  = oidcError("InvalidRequestException", "Invalid token provided")
	errBadGrantType  = oidcError("UnsupportedGrantTypeException", "Unsupported grant type provided")
	errWrongFlow     = oidcError("UnauthorizedClientException", "The client is not registered for this grant type")
)

func oidcError(code, message string) *apiError {
	return &apiError{http.StatusBadRequest, code, message}
}

func invalidRequest(message string) *apiError { return oidcError("InvalidRequestException", message) }

// oidcClient is a registration.
type oidcClient struct {
	id, secret string
	name       string
	grants     []string // empty: for the device flow
	redirects  []string
	scopes     []string
	expires    time.Time
}

// may reports whether the client is registered for a grant type.
func (c *oidcClient) may(grant string) bool {
	if len(c.grants) == 0 {
		return grant != grantCode
	}
	return slices.Contains(c.grants, grant)
}

// refreshes reports whether the client gets refresh tokens.
func (c *oidcClient) refreshes() bool {
	return c.may(grantRefresh) && slices.ContainsFunc(c.scopes, func(scope string) bool { return scope != scopePortal })
}

// reachesPortal reports whether the client's tokens get role credentials.
func (c *oidcClient) reachesPortal() bool {
	return len(c.scopes) == 0 || slices.Contains(c.scopes, scopeAccount) || slices.Contains(c.scopes, scopePortal)
}

// oidcGrant is what a person allows a client: a device code or an authorization code.
type oidcGrant struct {
	client  *oidcClient
	expires time.Time
	session *portalSession // nil until a person allowed it
	spent   bool

	// Only for a device code.
	userCode string
	denied   bool
	interval time.Duration
	polled   time.Time

	// Only for an authorization code.
	challenge string
	redirect  string
}

var scopeNames = regexp.MustCompile(`^[a-z][a-z-]*:[\w:*]+$`)

// registerClient is https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/API_RegisterClient.html
func (x *exchange) registerClient() (any, *apiError) {
	client := &oidcClient{
		id:        randomBearer("")[:32],
		secret:    randomBearer("eyJ"),
		name:      x.params.Get("clientName"),
		grants:    x.params["grantTypes"],
		redirects: x.params["redirectUris"],
		scopes:    x.params["scopes"],
	}
	if err := x.checkRegistration(client); err != nil {
		return nil, err
	}
	now, center := x.sim.nowLocked(), x.sim.world.center
	client.expires = now.Add(center.lives.Registration)
	center.clients[client.id] = client
	// The model also has the endpoints for authorization and tokens, but AWS leaves both out.
	return struct {
		ClientID  string `json:"clientId"`
		Secret    string `json:"clientSecret"`
		IssuedAt  int64  `json:"clientIdIssuedAt"`
		ExpiresAt int64  `json:"clientSecretExpiresAt"`
	}{client.id, client.secret, now.Unix(), client.expires.Unix()}, nil
}

func (x *exchange) checkRegistration(client *oidcClient) *apiError {
	switch {
	case !json.Valid(x.body):
		return invalidRequest("The body is not JSON")
	case client.name == "":
		return oidcError("InvalidClientMetadataException", "clientName is missing")
	case x.params.Get("clientType") != "public":
		return oidcError("InvalidClientMetadataException", "clientType must be public")
	}
	for _, grant := range client.grants {
		if grant != grantCode && grant != grantRefresh && grant != grantDevice {
			return errBadGrantType
		}
	}
	for _, scope := range client.scopes {
		if !scopeNames.MatchString(scope) {
			return oidcError("InvalidScopeException", "Invalid scope: "+scope)
		}
	}
	for _, redirect := range client.redirects {
		if u, ok := callbackURL(redirect); !ok || u.Port() != "" {
			return oidcError("InvalidRedirectUriException", "Invalid redirect URI: "+redirect)
		}
	}
	if !slices.Contains(client.grants, grantCode) {
		return nil
	}
	switch {
	case slices.Contains(client.grants, grantDevice):
		return errTwoFlows // AWS fails in this way
	case len(client.redirects) == 0:
		return oidcError("InvalidRedirectUriException", "redirectUris is missing")
	case !x.sim.world.center.starts(x.params.Get("issuerUrl")):
		return invalidRequest("Invalid issuer URL")
	}
	return nil
}

// callbackURL parses a redirect URI, and reports whether AWS would take one with its host and path.
func callbackURL(text string) (*url.URL, bool) {
	u, err := url.Parse(text)
	ok := err == nil && u.Scheme == "http" && u.Hostname() == "127.0.0.1" && u.Path == "/oauth/callback" &&
		u.User == nil && u.RawQuery == "" && u.Fragment == ""
	return u, ok
}

// client returns the client that a call proves to be.
func (x *exchange) client() (*oidcClient, *apiError) {
	if !x.params.Has("clientId") || !x.params.Has("clientSecret") {
		return nil, invalidRequest("clientId or clientSecret is missing")
	}
	client := x.sim.world.center.clients[x.params.Get("clientId")]
	switch {
	case client == nil,
		subtle.ConstantTimeCompare([]byte(client.secret), []byte(x.params.Get("clientSecret"))) != 1:
		return nil, errBadClient
	case !x.sim.nowLocked().Before(client.expires):
		return nil, errExpiredClient
	}
	return client, nil
}

// startDevice is https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/API_StartDeviceAuthorization.html
func (x *exchange) startDevice() (any, *apiError) {
	client, err := x.client()
	center := x.sim.world.center
	switch {
	case err != nil:
		return nil, err
	case !client.may(grantDevice):
		return nil, errWrongFlow
	case !center.starts(x.params.Get("startUrl")) || x.region != center.Region:
		return nil, invalidRequest("Invalid start URL provided")
	}
	code := randomBearer("")
	grant := &oidcGrant{
		client:   client,
		userCode: randomUserCode(),
		expires:  x.sim.nowLocked().Add(center.lives.Code),
		interval: time.Second,
	}
	center.grants[code] = grant
	page := x.base() + "/device"
	return struct {
		DeviceCode      string `json:"deviceCode"`
		UserCode        string `json:"userCode"`
		VerificationURI string `json:"verificationUri"`
		Complete        string `json:"verificationUriComplete"`
		ExpiresIn       int    `json:"expiresIn"`
		Interval        int    `json:"interval"`
	}{code, grant.userCode, page, page + "?user_code=" + grant.userCode, int(center.lives.Code / time.Second), 1}, nil
}

// randomUserCode returns a code that a person reads and types, such as BCDF-GHJK.
func randomUserCode() string {
	const letters = "BCDFGHJKLMNPQRSTVWXZ"
	code := randomBytes(8)
	for i := range code {
		code[i] = letters[int(code[i])%len(letters)]
	}
	return string(code[:4]) + "-" + string(code[4:])
}

// tokenJSON is the answer of CreateToken.
type tokenJSON struct {
	AccessToken  string `json:"accessToken"`
	ExpiresIn    int    `json:"expiresIn"`
	RefreshToken string `json:"refreshToken,omitempty"`
	TokenType    string `json:"tokenType"`
}

// createToken is https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/API_CreateToken.html
func (x *exchange) createToken() (any, *apiError) {
	if x.request.URL.RawQuery != "" {
		return nil, invalidRequest("The simulator does not have CreateTokenWithIAM")
	}
	client, err := x.client()
	if err != nil {
		return nil, err
	}
	redeem := map[string]func(*exchange, *oidcClient) (*portalSession, *apiError){
		grantCode:    (*exchange).redeemCode,
		grantDevice:  (*exchange).redeemDevice,
		grantRefresh: (*exchange).redeemRefresh,
	}[x.params.Get("grantType")]
	switch {
	case !x.params.Has("grantType"):
		return nil, invalidRequest("grantType is missing")
	case redeem == nil:
		return nil, errBadGrantType
	case !client.may(x.params.Get("grantType")):
		return nil, errWrongFlow
	}
	session, err := redeem(x, client)
	if err != nil {
		return nil, err
	}
	return x.sim.world.center.issue(session, client, x.sim.nowLocked()), nil
}

// redeemCode exchanges the code that the browser brought back. The client proves with the verifier of the challenge
// that it is the one who opened the browser.
func (x *exchange) redeemCode(client *oidcClient) (*portalSession, *apiError) {
	center, now := x.sim.world.center, x.sim.nowLocked()
	grant := center.grants[x.params.Get("code")]
	switch {
	case !x.params.Has("code"), !x.params.Has("codeVerifier"), !x.params.Has("redirectUri"):
		return nil, invalidRequest("code, codeVerifier or redirectUri is missing")
	case x.region != center.Region:
		return nil, errForeignToken
	case grant == nil || grant.userCode != "" || grant.client != client || grant.spent:
		return nil, errBadGrant
	}
	grant.spent = true // even if the rest is wrong: a code is for one try
	switch {
	case !now.Before(grant.expires), grant.session.ended(now), grant.redirect != x.params.Get("redirectUri"),
		grant.challenge != challengeOf(x.params.Get("codeVerifier")):
		return nil, errBadGrant
	}
	return grant.session, nil
}

// challengeOf returns the S256 challenge of a verifier, RFC 7636; nothing if the verifier is not well formed.
func challengeOf(verifier string) string {
	if !verifiers.MatchString(verifier) {
		return ""
	}
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

var (
	verifiers  = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)
	challenges = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
)

// redeemDevice exchanges a device code once a person allowed it.
func (x *exchange) redeemDevice(client *oidcClient) (*portalSession, *apiError) {
	now := x.sim.nowLocked()
	grant := x.sim.world.center.grants[x.params.Get("deviceCode")]
	switch {
	case !x.params.Has("deviceCode"):
		return nil, invalidRequest("deviceCode is missing")
	case grant == nil || grant.userCode == "" || grant.client != client || grant.spent:
		return nil, errBadGrant
	case !now.Before(grant.expires):
		return nil, errExpiredCode
	}
	early := now.Before(grant.polled.Add(grant.interval))
	grant.polled = now
	switch {
	case early:
		grant.interval += slowDown
		return nil, errSlowDown
	case grant.denied:
		return nil, errRefused
	case grant.session == nil:
		return nil, errPending
	}
	grant.spent = true
	return grant.session, nil
}

// redeemRefresh exchanges a refresh token, which is then spent. The portal's region alone knows it.
func (x *exchange) redeemRefresh(client *oidcClient) (*portalSession, *apiError) {
	center := x.sim.world.center
	token := center.refresh[x.params.Get("refreshToken")]
	switch {
	case !x.params.Has("refreshToken"):
		return nil, invalidRequest("refreshToken is missing")
	case x.region != center.Region:
		return nil, errForeignToken
	case token == nil || token.client != client || token.spent || token.session.ended(x.sim.nowLocked()):
		return nil, errBadRefresh
	}
	token.spent = true
	return token.session, nil
}

// scopeList splits the scopes of the authorize request, which clients separate by commas or blanks.
func scopeList(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}
