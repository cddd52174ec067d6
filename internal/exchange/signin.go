package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// Limits of SessionDuration; see SigninToken.
const (
	minSignIn = 15 * time.Minute
	maxSignIn = 12 * time.Hour
)

// maxSignInToken limits the token, which becomes part of a URL.
const maxSignInToken = 8 << 10

// SigninToken exchanges a session for the token with which a browser can sign in to the console within 15 minutes.
// The keys must be those of a role or of a federated user; AWS refuses a session of GetSessionToken. The
// endpoint's URL is the federation endpoint of the partition.
//
// life is how long the console session lasts. With 0 it lasts as long as the keys, which is AWS's default. AWS
// accepts another life only for a role that was assumed with a long-lived key.
//
// The form is sent in the body. AWS's examples put it into the URL, where proxies and servers log it; the endpoint
// accepts both, as other tools that post the form show.
//
// Faults: Denied if AWS does not accept the session, Network, Throttled, BadAnswer, Config.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_enable-console-custom-url.html
func (c *Client) SigninToken(
	ctx context.Context,
	keys Keys,
	endpoint profiles.Endpoint,
	life time.Duration,
) (secret.String, error) {
	q := request{verb: "sign in to the console", keys: keys, endpoint: endpoint, service: "the sign-in endpoint"}
	session, err := json.Marshal(map[string]string{
		"sessionId": keys.AccessKeyID, "sessionKey": keys.Secret.Reveal(), "sessionToken": keys.Token.Reveal(),
	})
	if err != nil || endpoint.URL == "" {
		return secret.String{}, fault.New(fault.Internal, "%s: there is nothing to send, or nowhere to send it", q.verb)
	}
	form := url.Values{"Action": {"getSigninToken"}, "Session": {string(session)}}
	if life >= minSignIn {
		form.Set("SessionDuration", strconv.Itoa(int(min(life, maxSignIn)/time.Second)))
	}
	body := form.Encode()
	var token secret.String
	err = c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.to.url, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Accept", "application/json")
		resp, err := a.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }() // the body is in memory
		token, err = a.signInToken(resp)
		return err
	})
	return token, err
}

// signInToken reads the token. It never shows the answer, which contains the token, or a page for people.
func (a *attempt) signInToken(resp *http.Response) (secret.String, error) {
	var answer struct{ SigninToken string }
	switch {
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return secret.String{}, errNoToken // failure finds the message, and whether to retry
	case resp.StatusCode >= 400:
		return secret.String{}, a.fault(fault.Denied, nil, "%s did not accept the session of key %s (it answered %d)", a.host, a.keyTail(), resp.StatusCode)
	case resp.StatusCode != http.StatusOK || a.look != looksLikeJSON:
		return secret.String{}, a.noAnswer()
	case json.NewDecoder(resp.Body).Decode(&answer) != nil:
		return secret.String{}, a.noAnswer()
	case !session.Visible(answer.SigninToken, maxSignInToken):
		return secret.String{}, a.badField("SigninToken", answer.SigninToken)
	}
	return secret.New(answer.SigninToken), nil
}

// errNoToken makes failure return a fault according to the status.
var errNoToken = errors.New("no sign-in token")
