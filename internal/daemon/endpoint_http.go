package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/session"
)

// The endpoint speaks what the SDKs expect of AWS_CONTAINER_CREDENTIALS_FULL_URI:
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html

const (
	// answerTimeout is below what the SDKs wait: botocore 2 s, the Go SDK and the JS SDK 1 s at first.
	answerTimeout = 900 * time.Millisecond
	// headerTimeout and maxHeader bound what one request may take; net/http adds 4 KiB to the latter.
	headerTimeout = 2 * time.Second
	maxHeader     = 4 << 10
)

func newServer(e *endpoints) *http.Server {
	server := &http.Server{
		Handler:           e,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		WriteTimeout:      writeTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(io.Discard, "", 0), // it quotes what was sent
		BaseContext:       func(net.Listener) context.Context { return e.ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				e.open.Add(1)
			case http.StateClosed:
				e.open.Done()
			}
		},
		// It would answer to anybody: OPTIONS * is no request to a lease.
		DisableGeneralOptionsHandler: true,
	}
	// One request for each connection: whose it is was asked when it was made.
	server.SetKeepAlivesEnabled(false)
	return server
}

// own admits the connections of our own uid. It is asked by several at a time.
func (e *endpoints) own(uid int, err error) bool {
	if err == nil && uid == os.Getuid() {
		return true
	}
	if err != nil {
		uid = -1
	}
	if text := "a connection of another uid, or of a program that has gone, to an endpoint"; e.sayable(text) {
		_ = e.d.Audit.Record(audit.Event{Event: "refused", UID: uid, Kind: fault.Denied, Message: text})
	}
	return false
}

// A refusal is an answer without credentials.
type refusal struct {
	status int
	code   string
	text   string
}

// ServeHTTP answers one request of a program under `broker exec --mode server`.
func (e *endpoints) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		// The value is not logged: it may hold anything.
		if p := recover(); p != nil {
			e.d.Log.Error("panic in a request to an endpoint", "stack", string(debug.Stack()))
			refuse(w, refusal{http.StatusInternalServerError, string(fault.Internal), "a defect of the broker; its log says more"})
		}
	}()
	l, no := e.admit(r)
	if no != nil {
		e.d.refused.Add(1)
		// Whoever it is that asks, it has not shown the token.
		if e.sayable(no.text) {
			_ = e.d.Audit.Record(audit.Event{Event: "refused", UID: os.Getuid(), Kind: fault.Denied, Message: no.text,
				Endpoint: l.ID, Profile: l.Profile})
		}
		refuse(w, *no)
		return
	}
	answer, err := e.answer(r.Context(), l)
	if err := e.d.giving("served", e.call(l), answer, err); err != nil {
		e.d.refused.Add(1)
		refuse(w, refusalOf(err))
		return
	}
	e.d.answered.Add(1)
	e.d.lastUse.Store(time.Now().Unix())
	locked := e.d.handOut(func() {
		write(w, http.StatusOK, credentialJSON{
			AccessKeyID:     answer.AccessKeyID,
			SecretAccessKey: answer.SecretAccessKey.Reveal(),
			Token:           answer.SessionToken.Reveal(),
			Expiration:      answer.Expires.UTC().Format(time.RFC3339),
		})
		_ = http.NewResponseController(w).Flush() // else it leaves once this has returned
	})
	if locked {
		e.d.refused.Add(1)
		_ = e.d.record("refused", e.call(l), session.Answer{}, lockedFault())
		refuse(w, refusalOf(lockedFault()))
	}
}

// admit decides whether a request is one of a program to which a lease was given. Browsers, and proxies that
// stand between, show themselves by the headers that they add, and can neither forge Host nor do without.
func (e *endpoints) admit(r *http.Request) (lease, *refusal) {
	no := func(status int, code, text string) *refusal { return &refusal{status, code, text} }
	switch {
	case r.Method != http.MethodGet:
		return lease{}, no(http.StatusMethodNotAllowed, "method", "an endpoint answers GET alone")
	case throughOthers(r.Header):
		return lease{}, no(http.StatusForbidden, "headers", "an endpoint answers no browser and no proxy")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.Header.Get("Expect") != "" || r.Header.Get("Upgrade") != "":
		return lease{}, no(http.StatusBadRequest, "body", "an endpoint takes no body and no upgrade")
	}
	// The whole request line: no query, no other way to write the path, no absolute form.
	l, ok := e.find(r.RequestURI)
	switch {
	case !ok:
		return lease{}, no(http.StatusNotFound, "not_found", "there is no such endpoint, or its program has ended, or it was revoked")
	case r.Host != l.host():
		return lease{}, no(http.StatusForbidden, "host", "an endpoint is asked by its own address alone")
	case !l.process().Running():
		e.end(l.ID)
		return lease{}, no(http.StatusForbidden, "ended", "the program that this endpoint was for has ended")
	}
	switch tokens := r.Header["Authorization"]; {
	case len(tokens) == 0:
		return l, no(http.StatusUnauthorized, "no_token", "a request has to bring AWS_CONTAINER_AUTHORIZATION_TOKEN as Authorization")
	case len(tokens) > 1:
		return l, no(http.StatusBadRequest, "tokens", "a request brings one Authorization header")
	case !l.opens(tokens[0]):
		e.guessed(l.ID)
		return l, no(http.StatusUnauthorized, "wrong_token", "the token is wrong")
	}
	return l, nil
}

// throughOthers reports headers that a browser adds, or a proxy.
// https://developer.mozilla.org/en-US/docs/Glossary/Forbidden_request_header
func throughOthers(h http.Header) bool {
	for name := range h {
		switch name {
		case "Origin", "Referer", "Cookie", "Forwarded", "Via", "X-Real-Ip":
			return true
		}
		for _, prefix := range []string{"Sec-", "Proxy-", "X-Forwarded-", "Access-Control-"} {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
	}
	return false
}

// answer gets the session of a lease in the time that an SDK waits. What takes longer goes on, for the next request.
func (e *endpoints) answer(ctx context.Context, l lease) (session.Answer, error) {
	loggedOut := fault.New(fault.LoginNeeded, "%s was logged out; log in again", l.Source).
		WithHint("broker login %s", l.Source)
	if l.LoggedOut {
		return session.Answer{}, loggedOut
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	answer, err := e.d.Broker.Credentials(ctx, e.request(l))
	e.warmed(l.ID, err == nil || late(err))
	now, ok := e.find(l.path())
	switch {
	case err != nil:
		return session.Answer{}, err
	case !ok:
		return session.Answer{}, fault.New(fault.Denied, "the endpoint was revoked while it was asked")
	case now.LoggedOut:
		return session.Answer{}, loggedOut
	}
	return answer, nil
}

// late reports that a session is still on its way.
func late(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// statuses are those of failures that trying again at once does not mend; all
// others are 503, at which the SDKs try again.
var statuses = map[fault.Kind]int{
	fault.LoginNeeded:    http.StatusForbidden,
	fault.CodeRejected:   http.StatusForbidden,
	fault.Denied:         http.StatusForbidden,
	fault.ExpiredSession: http.StatusForbidden,
	fault.Locked:         http.StatusForbidden,
	fault.KeyringLocked:  http.StatusForbidden,
	fault.NotConfirmed:   http.StatusForbidden,
	fault.NotFound:       http.StatusNotFound,
	fault.Usage:          http.StatusBadRequest,
	fault.Config:         http.StatusBadRequest,
	fault.Throttled:      http.StatusTooManyRequests,
}

// refusalOf is what a program is told, and shows to its user.
func refusalOf(err error) refusal {
	f := fault.Of(err)
	status, ok := statuses[f.Kind]
	if !ok {
		status = http.StatusServiceUnavailable
	}
	if late(err) && f.Kind != fault.LoginNeeded {
		return refusal{status, string(f.Kind), "the session is still being fetched; ask again"}
	}
	text := f.Error()
	if hint := f.Hint.Shown(); hint != "" {
		text += "; type: " + hint
	}
	return refusal{status, string(f.Kind), text}
}

// credentialJSON is the only place where a secret leaves over HTTP.
type credentialJSON struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	Token           string
	Expiration      string
}

func refuse(w http.ResponseWriter, no refusal) {
	write(w, no.status, struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{no.code, no.text})
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	b, _ := json.Marshal(body) // strings alone
	b = fault.JSON(b)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // a client that is gone needs no answer
}
