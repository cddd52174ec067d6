package stssim

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// signInLife is how long a sign-in token can be used.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_enable-console-custom-url.html
const signInLife = 15 * time.Minute

// federated is the JSON of the Session parameter of getSigninToken.
type federated struct {
	ID    string `json:"sessionId"`
	Key   string `json:"sessionKey"`
	Token string `json:"sessionToken"`
}

// signIn answers the federation endpoint of the console: getSigninToken turns session credentials into a token,
// login turns the token into a redirect. Requests are not signed: anybody who has the credentials or the token may
// use them.
func (x *exchange) signIn() (answer, string) {
	switch x.action {
	case "getSigninToken":
		return x.getSigninToken()
	case "login":
		return x.login()
	default:
		return refusedSignIn("unknown Action")
	}
}

// refusedSignIn returns a refusal. AWS answers with a page for people; only the status matters.
func refusedSignIn(why string) (answer, string) {
	return answer{status: http.StatusBadRequest, contentType: "text/html", body: []byte("<html><body>Error: " + why + "</body></html>\n")}, "SigninRefused"
}

func (x *exchange) getSigninToken() (answer, string) {
	var given federated
	if json.Unmarshal([]byte(x.params.Get("Session")), &given) != nil {
		return refusedSignIn("Session is not JSON")
	}
	x.sim.mu.Lock()
	defer x.sim.mu.Unlock()
	now := x.sim.nowLocked()
	session, err := x.sim.world.lookUp(given.ID, given.Token)
	switch {
	case err != nil, session.secret != given.Key, session.ended(now):
		return refusedSignIn("invalid credentials")
	case session.owner.kind != roleSession && session.owner.kind != federatedKey:
		return refusedSignIn("credentials are neither of AssumeRole nor of GetFederationToken")
	}
	if stated := x.params.Get("SessionDuration"); stated != "" {
		n, err := strconv.Atoi(stated)
		switch {
		case err != nil || n < 900 || n > 43_200:
			return refusedSignIn("SessionDuration is not between 900 and 43200")
		case session.owner.chained || session.owner.kind == federatedKey:
			return refusedSignIn("SessionDuration needs a role that was assumed directly")
		}
	}
	token := randomToken()
	x.sim.world.signIns[token] = now.Add(signInLife)
	return answer{status: http.StatusOK, contentType: "application/json", body: []byte(`{"SigninToken":"` + token + `"}`)}, outcomeOK
}

func (x *exchange) login() (answer, string) {
	x.sim.mu.Lock()
	defer x.sim.mu.Unlock()
	until, known := x.sim.world.signIns[x.params.Get("SigninToken")]
	switch {
	case !known || x.sim.nowLocked().After(until):
		return refusedSignIn("invalid SigninToken")
	case x.params.Get("Destination") == "":
		return refusedSignIn("no Destination")
	}
	return answer{status: http.StatusFound, location: x.params.Get("Destination")}, outcomeOK
}
