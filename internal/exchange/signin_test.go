//go:build unix

package exchange

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/stssim"
)

func TestSimulatedSignIn(t *testing.T) {
	sim, c := simulator(t)
	ctx := background(t)
	place := profiles.Endpoint{URL: c.endpoint + "/federation"}
	signIn := New(Options{Timeout: patience})

	user, err := c.Call(ctx, simKeys(), simSession(), secret.New(sim.FreshCode(simSerial)))
	if err != nil {
		t.Fatal(err)
	}
	chained, err := c.Assume(ctx, user, simRole(simDev))
	if err != nil {
		t.Fatal(err)
	}
	long := simRole(simLong)
	long.Duration, long.MFASerial = 2*time.Hour, simSerial
	direct, err := c.Call(ctx, simKeys(), long, secret.New(sim.FreshCode(simSerial)))
	if err != nil {
		t.Fatal(err)
	}
	federated, err := c.Call(ctx, simKeys(), session.Call{
		Operation: session.GetFederationToken, SessionName: "paul@host", Duration: time.Hour,
		PolicyARN: "arn:aws:iam::aws:policy/job-function/ViewOnlyAccess", Tags: []session.Tag{{Key: "a", Value: "b"}},
	}, secret.String{})
	if err != nil || federated.Subject != "arn:aws:sts::111122223333:federated-user/paul@host" {
		t.Fatal(federated.Subject, err)
	}
	for _, test := range []struct {
		name string
		with session.Credentials
		life time.Duration
		kind fault.Kind // empty for success
		sent string     // SessionDuration
	}{
		{"a role from a session", chained, 0, "", ""},
		{"a role from a session, with a life", chained, time.Hour, fault.Denied, "3600"},
		{"a role from the key", direct, 2*time.Hour - 5*time.Second + 300*time.Millisecond, "", "7195"},
		{"a role from the key, too long", direct, 20 * time.Hour, "", "43200"},
		{"a role from the key, near its end", direct, time.Minute, "", ""},
		{"a federated user", federated, 0, "", ""},
		{"a session of a user", user, 0, fault.Denied, ""},
	} {
		keys := Keys{test.with.AccessKeyID, test.with.SecretAccessKey, test.with.SessionToken}
		token, err := signIn.SigninToken(ctx, keys, place, test.life)
		if got := kindOf(err); got != test.kind || token.IsZero() != (err != nil) {
			t.Errorf("%s: %v", test.name, err)
		}
		requests := sim.Requests()
		if sent := requests[len(requests)-1].Params["SessionDuration"]; sent != test.sent {
			t.Errorf("%s: SessionDuration %q, want %q", test.name, sent, test.sent)
		}
	}
	sim.Fault(stssim.Fault{Action: "getSigninToken", Kind: stssim.DropBefore})
	if _, err := signIn.SigninToken(ctx, Keys{chained.AccessKeyID, chained.SecretAccessKey, chained.SessionToken},
		place, 0); err != nil {
		t.Errorf("no retry after a lost connection: %v", err)
	}
}

func kindOf(err error) fault.Kind {
	if err == nil {
		return ""
	}
	return fault.Of(err).Kind
}

// TestSignInAnswers: the text of a wrong or hostile sign-in endpoint is not shown, and no redirect is followed.
// Only the body contains secrets.
func TestSignInAnswers(t *testing.T) {
	var status int
	var body, elsewhere string
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		sent, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.RawQuery != "" || r.RequestURI != "/federation" || !strings.Contains(string(sent), "sessionToken") {
			t.Errorf("%s %s", r.Method, r.RequestURI)
		}
		if elsewhere != "" {
			w.Header().Set("Location", elsewhere)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	keys := Keys{"ASIAQXZ7EXAMPLEWNYVB", secret.New(longSecret), secret.New(sessionText)}
	c := New(Options{Timeout: patience})
	for _, test := range []struct {
		name   string
		status int
		body   string
		to     string
		kind   fault.Kind
		asked  int
	}{
		{"good", 200, `{"SigninToken":"abc"}`, "", "", 1},
		{"a page that repeats the secret", 400, "<html>" + longSecret, "", fault.Denied, 1},
		{"forbidden", 403, "{}", "", fault.Denied, 1},
		{"not found", 404, "", "", fault.Denied, 1},
		{"no method", 405, "", "", fault.Denied, 1},
		{"a portal", 200, "<!DOCTYPE html><html>" + longSecret, "", fault.BadAnswer, 1},
		{"a redirect", 307, "", server.URL + "/other", fault.BadAnswer, 1},
		{"nothing", 200, "", "", fault.BadAnswer, 1},
		{"no content", 204, "", "", fault.BadAnswer, 1},
		{"no JSON", 200, `{"SigninToken":`, "", fault.BadAnswer, 1},
		{"no token", 200, `{}`, "", fault.BadAnswer, 1},
		{"a token of another type", 200, `{"SigninToken":{"a":1}}`, "", fault.BadAnswer, 1},
		{"a token with a line end", 200, `{"SigninToken":"a\r\nb"}`, "", fault.BadAnswer, 1},
		{"a token without end", 200, `{"SigninToken":"` + strings.Repeat("a", maxSignInToken+1) + `"}`, "", fault.BadAnswer, 1},
		{"2 MiB", 200, `{"SigninToken":"` + strings.Repeat("a", 2<<20) + `"}`, "", fault.BadAnswer, 1},
		{"in trouble", 503, longSecret, "", fault.Network, maxAttempts},
		{"too fast", 429, longSecret, "", fault.Throttled, maxAttempts},
	} {
		status, body, elsewhere, asked = test.status, test.body, test.to, 0
		token, err := c.SigninToken(background(t), keys, profiles.Endpoint{URL: server.URL + "/federation"}, 0)
		if kindOf(err) != test.kind || asked != test.asked || (token.Reveal() == "abc") != (test.kind == "") {
			t.Errorf("%s: %v, asked %d times", test.name, err, asked)
		}
		if err != nil && (strings.Contains(err.Error(), longSecret) || strings.Contains(err.Error(), sessionText)) {
			t.Errorf("%s: the message contains a secret", test.name)
		}
	}
	for _, bad := range []string{"", "http://signin.aws.amazon.com/federation", "https://user@signin.aws.amazon.com/federation", "ftp://127.0.0.1/"} {
		if _, err := c.SigninToken(background(t), keys, profiles.Endpoint{URL: bad}, 0); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
