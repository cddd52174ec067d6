//go:build unix

package exchange

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/session"
)

// The keys of these tests. They share no piece of eight characters with any message of the package.
const (
	longSecret   = "wJalrXUtnFEMI+K7MDENG/bPxRfiCYzQ4vH8sT0k"
	sessionText  = "FwoGZXIvYXdzEJr//////////wEaDMQ2k9TzV0pL7+s3hSKrAXy1b5uN8cRfG6oWdEiQjKtH4mZ0aB=="
	answerSecret = "nB7gT3xYwQ9eR5uI1oP8aS2dF6hJ4kL0zXcVbNmQ"
	answerToken  = "IQoJb3JpZ2luX2VjEPz//////////wEaDGtY7vRq2MwZk5oSJHMEUCIQDx7Qm2"
	aCode        = "918273"
	aSerial      = "arn:aws:iam::111122223333:mfa/paul"
	aRole        = "arn:aws:iam::444455556666:role/team/admin"
)

func userKeys() Keys {
	return Keys{AccessKeyID: "AKIAQXZ7EXAMPLEWNYVB", Secret: secret.New(longSecret)}
}

func aSession() session.Credentials {
	return session.Credentials{
		AccessKeyID:     "ASIAQXZ7EXAMPLEWNYVB",
		SecretAccessKey: secret.New(longSecret),
		SessionToken:    secret.New(sessionText),
		Expires:         time.Now().Add(time.Hour),
	}
}

func openSession() session.Call {
	return session.Call{Operation: session.GetSessionToken, MFASerial: aSerial, Duration: 12 * time.Hour}
}

func assumeRole() session.Call {
	return session.Call{Operation: session.AssumeRole, RoleARN: aRole, SessionName: "paul"}
}

// answer is what the fake STS answers; the zero value of a field is valid.
type answer struct {
	id, secret, token, expiration, arn string
	without                            string // the name of an element to leave out
}

func (a answer) xml(op session.Operation) string {
	or := func(s, standard string) string {
		if s == "" {
			return standard
		}
		return s
	}
	element := func(name, text string) string {
		if a.without == name {
			return ""
		}
		return "<" + name + ">" + text + "</" + name + ">"
	}
	inner := element("Credentials",
		element("AccessKeyId", or(a.id, "ASIA2BCDEFGHIJKLMNOP"))+
			element("SecretAccessKey", or(a.secret, answerSecret))+
			element("SessionToken", or(a.token, answerToken))+
			element("Expiration", or(a.expiration, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))))
	if op == session.AssumeRole {
		inner += element("AssumedRoleUser", element("Arn", or(a.arn, "arn:aws:sts::444455556666:assumed-role/admin/paul"))+
			"<AssumedRoleId>AROAEXAMPLE:paul</AssumedRoleId>")
	}
	name := string(op)
	return "<" + name + `Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">` +
		element(name+"Result", inner) +
		"<ResponseMetadata><RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId></ResponseMetadata></" + name + "Response>"
}

func refusal(code, message string) string {
	return `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>` + code +
		"</Code><Message>" + message + "</Message></Error><RequestId>1</RequestId></ErrorResponse>"
}

// fake is an HTTP server that records the requests.
type fake struct {
	*httptest.Server
	mu    sync.Mutex
	forms []url.Values
	heads []http.Header
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.forms)
}

func (f *fake) keep(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forms = append(f.forms, form)
	f.heads = append(f.heads, r.Header.Clone())
}

// serve starts a plain http server that records each request and then calls the handler.
func serve(t *testing.T, h func(w http.ResponseWriter, r *http.Request)) *fake {
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.keep(r)
		h(w, r)
	}))
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// good answers both calls.
func good(w http.ResponseWriter, _ *http.Request) { answerWith(answer{})(w, nil) }

func answerWith(a answer) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		// One document fits both calls: the SDK finds the result by name.
		w.Header().Set("Content-Type", "text/xml")
		both := a.xml(session.GetSessionToken) + a.xml(session.AssumeRole)
		result := func(name string) string {
			_, rest, _ := strings.Cut(both, "<"+name+">")
			inner, _, _ := strings.Cut(rest, "</"+name+">")
			return "<" + name + ">" + inner + "</" + name + ">"
		}
		if a.without == "GetSessionTokenResult" || a.without == "AssumeRoleResult" {
			fmt.Fprint(w, "<Response></Response>")
			return
		}
		fmt.Fprint(w, "<Response>"+result("GetSessionTokenResult")+result("AssumeRoleResult")+"</Response>")
	}
}

func say(status int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// patience is the timeout for operations that take no time on an idle machine.
const patience = time.Minute

// client returns a Client for a fake, with a timeout that no test waits for.
func client(f *fake) *Client {
	return New(Options{STSEndpoint: f.URL, Timeout: patience})
}

// wantFault checks the kind of an error, that its text has all parts, and that it follows the rules for every
// error of the package.
func wantFault(t *testing.T, err error, kind fault.Kind, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", kind)
	}
	if !fault.Is(err, kind) {
		t.Errorf("kind %s, want %s: %v", fault.Of(err).Kind, kind, err)
	}
	for _, want := range texts {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	wantClean(t, err)
}

// wantClean checks that an error is one line in the style of the program, and that no text of its chain contains a
// secret or the SDK's prefixes.
func wantClean(t *testing.T, err error) {
	t.Helper()
	texts := []string{fmt.Sprintf("%v %+v %#v", err, err, err)}
	for e := err; e != nil; e = errors.Unwrap(e) {
		texts = append(texts, e.Error(), fmt.Sprintf("%+v %#v", e, e))
	}
	secrets := []string{longSecret, sessionText, answerSecret, answerToken, aCode}
	for _, text := range texts {
		for _, s := range secrets {
			for i := 0; i+grain <= max(len(s), grain); i++ {
				piece := s[i:min(i+grain, len(s))]
				if strings.Contains(text, piece) {
					t.Fatalf("a piece of a secret (%q) is in %q", piece, text)
				}
			}
		}
		for _, noise := range []string{"operation error", "StatusCode", "deserialization", "request send failed", "\n"} {
			if strings.Contains(text, noise) {
				t.Errorf("noise %q in %q", noise, text)
			}
		}
	}
}

func background(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	return ctx
}

// recorder is a transport that answers without a network.
type recorder struct {
	mu       sync.Mutex
	requests []*http.Request
	answer   func(*http.Request) (*http.Response, error)
}

func (r *recorder) RoundTrip(q *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.requests = append(r.requests, q)
	r.mu.Unlock()
	return r.answer(q)
}

func response(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status,
		Header:     http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}},
		Body:       io.NopCloser(strings.NewReader(body)),
	}
}

const callerIdentity = `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/paul</Arn>` +
	`<UserId>AIDAEXAMPLE</UserId><Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`

func (r *recorder) connect(*x509.CertPool, way) http.RoundTripper { return r }
