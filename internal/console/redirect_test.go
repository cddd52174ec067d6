package console

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"broker/internal/secret"
)

const signedIn = "https://signin.aws.amazon.com/federation?SigninToken=x"

// listen starts a redirect, and a goroutine that waits for it.
func listen(t *testing.T) (r *Redirect, done chan error) {
	t.Helper()
	r, err := NewRedirect(secret.New(signedIn))
	if err != nil {
		t.Fatal(err)
	}
	done = make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() { done <- r.Wait(ctx, nil) }()
	return r, done
}

// raw sends a request unchanged and returns the answer.
func raw(t *testing.T, r *Redirect, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", r.listener.Addr().String())
	if err != nil {
		return "gone"
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, strings.ReplaceAll(request, "HOST", r.listener.Addr().String())+"\r\nConnection: close\r\n\r\n")
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

func TestRedirectOnce(t *testing.T) {
	r, done := listen(t)
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: HOST",
		"GET " + r.path + "x HTTP/1.1\r\nHost: HOST",
		"GET " + r.path + "?x HTTP/1.1\r\nHost: HOST",
		"GET " + r.path + "? HTTP/1.1\r\nHost: HOST",
		"GET /" + r.path + " HTTP/1.1\r\nHost: HOST",
		"GET " + strings.ToLower(r.path) + " HTTP/1.1\r\nHost: HOST",
		"GET " + r.path[:10] + "/../" + r.path[1:] + " HTTP/1.1\r\nHost: HOST",
		"GET http://HOST" + r.path + " HTTP/1.1\r\nHost: HOST",
		"GET " + r.path + " HTTP/1.1\r\nHost: localhost",
		"GET " + r.path + " HTTP/1.1\r\nHost: evil.example.com",
		"GET " + r.path + " HTTP/1.1\r\nHost: 127.0.0.1",
		"GET " + r.path + " HTTP/1.1",
		"GET " + r.path + " HTTP/1.1\r\nHost: HOST\r\nHost: HOST",
		"GET " + r.path + " HTTP/1.0",
		"HEAD " + r.path + " HTTP/1.1\r\nHost: HOST",
		"POST " + r.path + " HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0",
		"OPTIONS * HTTP/1.1\r\nHost: HOST",
		"nonsense",
	} {
		answer := raw(t, r, request)
		if status := strings.SplitN(answer+"   ", " ", 3)[1]; status != "404" && status != "400" &&
			!strings.HasPrefix(request, "OPTIONS") ||
			strings.Contains(answer, "SigninToken") {
			t.Errorf("%q: %q", request, answer)
		}
	}
	select {
	case err := <-done:
		t.Fatalf("a wrong request used up the redirect: %v", err)
	default:
	}
	answer := raw(t, r, "GET "+r.path+" HTTP/1.1\r\nHost: HOST")
	for _, want := range []string{"HTTP/1.1 302 ", "\r\nLocation: " + signedIn + "\r\n", "\r\nReferrer-Policy: no-referrer\r\n", "\r\nCache-Control: no-store\r\n"} {
		if !strings.Contains(answer, want) {
			t.Errorf("the answer lacks %q: %q", want, answer)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if answer := raw(t, r, "GET "+r.path+" HTTP/1.1\r\nHost: HOST"); strings.Contains(answer, "SigninToken") {
		t.Errorf("the second request: %q", answer)
	}
}

// TestRedirectRace: of many concurrent requests, exactly one is redirected.
func TestRedirectRace(t *testing.T) {
	r, done := listen(t)
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var sent atomic.Int32
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			resp, err := client.Get(r.URL())
			if err != nil {
				return
			}
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusFound {
				sent.Add(1)
			}
		})
	}
	wg.Wait()
	if err := <-done; err != nil || sent.Load() != 1 {
		t.Errorf("%d were redirected, %v", sent.Load(), err)
	}
}

func TestRedirectEnds(t *testing.T) {
	broken := errors.New("it broke")
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	failed := make(chan error, 1)
	failed <- broken
	for name, test := range map[string]struct {
		ctx   context.Context
		ended chan error
		want  error
	}{
		"the browser fails":      {context.Background(), failed, broken},
		"the person gives it up": {gone, nil, context.Canceled},
	} {
		r, err := NewRedirect(secret.New(signedIn))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Wait(test.ctx, test.ended); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
		if answer := raw(t, r, "GET "+r.path+" HTTP/1.1\r\nHost: HOST"); answer != "gone" {
			t.Errorf("%s: it still listens: %q", name, answer)
		}
	}
}
