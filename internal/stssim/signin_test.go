package stssim

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"
)

// federation calls the sign-in endpoint, without a signature.
func federation(t *testing.T, sim *Sim, params url.Values) *http.Response {
	t.Helper()
	client := http.Client{
		Transport:     sim,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Get("https://signin.simulated.invalid/federation?" + params.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func signinToken(t *testing.T, sim *Sim, who caller, duration string) (string, int) {
	t.Helper()
	session, err := json.Marshal(federated{who.keys.AccessKeyID, who.keys.SecretAccessKey, who.keys.SessionToken})
	if err != nil {
		t.Fatal(err)
	}
	params := url.Values{"Action": {"getSigninToken"}, "Session": {string(session)}}
	if duration != "" {
		params.Set("SessionDuration", duration)
	}
	response := federation(t, sim, params)
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	var answer struct{ SigninToken string }
	json.Unmarshal(text, &answer) // without JSON there is no token
	return answer.SigninToken, response.StatusCode
}

func TestSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newDemo(t)
		session := paul(sim).session(t)
		role := session.assume(t, devAdmin)
		direct := robot(sim).assume(t, devBuild)
		fred := paul(sim).with(paul(sim).call("GetFederationToken", "Name", "fred"))
		forged := role
		forged.keys.SecretAccessKey = "forged"
		tests := []struct {
			name     string
			who      caller
			duration string
			status   int
		}{
			{"role", role, "", 200},
			{"role assumed with a session, with a duration", role, "3600", 400},
			{"role assumed with a key, with a duration", direct, "43200", 200},
			{"duration too long", direct, "43201", 400},
			{"federated user", fred, "", 200},
			{"federated user, with a duration", fred, "3600", 400},
			{"session of a user", session, "", 400},
			{"key of a user", paul(sim), "", 400},
			{"wrong secret", forged, "", 400},
		}
		for _, test := range tests {
			if token, status := signinToken(t, sim, test.who, test.duration); status != test.status ||
				(token != "") != (status == 200) {
				t.Errorf("%s: status %d, token of %d characters", test.name, status, len(token))
			}
		}
		for _, r := range sim.Requests() {
			if r.Params["Session"] != "" {
				t.Error("a secret was recorded")
			}
		}

		// A form in the body is equivalent to one in the URL.
		given, _ := json.Marshal(federated{role.keys.AccessKeyID, role.keys.SecretAccessKey, role.keys.SessionToken})
		client := http.Client{Transport: sim}
		if r, err := client.PostForm("https://signin.simulated.invalid/federation", url.Values{"Action": {"getSigninToken"}, "Session": {string(given)}}); err != nil || r.StatusCode != 200 {
			t.Errorf("posted: %v, %v", r, err)
		}

		token, _ := signinToken(t, sim, role, "")
		login := url.Values{"Action": {"login"}, "Issuer": {"broker"}, "Destination": {"https://console.aws.amazon.com/"}, "SigninToken": {token}}
		if r := federation(t, sim, login); r.StatusCode != 302 || r.Header.Get("Location") != "https://console.aws.amazon.com/" {
			t.Errorf("login: %d to %q", r.StatusCode, r.Header.Get("Location"))
		}
		time.Sleep(signInLife + time.Second)
		if r := federation(t, sim, login); r.StatusCode != 400 {
			t.Errorf("login with an old token: %d", r.StatusCode)
		}
		time.Sleep(time.Hour)
		if _, status := signinToken(t, sim, role, ""); status != 400 {
			t.Errorf("ended role: %d", status)
		}
	})
}
