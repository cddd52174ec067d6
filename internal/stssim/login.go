package stssim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// This file answers the sign-in service of `aws login`: a person's console session becomes credentials that live 15
// minutes, and a refresh token. It has nothing to do with signIn, which makes links to the console.
// https://docs.aws.amazon.com/signin/latest/APIReference/API_CreateOAuth2Token.html

// The clients, which nobody registers.
const (
	sameDevice  = "arn:aws:signin:::devtools/same-device"
	crossDevice = "arn:aws:signin:::devtools/cross-device"
)

const confirmationPath = "/v1/sessions/confirmation"

// The codes of the service's errors.
const (
	loginInvalid      = "INVALID_REQUEST"
	loginExpired      = "TOKEN_EXPIRED"
	loginCodeExpired  = "AUTHCODE_EXPIRED"
	loginChanged      = "USER_CREDENTIALS_CHANGED"
	loginInsufficient = "INSUFFICIENT_PERMISSIONS"
)

// The errors of CreateOAuth2Token, with the status that the model's documentation gives each. The texts are our own.
var (
	errLoginExpired = &apiError{http.StatusUnauthorized, loginExpired, "The token has expired"}
	errLoginCode    = &apiError{http.StatusUnauthorized, loginCodeExpired, "The authorization code has expired"}
	errLoginChanged = &apiError{http.StatusForbidden, loginChanged, "The user's credentials changed"}
)

func invalidLogin(message string) *apiError {
	return &apiError{http.StatusBadRequest, loginInvalid, message}
}

// signInKind returns the exception that has an error code.
func signInKind(e *apiError) string {
	switch e.code {
	case loginExpired, loginCodeExpired, loginChanged, loginInsufficient:
		return "AccessDeniedException"
	case "server_error":
		return "InternalServerException"
	}
	if e.status == http.StatusTooManyRequests {
		return "TooManyRequestsError"
	}
	return "ValidationException"
}

// logins is the state of the service.
type logins struct {
	codes  map[string]*loginGrant
	tokens map[string]*login    // by refresh token, the spent ones too
	proofs map[string]time.Time // when each DPoP proof was used
	key    []byte               // signs id tokens
}

func newLogins() *logins {
	return &logins{
		codes:  make(map[string]*loginGrant),
		tokens: make(map[string]*login),
		proofs: make(map[string]time.Time),
		key:    randomBytes(32),
	}
}

// loginGrant is an authorization code.
type loginGrant struct {
	client    string
	region    string
	redirect  string
	challenge string
	user      *user
	expires   time.Time
	spent     bool
}

// login is a session of `aws login`. It belongs to the client's key and to the region where it began.
type login struct {
	client  string
	region  string
	proof   string // the public key of its DPoP proofs
	user    *user
	started time.Time
	expires time.Time
	token   string    // the refresh token that works
	ended   *apiError // why no refresh token works any more
}

// authorizeLogin is the page on which a person chooses the console session.
func (x *exchange) authorizeLogin() (any, *apiError) {
	client, redirect := x.params.Get("client_id"), x.params.Get("redirect_uri")
	u, local := callbackURL(redirect)
	switch {
	case client == sameDevice && local && u.Port() != "":
	case client == crossDevice && redirect == x.base()+confirmationPath:
	default:
		return nil, badPage("invalid client or redirect URI")
	}
	switch {
	case x.params.Get("response_type") != "code",
		x.params.Get("code_challenge_method") != "SHA-256", // not S256 as elsewhere
		!challenges.MatchString(x.params.Get("code_challenge")),
		!slices.Contains(scopeList(x.params.Get("scope")), "openid"),
		x.params.Get("state") == "":
		return x.sendBack(url.Values{"error": {"invalid_request"}}, ""), nil
	}
	reply := x.reply()
	switch reply.answer {
	case pageAllow:
	case pageDeny:
		return x.sendBack(url.Values{"error": {"access_denied"}}, ""), nil
	default:
		return x.ask(question{Title: "Choose a session for local development", Users: x.sim.world.consoleUsers()}), nil
	}
	user := x.sim.world.consoleUser(reply.user)
	if user == nil {
		return nil, badPage("no such user: " + reply.user)
	}
	if x.refusesLogin(user, "AuthorizeOAuth2Access", client) {
		return x.sendBack(url.Values{"error": {"access_denied"}}, ""), nil
	}
	code := randomBearer("")
	x.sim.world.logins.codes[code] = &loginGrant{
		client:    client,
		region:    x.region,
		redirect:  redirect,
		challenge: x.params.Get("code_challenge"),
		user:      user,
		expires:   x.sim.nowLocked().Add(x.sim.world.center.lives.Code),
	}
	return x.sendBack(url.Values{"code": {code}}, ""), nil
}

// consoleUsers returns the ARNs of the users who have a console session: all IAM users.
func (w *world) consoleUsers() (list []string) {
	for _, u := range w.users {
		list = append(list, u.arn)
	}
	return list
}

// consoleUser finds a user by ARN or name; "" is the first one.
func (w *world) consoleUser(name string) *user {
	for _, u := range w.users {
		if name == "" || name == u.arn || name == u.name {
			return u
		}
	}
	return nil
}

// refusesLogin reports whether the policies of a user forbid an action of the service.
// https://docs.aws.amazon.com/aws-managed-policy/latest/reference/SignInLocalDevelopmentAccess.html
func (x *exchange) refusesLogin(u *user, action, client string) bool {
	caller := &principal{kind: loginSession, account: u.account, user: u, arn: u.arn, mfa: x.sim.world.settings.LoginMFA}
	c := &call{api: apiSignIn, action: action, caller: caller, now: x.sim.nowLocked()}
	device := client[strings.LastIndex(client, "/")+1:]
	resource := strings.Replace(u.account.arn(apiSignIn, "oauth2/public-client/"+device), "::", ":"+x.region+":", 1)
	return c.denied(resource) != nil
}

// confirmLogin shows what the person types into the program on the other device.
func (x *exchange) confirmLogin() (any, *apiError) {
	if x.params.Get("code") == "" {
		return nil, badPage("access denied")
	}
	text := "state=" + url.QueryEscape(x.params.Get("state")) + "&code=" + url.QueryEscape(x.params.Get("code"))
	return pageAnswer(donePage, base64.StdEncoding.EncodeToString([]byte(text))), nil
}

// createOAuth2Token exchanges a code or a refresh token.
func (x *exchange) createOAuth2Token() (any, *apiError) {
	client := x.params.Get("clientId")
	switch {
	case x.request.URL.RawQuery != "":
		return nil, invalidLogin("The simulator has CreateOAuth2Token only")
	case !json.Valid(x.body):
		return nil, invalidLogin("The body is not JSON")
	case client != sameDevice && client != crossDevice:
		return nil, invalidLogin("Invalid client")
	}
	proof, err := x.proof()
	if err != nil {
		return nil, err
	}
	var session *login
	switch x.params.Get("grantType") {
	case grantCode:
		session, err = x.beginLogin(client, proof)
	case grantRefresh:
		session, err = x.refreshLogin(client, proof)
	default:
		err = invalidLogin("Invalid grantType")
	}
	if err != nil {
		return nil, err
	}
	if x.refusesLogin(session.user, "CreateOAuth2Token", client) {
		return nil, &apiError{http.StatusForbidden, loginInsufficient, "The user may not call signin:CreateOAuth2Token"}
	}
	return x.renewLogin(session), nil
}

// beginLogin exchanges a code, and opens a session that belongs to the key of the proof.
func (x *exchange) beginLogin(client, proof string) (*login, *apiError) {
	l, now := x.sim.world.logins, x.sim.nowLocked()
	grant := l.codes[x.params.Get("code")]
	switch {
	case grant == nil || grant.client != client || grant.region != x.region:
		return nil, invalidLogin("Invalid code")
	case grant.spent || !now.Before(grant.expires):
		return nil, errLoginCode
	}
	grant.spent = true // even if the rest is wrong: a code is for one try
	switch {
	case grant.redirect != x.params.Get("redirectUri"):
		return nil, invalidLogin("Invalid redirectUri")
	case grant.challenge != challengeOf(x.params.Get("codeVerifier")):
		return nil, invalidLogin("Invalid codeVerifier")
	}
	return &login{
		client:  client,
		region:  x.region,
		proof:   proof,
		user:    grant.user,
		started: now,
		expires: now.Add(x.sim.world.center.lives.LoginSession),
	}, nil
}

// refreshLogin finds the session of a refresh token. The model says that a refresh is idempotent for a while; here
// a token is spent at once, so that a client which relies on that is found.
func (x *exchange) refreshLogin(client, proof string) (*login, *apiError) {
	token := x.params.Get("refreshToken")
	session := x.sim.world.logins.tokens[token]
	switch {
	case session == nil || session.client != client || session.region != x.region:
		return nil, invalidLogin("Invalid refreshToken")
	case session.proof != proof:
		return nil, badProof("its key is not that of the session")
	case session.ended != nil:
		return nil, session.ended
	case session.token != token || !x.sim.nowLocked().Before(session.expires):
		return nil, errLoginExpired
	}
	return session, nil
}

// loginJSON is the answer of CreateOAuth2Token.
type loginJSON struct {
	Keys struct {
		ID     string `json:"accessKeyId"`
		Secret string `json:"secretAccessKey"`
		Token  string `json:"sessionToken"`
	} `json:"accessToken"`
	TokenType    string `json:"tokenType"`
	ExpiresIn    int    `json:"expiresIn"`
	RefreshToken string `json:"refreshToken"`
	IDToken      string `json:"idToken,omitempty"` // only for a code
}

// renewLogin returns new credentials of a session and its next refresh token.
func (x *exchange) renewLogin(session *login) loginJSON {
	w, now := x.sim.world, x.sim.nowLocked()
	owner := &principal{
		kind:    loginSession,
		account: session.user.account,
		user:    session.user,
		arn:     session.user.arn,
		userID:  session.user.id,
		mfa:     w.settings.LoginMFA,
		mfaAt:   session.started,
	}
	keys := w.open(owner, min(w.center.lives.LoginKeys, session.expires.Sub(now)), now)
	out := loginJSON{
		TokenType:    "aws_sigv4",
		ExpiresIn:    int(min(keys.expires.Sub(now), signInKeysLife) / time.Second),
		RefreshToken: randomBearer("aol"),
	}
	out.Keys.ID, out.Keys.Secret, out.Keys.Token = keys.id, keys.secret, keys.token
	if session.token == "" {
		out.IDToken = w.logins.idToken(session, x.base(), now)
	}
	session.token = out.RefreshToken
	w.logins.tokens[session.token] = session
	w.logins.clearEnded(now)
	return out
}

// idToken returns a JWT that says whose session it is. AWS publishes no key for its own, so clients only read it.
func (l *logins) idToken(session *login, issuer string, now time.Time) string {
	part := func(value any) string {
		return base64.RawURLEncoding.EncodeToString(jsonAnswer(http.StatusOK, value).body)
	}
	text := part(map[string]string{"typ": "JWT", "alg": "HS256"}) + "." + part(map[string]any{
		"iss": issuer, "sub": session.user.arn, "aud": session.client, "iat": now.Unix(), "exp": session.expires.Unix(),
	})
	mac := hmac.New(sha256.New, l.key)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// clearEnded removes what ended long ago.
func (l *logins) clearEnded(now time.Time) {
	if len(l.tokens) < 10_000 {
		return
	}
	old := now.Add(-forgetAfter)
	maps.DeleteFunc(l.tokens, func(_ string, session *login) bool { return session.expires.Before(old) })
	maps.DeleteFunc(l.codes, func(_ string, grant *loginGrant) bool { return grant.expires.Before(old) })
}

var loginErrors = regexp.MustCompile(`^(|` + loginExpired + `|` + loginChanged + `)$`)

// EndLogins ends the sessions of `aws login` of a user, by ARN or name; "" ends those of all users. The next refresh
// fails with code: TOKEN_EXPIRED, which is also that of "", or USER_CREDENTIALS_CHANGED.
func (s *Sim) EndLogins(user, code string) error {
	if !loginErrors.MatchString(code) {
		return fmt.Errorf("no such error of a refresh: %q; want %s or %s", code, loginExpired, loginChanged)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, session := range s.world.logins.tokens {
		if user != "" && user != session.user.arn && user != session.user.name {
			continue
		}
		session.ended = errLoginExpired
		if code == loginChanged {
			session.ended = errLoginChanged
		}
	}
	return nil
}

// SetLoginMFA says whether credentials of `aws login` count as MFA from now on.
func (s *Sim) SetLoginMFA(mfa bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.settings.LoginMFA = mfa
}

// loginPaths adds the paths of adminPaths that are about `aws login`.
func (s *Sim) loginPaths(post func(string, func([]byte) error)) {
	post("login/end", func(body []byte) error {
		var b struct {
			User  string `json:"user"`
			Error string `json:"error"`
		}
		if err := readJSON(body, &b); err != nil {
			return err
		}
		return s.EndLogins(b.User, b.Error)
	})
	post("login/mfa", func(body []byte) error {
		var b struct {
			MFA bool `json:"mfa"`
		}
		err := readJSON(body, &b)
		if err == nil {
			s.SetLoginMFA(b.MFA)
		}
		return err
	})
}
