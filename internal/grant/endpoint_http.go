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

// The endpoint speaks what the SDKs expect of AWS_CONTAINER_CREDENTIALS_FULL_URI:
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html

const (
	// answerTimeout is below what the SDKs wait: botocore 2 s, the Go SDK and the JS SDK 1 s at first.
	answerTimeout = 900 * time.Millisecond
	// headerTimeout and maxHeader bound what one request may take; net/http adds 4 KiB to the latter.
	headerTimeout = 2 * time.Second
	// writeTimeout bounds an answer to a program that does not read.
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
		ErrorLog:          log.New(io.Discard, "", 0), // it quotes what was sent
		BaseContext:       func(net.Listener) context.Context { return e.k.life },
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				e.requests.Add(1)
			case http.StateClosed:
				e.requests.Done()
			}
		},
		// It would answer to anybody: OPTIONS * is no request to an endpoint.
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
		_ = e.k.Audit.Record(audit.Event{Event: "refused", UID: uid, Kind: fault.Denied, Message: text})
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
			e.k.Log.Error("panic in a request to an endpoint", "stack", string(debug.Stack()))
			refuse(w, refusal{http.StatusInternalServerError, string(fault.Internal),
				"internal error in Broker; see the daemon's log"})
		}
	}()
	h, no := e.admit(r)
	if no != nil {
		e.k.Refused.Add(1)
		// It has not shown the token, so it may be anybody.
		if e.sayable(no.text) {
			said := audit.Event{Event: "refused", UID: os.Getuid(), Kind: fault.Denied, Message: no.text}
			if h != nil {
				said.Endpoint, said.Profile = h.ID, h.Profiles[0]
			}
			_ = e.k.Audit.Record(said)
		}
		refuse(w, *no)
		return
	}
	// In the time that an SDK waits. What takes longer goes on, for the next request.
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
		_ = http.NewResponseController(w).Flush() // else it leaves once this has returned
		return nil
	})
	if err != nil {
		e.k.Refused.Add(1)
		refuse(w, refusalOf(err))
	}
}

// request is what the program of an endpoint asks for.
func (e *endpoints) request(h *held) Ask {
	owner := peer.Peer{UID: os.Getuid(), Process: h.Owner}
	a := e.k.renewal(&h.Grant)
	a.Event, a.By, a.renews = "served", Caller{owner, owner.Program}, false
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

// refusal is why an endpoint gives nothing now.
func (e *endpoints) refusal(h *held) error {
	e.k.mu.Lock()
	defer e.k.mu.Unlock()
	switch {
	case h.Ended:
		return fault.New(fault.Denied, "the endpoint was revoked while it was asked")
	case len(h.LoggedOut) > 0:
		return loggedOut(h.LoggedOut[0])
	}
	return nil
}

// admit decides whether a request is one of a program that was given an endpoint. Browsers, and proxies that stand
// between, show themselves by the headers that they add, and can neither forge Host nor do without.
func (e *endpoints) admit(r *http.Request) (*held, *refusal) {
	no := func(status int, code, text string) *refusal { return &refusal{status, code, text} }
	switch {
	case r.Method != http.MethodGet:
		return nil, no(http.StatusMethodNotAllowed, "method", "an endpoint answers GET alone")
	case throughOthers(r.Header):
		return nil, no(http.StatusForbidden, "headers", "an endpoint answers no browser and no proxy")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0 ||
		r.Header.Get("Expect") != "" || r.Header.Get("Upgrade") != "":
		return nil, no(http.StatusBadRequest, "body", "an endpoint takes no body and no upgrade")
	}
	h := e.find(r.RequestURI)
	switch {
	case h == nil:
		return nil, no(http.StatusNotFound, "not_found",
			"there is no such endpoint, or its program has ended, or it was revoked")
	case r.Host != h.host() && r.Host != loopback: // clients of the Common Runtime leave the port out
		return nil, no(http.StatusForbidden, "host", "an endpoint is asked by its own address alone")
	case !h.Owner.Running():
		_ = e.k.end(h) // the loop tries again
		return nil, no(http.StatusForbidden, "ended", "the program that this endpoint was for has ended")
	}
	switch tokens := r.Header["Authorization"]; {
	case len(tokens) == 0:
		text := "a request has to bring AWS_CONTAINER_AUTHORIZATION_TOKEN as Authorization"
		if _, err := os.Lstat(e.tokenFile(h.ID)); err == nil {
			text = "this program is too old to read its token from AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; " +
				"run broker exec without --token-file"
		}
		return h, no(http.StatusUnauthorized, "no_token", text)
	case len(tokens) > 1:
		return h, no(http.StatusBadRequest, "tokens", "a request brings one Authorization header")
	case !h.opens(tokens[0]):
		e.guessed(h)
		return h, no(http.StatusUnauthorized, "wrong_token", "the token is wrong")
	}
	return h, nil
}

// find is the endpoint of a whole request line: no query, no other way to write the path, no absolute form.
func (e *endpoints) find(uri string) *held {
	e.k.mu.Lock()
	defer e.k.mu.Unlock()
	h := e.k.grants[strings.TrimPrefix(uri, "/credentials/")]
	if h == nil || h.Kind != Endpoint || h.Ended || h.path() != uri {
		return nil
	}
	return h
}

// throughOthers reports headers that a browser adds to the request of a page, or a proxy.
// https://developer.mozilla.org/en-US/docs/Glossary/Forbidden_request_header
func throughOthers(h http.Header) bool {
	for name, values := range h {
		switch name {
		case "Origin", "Referer", "Cookie", "Forwarded", "Via", "X-Real-Ip":
			return true
		case "Sec-Fetch-Mode":
			continue // Node's own fetch sends it; a browser sends Sec-Fetch-Site too
		case "Sec-Fetch-Site":
			if len(values) == 1 && values[0] == "none" {
				continue // no page asked for it
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
		text += "; run: " + hint
	}
	return refusal{status, string(f.Kind), text}
}

// credentialJSON is the only place where a secret leaves over HTTP.
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
	b, _ := json.Marshal(body) // strings alone
	b = fault.JSON(b)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // a client that is gone needs no answer
}
