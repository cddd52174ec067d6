package console

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"broker/internal/lazyregexp"
	"broker/internal/secret"
	"broker/internal/socket"
)

// Callback waits on loopback for the browser that a login page leads back with a code (RFC 8252, section 7.3). It
// exists before the page is opened, because a page with a session of its own leads back at once.
type Callback struct {
	listener net.Listener
	once     sync.Once
	came     chan visited
}

// visited is what the page led back with.
type visited struct {
	code secret.String
	err  error
}

// ErrDeclined means that the person or the page declined the login.
var ErrDeclined = errors.New("the login was declined on the page")

// callbackPath is the only path that AWS accepts.
const callbackPath = "/oauth/callback"

// maxVisitors is how many connections are read at a time. Further ones wait.
const maxVisitors = 16

// NewCallback starts to listen on loopback.
func NewCallback() (*Callback, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &Callback{listener: listener, came: make(chan visited, 1)}, nil
}

// URL returns the address to which the page must lead.
func (c *Callback) URL() string { return "http://" + c.listener.Addr().String() + callbackPath }

// Close stops to listen.
func (c *Callback) Close() { _ = c.listener.Close() }

// Wait returns the code of the first request with this state. Other requests change nothing: those of another tab, of
// another login, and of pages that send the browser here. The errors are ErrDeclined and that of ctx. Afterwards
// nothing listens.
func (c *Callback) Wait(ctx context.Context, state string) (secret.String, error) {
	defer c.Close()
	go c.serve(socket.Guard(c.listener, ours), state)
	select {
	case v := <-c.came:
		return v.code, v.err
	case <-ctx.Done():
		return secret.String{}, ctx.Err()
	}
}

// serve answers connections until the listener is closed.
func (c *Callback) serve(listener net.Listener, state string) {
	slots := make(chan struct{}, maxVisitors)
	for {
		slots <- struct{}{}
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { <-slots }()
			c.answer(conn, state)
		}()
	}
}

// answer reads one request. Only the state, which no other page knows, makes it count.
func (c *Callback) answer(conn net.Conn, state string) {
	defer func() { _ = conn.Close() }()
	v, ok := parseVisit(readRequest(conn), state)
	first := false
	if ok {
		c.once.Do(func() { first = true })
	}
	if !first {
		_, _ = io.WriteString(conn, answerOther+"\r\n")
		return
	}
	text := "The browser is done. You can close this tab; Broker goes on in the terminal."
	if v.err != nil {
		text = "The login was declined. You can close this tab; the terminal shows what happened."
	}
	_, _ = io.WriteString(conn, callbackPage(text))
	c.came <- v
}

// errorCode matches the error codes of RFC 6749.
var errorCode = lazyregexp.New(`^[a-z_]{1,40}$`)

// parseVisit parses a request line. ok is false if it is not the answer of the page with this state.
func parseVisit(line, state string) (v visited, ok bool) {
	target, found := strings.CutSuffix(line, " HTTP/1.1")
	raw, isCallback := strings.CutPrefix(target, "GET "+callbackPath+"?")
	query, err := url.ParseQuery(raw)
	if !found || !isCallback || err != nil {
		return visited{}, false
	}
	one := func(key string) string {
		if len(query[key]) != 1 {
			return ""
		}
		return query[key][0]
	}
	if state == "" || subtle.ConstantTimeCompare([]byte(one("state")), []byte(state)) != 1 {
		return visited{}, false
	}
	if why := one("error"); why != "" {
		if !errorCode.MatchString(why) {
			why = "an unknown error"
		}
		return visited{err: fmt.Errorf("%w: %s", ErrDeclined, why)}, true
	}
	code := one("code")
	return visited{code: secret.New(code)}, code != ""
}

// callbackPage returns an answer with a page that loads nothing.
func callbackPage(text string) string {
	body := "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Broker</title></head><body><p>" + text +
		"</p></body></html>\n"
	return "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: " + strconv.Itoa(len(body)) +
		"\r\nContent-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\n" +
		"Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n" + body
}
