package grant

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
	"broker/internal/peer"
	"broker/internal/session"
)

// The endpoint implements the protocol that SDKs use for AWS_CONTAINER_CREDENTIALS_FULL_URI:
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html

const (
	// answerTimeout is less than the SDKs wait: botocore waits 2 s; the Go and JS SDKs wait 1 s at first.
	answerTimeout = 900 * time.Millisecond
	// headerTimeout and maxHeader limit the request; net/http allows 4 KiB more than maxHeader.
	headerTimeout = 2 * time.Second
	// writeTimeout limits the write of an answer to a program that does not read.
	writeTimeout = 5 * time.Second
	maxHeader    = 4 << 10
)

func newServer(e *endpoints) *http.Server {
	server := &http.Server{
		Handler:           e,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		WriteTimeout:      writeTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(io.Discard, "", 0), // its messages quote the request
		BaseContext:       func(net.Listener) context.Context { return e.k.life },
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				e.requests.Add(1)
			case http.StateClosed:
				e.requests.Done()
			}
		},
		// Without this, net/http would answer OPTIONS * for everybody.
		DisableGeneralOptionsHandler: true,
	}
	// Each connection carries one request, because its uid is checked when it is accepted.
	server.SetKeepAlivesEnabled(false)
	return server
}

// own admits connections of our own uid. It may be called concurrently.
func (e *endpoints) own(uid int, err error) bool {
	if err == nil && uid == os.Getuid() {
		return true
	}
	if err != nil {
		uid = -1
	}
	if text := "a connection to an endpoint by another uid, or by a program that has ended"; e.said.sayable(text) {
		_ = e.k.Audit.Record(audit.Event{Event: "refused", UID: uid, Kind: fault.Denied, Message: text})
	}
	return false
}

// refusal is an answer without credentials.
type refusal struct {
	status int
	code   string
	text   string
}

// ServeHTTP answers one request of a program under `broker exec --mode server`.
func (e *endpoints) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		// The value is not logged, because it may contain a secret.
		if p := recover(); p != nil {
			e.k.Log.Error("panic in a request to an endpoint", "stack", string(debug.Stack()))
			refuse(w, refusal{http.StatusInternalServerError, string(fault.Internal),
				"internal error in Broker; see the daemon's log"})
		}
	}()
	h, no := e.admit(r)
	if no != nil {
		e.k.Refused.Add(1)
		// The caller has not shown the token, so it may be any program.
		if e.said.sayable(no.text) {
			said := audit.Event{Event: "refused", UID: os.Getuid(), Kind: fault.Denied, Message: no.text}
			if h != nil {
				said.Endpoint, said.Profile = h.ID, h.Profiles[0]
			}
			_ = e.k.Audit.Record(said)
		}
		refuse(w, *no)
		return
	}
	// Answer before the SDK times out. A slower fetch continues, for the next request.
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	err := e.k.Give(ctx, e.request(h), func(answers []session.Answer) error {
		answer := answers[0]
		e.k.serves(h, answers)
		write(w, http.StatusOK, credentialJSON{
			AccessKeyID:     answer.AccessKeyID,
			SecretAccessKey: answer.SecretAccessKey.Reveal(),
			Token:           answer.SessionToken.Reveal(),
			Expiration:      answer.Expires.UTC().Format(time.RFC3339),
			AccountID:       answer.Account,
		})
		_ = http.NewResponseController(w).Flush() // otherwise it is sent after Give has released the gate
		return nil
	})
	if err != nil {
		e.k.Refused.Add(1)
		refuse(w, refusalOf(err))
	}
}

// request returns the Request of the endpoint's program.
func (e *endpoints) request(h *held) Request {
	owner := peer.Peer{UID: os.Getuid(), Process: h.Owner}
	a := e.k.renewal(&h.Grant)
	a.By, a.renews = CallerOf(owner), false
	a.Get = func(ctx context.Context, r session.Request) (session.Answer, error) {
		if err := e.refusal(h); err != nil {
			return session.Answer{}, err
		}
		answer, err := e.k.Broker.Credentials(ctx, r)
		if err == nil {
			err = e.refusal(h)
		}
		return answer, err
	}
	return a
}

// refusal returns why an endpoint must not answer now, or nil.
func (e *endpoints) refusal(h *held) error {
	e.k.mu.Lock()
	defer e.k.mu.Unlock()
	switch {
	case h.Ended:
		return fault.New(fault.Denied, "the endpoint was revoked during the request")
	case len(h.LoggedOut) > 0:
		return loggedOut(h.LoggedOut[0])
	}
	return nil
}

// admit decides whether a request comes from a program that was given an endpoint. Browsers and proxies reveal
// themselves by the headers that they add. They can neither omit Host nor choose its value.
func (e *endpoints) admit(r *http.Request) (*held, *refusal) {
	no := func(status int, code, text string) *refusal { return &refusal{status, code, text} }
	switch {
	case r.Method != http.MethodGet:
		return nil, no(http.StatusMethodNotAllowed, "method", "an endpoint only answers GET")
	case throughOthers(r.Header):
		return nil, no(http.StatusForbidden, "headers", "an endpoint does not answer browsers or proxies")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0 ||
		r.Header.Get("Expect") != "" || r.Header.Get("Upgrade") != "":
		return nil, no(http.StatusBadRequest, "body", "an endpoint accepts no body and no upgrade")
	}
	h := e.find(r.RequestURI)
	switch {
	case h == nil:
		return nil, no(http.StatusNotFound, "not_found",
			"this endpoint does not exist, its program has ended, or it was revoked")
	case r.Host != h.host() && r.Host != loopback: // clients of the Common Runtime omit the port
		return nil, no(http.StatusForbidden, "host", "the Host header must be the address of the endpoint")
	case !h.Owner.Running():
		_ = e.k.end(h) // the loop retries
		return nil, no(http.StatusForbidden, "ended", "the program of this endpoint has ended")
	}
	switch tokens := r.Header["Authorization"]; {
	case len(tokens) == 0:
		text := "the Authorization header must be AWS_CONTAINER_AUTHORIZATION_TOKEN"
		if _, err := os.Lstat(e.tokenFile(h.ID)); err == nil {
			text = "this program is too old to read its token from AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; " +
				"run broker exec without --token-file"
		}
		return h, no(http.StatusUnauthorized, "no_token", text)
	case len(tokens) > 1:
		return h, no(http.StatusBadRequest, "tokens", "a request must have exactly one Authorization header")
	case !h.opens(tokens[0]):
		e.guessed(h)
		return h, no(http.StatusUnauthorized, "wrong_token", "the token is wrong")
	}
	return h, nil
}

// find returns the endpoint of a request URI. The URI must match exactly: no query, no other spelling of the path,
// no absolute form.
func (e *endpoints) find(uri string) *held {
	e.k.mu.Lock()
	defer e.k.mu.Unlock()
	h := e.k.grants[strings.TrimPrefix(uri, "/credentials/")]
	if h == nil || h.Kind != Endpoint || h.Ended || h.path() != uri {
		return nil
	}
	return h
}

// throughOthers reports whether a request has headers that a browser adds for a page, or that a proxy adds.
// https://developer.mozilla.org/en-US/docs/Glossary/Forbidden_request_header
func throughOthers(h http.Header) bool {
	for name, values := range h {
		switch name {
		case "Origin", "Referer", "Cookie", "Forwarded", "Via", "X-Real-Ip":
			return true
		case "Sec-Fetch-Mode":
			continue // Node's fetch sends it; a browser sends Sec-Fetch-Site too
		case "Sec-Fetch-Site":
			if len(values) == 1 && values[0] == "none" {
				continue // the request does not come from a page
			}
		}
		for _, prefix := range []string{"Sec-", "Proxy-", "X-Forwarded-", "Access-Control-"} {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
	}
	return false
}

// late reports whether the session is still being fetched.
func late(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// statuses has the failures that an immediate retry does not fix. For all others the status is 503, which makes
// the SDKs retry.
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

// refusalOf returns the answer for an error. The program shows its text to the user.
func refusalOf(err error) refusal {
	f := fault.Of(err)
	status, ok := statuses[f.Kind]
	if !ok {
		status = http.StatusServiceUnavailable
	}
	if late(err) && f.Kind != fault.LoginNeeded {
		return refusal{status, string(f.Kind), "the session is still being fetched; try again"}
	}
	text := f.Error()
	if hint := f.Hint.Shown(); hint != "" {
		text += "; run: " + hint
	}
	return refusal{status, string(f.Kind), text}
}

// credentialJSON is the only type that carries a secret over HTTP.
type credentialJSON struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	Token           string
	Expiration      string
	AccountID       string `json:"AccountId,omitempty"`
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
	b, _ := json.Marshal(body) // cannot fail: it has only strings
	b = fault.JSON(b)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may have disconnected
}
