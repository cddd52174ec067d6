package console

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"broker/internal/secret"
)

const ownState = "ok4DdqA9n3Jd"

// await starts a callback, and a goroutine that waits for it.
func await(t *testing.T) (c *Callback, done chan visited) {
	t.Helper()
	c, err := NewCallback()
	if err != nil {
		t.Fatal(err)
	}
	done = make(chan visited, 1)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() {
		code, err := c.Wait(ctx, ownState)
		done <- visited{code, err}
	}()
	return c, done
}

// visit sends a request unchanged and returns the answer.
func visit(c *Callback, request string) string {
	conn, err := net.Dial("tcp", c.listener.Addr().String())
	if err != nil {
		return "gone"
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, strings.ReplaceAll(request, "HOST", c.listener.Addr().String())+"\r\nConnection: close\r\n\r\n")
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

// TestCallbackIgnoresOtherRequests: no request without the state ends the login, whatever it looks like.
func TestCallbackIgnoresOtherRequests(t *testing.T) {
	c, done := await(t)
	const good = "GET /oauth/callback?code=right&state=" + ownState + " HTTP/1.1\r\nHost: HOST"
	for name, request := range map[string]string{
		"favicon":              "GET /favicon.ico HTTP/1.1\r\nHost: HOST",
		"no query":             "GET /oauth/callback HTTP/1.1\r\nHost: HOST",
		"the root":             "GET / HTTP/1.1\r\nHost: HOST",
		"another path":         strings.Replace(good, "/oauth/callback", "/oauth/callback2", 1),
		"a path below":         strings.Replace(good, "/oauth/callback", "/oauth/callback/x", 1),
		"a way around":         strings.Replace(good, "/oauth/callback", "/x/../oauth/callback", 1),
		"a whole address":      strings.Replace(good, "/oauth", "http://HOST/oauth", 1),
		"another login":        strings.Replace(good, ownState, "stale", 1),
		"a part of the state":  strings.Replace(good, ownState, ownState[:6], 1),
		"more than the state":  strings.Replace(good, ownState, ownState+"x", 1),
		"no state":             "GET /oauth/callback?code=right HTTP/1.1\r\nHost: HOST",
		"two states":           strings.Replace(good, "&state", "&state="+ownState+"&state", 1),
		"two codes":            strings.Replace(good, "code=right", "code=right&code=wrong", 1),
		"no code":              strings.Replace(good, "code=right&", "", 1),
		"an empty code":        strings.Replace(good, "code=right&", "code=&", 1),
		"an error of a tab":    "GET /oauth/callback?error=access_denied&state=stale HTTP/1.1\r\nHost: HOST",
		"an error for nobody":  "GET /oauth/callback?error=access_denied HTTP/1.1\r\nHost: HOST",
		"a name of the host":   strings.Replace(good, "HOST", "localhost", 1),
		"a host without port":  strings.Replace(good, "HOST", "127.0.0.1", 1),
		"a host elsewhere":     strings.Replace(good, "HOST", "evil.example.com", 1),
		"no host":              strings.Replace(good, "\r\nHost: HOST", "", 1),
		"two hosts":            good + "\r\nHost: HOST",
		"posted":               strings.Replace(good, "GET", "POST", 1) + "\r\nContent-Length: 0",
		"head":                 strings.Replace(good, "GET", "HEAD", 1),
		"an older HTTP":        strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1),
		"a broken query":       strings.Replace(good, "code=right", "code=%zz", 1),
		"nonsense":             "nonsense",
		"a very long line":     "GET /oauth/callback?code=" + strings.Repeat("x", maxRequest) + "&state=" + ownState + " HTTP/1.1\r\nHost: HOST",
		"an empty line":        "",
		"a line break in code": strings.Replace(good, "right", "ri\r\nHost: HOST\r\n\r\nght", 1),
	} {
		answer := visit(c, request)
		if strings.HasPrefix(answer, "HTTP/1.1 200") || answer == "gone" {
			t.Errorf("%s: %q", name, answer)
		}
		select {
		case v := <-done:
			t.Fatalf("%s ended the login: %v", name, v)
		default:
		}
	}
	answer := visit(c, good)
	for _, want := range []string{"HTTP/1.1 200 OK\r\n", "\r\nContent-Security-Policy: default-src 'none'",
		"\r\nCache-Control: no-store\r\n", "\r\nReferrer-Policy: no-referrer\r\n", "\r\nX-Content-Type-Options: nosniff\r\n",
		"You can close this tab"} {
		if !strings.Contains(answer, want) {
			t.Errorf("the answer lacks %q: %q", want, answer)
		}
	}
	if strings.Contains(answer, "right") || strings.Contains(answer, "://") {
		t.Errorf("the page shows the code or leads elsewhere: %q", answer)
	}
	if v := <-done; v.err != nil || v.code.Reveal() != "right" {
		t.Errorf("got %v, %v", v.code.Reveal(), v.err)
	}
	if answer := visit(c, strings.Replace(good, "right", "second", 1)); answer != "gone" {
		t.Errorf("a second request: %q", answer)
	}
}

// TestCallbackTakesOne: of many requests at once, one counts.
func TestCallbackTakesOne(t *testing.T) {
	c, done := await(t)
	var served sync.WaitGroup
	var mu sync.Mutex
	good := 0
	for range 32 {
		served.Go(func() {
			answer := visit(c, "GET /oauth/callback?code=x&state="+ownState+" HTTP/1.1\r\nHost: HOST")
			mu.Lock()
			defer mu.Unlock()
			if strings.HasPrefix(answer, "HTTP/1.1 200") {
				good++
			}
		})
	}
	served.Wait()
	if v := <-done; v.err != nil || good != 1 {
		t.Errorf("%d were served, %v", good, v.err)
	}
}

// TestCallbackOutlastsIdleConnectionsLong: connections that send nothing do not keep the browser away for longer than
// connTimeout, however many there are.
func TestCallbackOutlastsIdleConnectionsLong(t *testing.T) {
	c, done := await(t)
	for range maxVisitors {
		conn, err := net.Dial("tcp", c.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "GET /oauth")
	}
	if answer := visit(c, "GET /oauth/callback?code=x&state="+ownState+" HTTP/1.1\r\nHost: HOST"); !strings.HasPrefix(answer, "HTTP/1.1 200") {
		t.Errorf("got %q", answer)
	}
	select {
	case v := <-done:
		if v.err != nil {
			t.Error(v.err)
		}
	case <-time.After(time.Minute):
		t.Error("the login did not end")
	}
}

func TestCallbackDeclined(t *testing.T) {
	for text, want := range map[string]string{
		"access_denied":         ErrDeclined.Error() + ": access_denied",
		"<script>":              ErrDeclined.Error() + ": an unknown error",
		strings.Repeat("x", 99): ErrDeclined.Error() + ": an unknown error",
	} {
		c, done := await(t)
		answer := visit(c, "GET /oauth/callback?error="+text+"&error_description=hush&code=x&state="+ownState+" HTTP/1.1\r\nHost: HOST")
		v := <-done
		if !errors.Is(v.err, ErrDeclined) || v.err.Error() != want || !v.code.IsZero() || v.code != (secret.String{}) {
			t.Errorf("got %v", v.err)
		}
		if strings.Contains(answer, "hush") || strings.Contains(answer, "<script>") {
			t.Errorf("the page shows what it was sent: %q", answer)
		}
	}
}

func TestCallbackEnds(t *testing.T) {
	c, err := NewCallback()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Wait(ctx, ownState); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if answer := visit(c, "GET / HTTP/1.1\r\nHost: HOST"); answer != "gone" {
		t.Errorf("it still listens: %q", answer)
	}
	if c, err = NewCallback(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = c.Wait(t.Context(), "") }()
	answer := visit(c, "GET /oauth/callback?code=x&state= HTTP/1.1\r\nHost: HOST")
	if strings.HasPrefix(answer, "HTTP/1.1 200") {
		t.Errorf("an empty state counts: %q", answer)
	}
}
