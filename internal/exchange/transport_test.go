//go:build unix

package exchange

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// authority is a CA for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-100 * time.Hour), NotAfter: time.Now().Add(100 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	ca := &authority{cert: cert, key: key, file: filepath.Join(t.TempDir(), "ca.pem")}
	if err := os.WriteFile(ca.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return ca
}

// sign makes a server certificate for a name or an address.
func (ca *authority) sign(t *testing.T, name string, from, to time.Duration) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		leaf.IPAddresses = []net.IP{ip}
	} else {
		leaf.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serveTLS starts an https server that counts requests.
func serveTLS(t *testing.T, config *tls.Config) *fake {
	f := &fake{}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.keep(r)
		good(w, r)
	}))
	f.TLS = config
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.StartTLS()
	t.Cleanup(f.Close)
	return f
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t), newAuthority(t)
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name   string
		config *tls.Config
		text   string // empty if it succeeds
	}{
		{"right", &tls.Config{Certificates: []tls.Certificate{ca.sign(t, "127.0.0.1", -day, day)}}, ""},
		{"self-signed", &tls.Config{Certificates: []tls.Certificate{stranger.sign(t, "127.0.0.1", -day, day)}},
			"its certificate is signed by an authority that this machine does not know"},
		{"wrong host", &tls.Config{Certificates: []tls.Certificate{ca.sign(t, "other.example", -day, day)}}, "its certificate is for another host, other.example"},
		{"expired", &tls.Config{Certificates: []tls.Certificate{ca.sign(t, "127.0.0.1", -3*day, -2*day)}}, "by the clock of this machine its certificate is expired or not yet valid"},
		{"not yet valid", &tls.Config{Certificates: []tls.Certificate{ca.sign(t, "127.0.0.1", day, 2*day)}}, "by the clock of this machine"},
		{"TLS 1.1", &tls.Config{Certificates: []tls.Certificate{ca.sign(t, "127.0.0.1", -day, day)},
			MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "TLS handshake"},
		{"a client certificate wanted", &tls.Config{Certificates: []tls.Certificate{ca.sign(t, "127.0.0.1", -day,
			day)}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, "TLS handshake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := serveTLS(t, tt.config)
			c := client(f)
			call := openSession()
			call.Endpoint.CABundle = ca.file
			_, err := c.Call(background(t), userKeys(), call, secret.New(aCode))
			if tt.text == "" {
				if err != nil {
					t.Fatal(err)
				}
				if v := f.count(); v != 1 {
					t.Errorf("%d requests", v)
				}
				return
			}
			wantFault(t, err, fault.Network, tt.text)
			if MaybeSeen(err) {
				t.Error("there was no connection, but MaybeSeen is true")
			}
			if f.count() != 0 {
				t.Error("the request was sent")
			}
		})
	}

	t.Run("plain http where https should be", func(t *testing.T) {
		f := serve(t, good)
		c := New(Options{STSEndpoint: strings.Replace(f.URL, "http:", "https:", 1)})
		_, err := c.Assume(background(t), aSession(), assumeRole())
		wantFault(t, err, fault.Network, "does not speak TLS")
	})
}

func TestBundles(t *testing.T) {
	const day = 24 * time.Hour
	ca := newAuthority(t)
	f := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.sign(t, "127.0.0.1", -day, day)}})
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, err := os.ReadFile(ca.file)
	if err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	call := func(c *Client, bundle string) error {
		_, err := c.Identity(background(t), userKeys(), profiles.Endpoint{CABundle: bundle})
		if fault.Is(err, fault.BadAnswer) { // the fake cannot answer Identity, but TLS worked
			return nil
		}
		return err
	}

	for _, path := range []string{
		filepath.Join(dir, "missing.pem"), dir, fifo,
		write("empty.pem", ""), write("text.pem", "no certificate"), write("key.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		write("huge.pem", strings.Repeat("x", 4<<20+1)),
	} {
		wantFault(t, call(client(f), path), fault.Config, "read ca_bundle: ", path)
		c := client(f)
		c.route = func() profiles.Route { return profiles.Route{CABundle: path} }
		wantFault(t, call(c, ""), fault.Config, "read ca_bundle of [settings]: ", path)
	}

	// If others could change a bundle, they could choose whom we trust.
	open := filepath.Join(t.TempDir(), "open")
	for _, err := range []error{
		os.Mkdir(open, 0o755), os.WriteFile(filepath.Join(open, "ca.pem"), good, 0o600),
		os.WriteFile(filepath.Join(dir, "0666.pem"), good, 0o600), os.Chmod(filepath.Join(dir, "0666.pem"), 0o666),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := call(client(f), filepath.Join(open, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	wantFault(t, call(client(f), filepath.Join(dir, "0666.pem")), fault.Config, "can be written by others")
	wantFault(t, call(client(f), filepath.Join(open, "ca.pem")), fault.Config, open+" can be written by others")

	// The environment of a shell is not trusted.
	t.Setenv("AWS_CA_BUNDLE", ca.file)
	t.Setenv("SSL_CERT_FILE", "")
	c := client(f)
	wantFault(t, call(c, ""), fault.Network, "signed by an authority that this machine does not know")
	if hint := fault.Of(call(c, "")).Hint; hint != "broker config set ca_bundle FILE" {
		t.Errorf("the hint is %q", hint)
	}
	if err := call(c, ca.file); err != nil {
		t.Errorf("ca_bundle: %v", err)
	}
	c.route = func() profiles.Route { return profiles.Route{CABundle: ca.file} }
	if err := call(c, ""); err != nil {
		t.Errorf("the ca_bundle of the settings: %v", err)
	}
	stranger, err := os.ReadFile(newAuthority(t).file)
	if err != nil {
		t.Fatal(err)
	}
	other := write("other.pem", string(stranger))
	// the profile's wins
	wantFault(t, call(c, other), fault.Network, "signed by an authority that this machine does not know")

	// A repaired bundle takes effect at once, and so does a broken one.
	write("other.pem", string(stranger)+string(good))
	if err := call(c, other); err != nil {
		t.Errorf("a changed bundle: %v", err)
	}
	write("other.pem", "")
	wantFault(t, call(c, other), fault.Config, other)
}

func TestAnswersThatNeverEnd(t *testing.T) {
	t.Parallel()
	over := make(chan struct{}) // the end of the test, when the last of these servers stops
	t.Cleanup(func() { close(over) })
	type counter struct {
		http.ResponseWriter
		sent *atomic.Int64
	}
	flood := func(piece string, megabytes int64) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			sent := w.(counter).sent
			for sent.Load() < megabytes<<20 {
				n, err := io.WriteString(w, piece)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		}
	}
	hijack := func(w http.ResponseWriter) net.Conn {
		conn, _, _ := w.(counter).ResponseWriter.(http.Hijacker).Hijack()
		return conn
	}
	for _, tt := range []struct {
		name string
		do   func(http.ResponseWriter, *http.Request)
		kind fault.Kind
		text string
	}{
		{"50 MB", flood(strings.Repeat("x", 64<<10), 50), fault.BadAnswer, "larger than 1 MiB"},
		{"endless XML", flood("<AssumeRoleResponse>"+strings.Repeat("<Credentials>", 1000), 1<<30), fault.BadAnswer, "larger than 1 MiB"},
		{"endless refusal", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(403)
			flood(strings.Repeat("x", 64<<10), 1<<30)(w, r)
		}, fault.BadAnswer, "larger than 1 MiB"},
		{"endless headers", func(w http.ResponseWriter, r *http.Request) {
			conn := hijack(w)
			defer conn.Close()
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := fmt.Fprintf(conn, "X-%s: y\r\n", strings.Repeat("a", 1000)); err != nil {
					return
				}
			}
		}, fault.BadAnswer, "does not answer in HTTP"},
		{"endless 1xx", func(w http.ResponseWriter, r *http.Request) {
			conn := hijack(w)
			defer conn.Close()
			for {
				if _, err := fmt.Fprint(conn, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"); err != nil {
					return
				}
			}
		}, fault.BadAnswer, "does not answer in HTTP"},
		{"an answer cut short", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5000")
			io.WriteString(w, "<AssumeRoleResponse>")
		}, fault.Network, "broke before the answer was complete"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", 307) }, fault.BadAnswer, "answered with a redirect (307)"},
		{"redirect without a place", say(302, ""), fault.BadAnswer, "answered with a redirect (302)"},
		{"not modified", say(304, ""), fault.BadAnswer, "answered with a redirect (304)"},
		{"another protocol", func(w http.ResponseWriter, r *http.Request) {
			conn := hijack(w)
			fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			<-over // a body that no context ends
			conn.Close()
		}, fault.BadAnswer, "answered 101"},
		{"slow bytes", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, "<")
				w.(counter).ResponseWriter.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		}, fault.Network, "no complete answer from"},
		{"slow headers", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, fault.Network, "no complete answer from"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			f := serve(t, func(w http.ResponseWriter, r *http.Request) { tt.do(counter{w, &sent}, r) })
			c := client(f)
			if tt.kind == fault.Network { // the others fail long before the timeout
				c = New(Options{STSEndpoint: f.URL, Timeout: 3 * time.Second})
			}
			_, err := c.Call(background(t), userKeys(), openSession(), secret.New(aCode))
			wantFault(t, err, tt.kind, tt.text, "AWS may have taken the code")
			if f.count() != 1 {
				t.Errorf("%d requests, want 1", f.count())
			}
			if !MaybeSeen(err) {
				t.Error("MaybeSeen is false")
			}
			if n := sent.Load(); n > 16<<20 {
				t.Errorf("%d MiB were read", n>>20)
			}
		})
	}
}

// TestHowLongItTakes checks the total time of all attempts; here the servers hang forever.
func TestTimes(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

	t.Run("all attempts together", func(t *testing.T) {
		t.Parallel()
		f := serve(t, hang)
		_, err := New(Options{STSEndpoint: f.URL, Timeout: 3 * time.Second}).Assume(background(t), aSession(), assumeRole())
		wantFault(t, err, fault.Network, "no complete answer from")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error("the error is not context.DeadlineExceeded")
		}
	})
	t.Run("one attempt hangs, the next works", func(t *testing.T) {
		t.Parallel()
		var n atomic.Int64
		f := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				hang(w, r)
			} else {
				good(w, r)
			}
		})
		if _, err := New(Options{STSEndpoint: f.URL, Timeout: 8 * time.Second}).Assume(background(t), aSession(),
			assumeRole()); err != nil {
			t.Error(err)
		}
	})
	t.Run("the caller leaves", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(background(t))
		f := serve(t, func(w http.ResponseWriter, r *http.Request) {
			cancel()
			hang(w, r)
		})
		_, err := New(Options{STSEndpoint: f.URL, Timeout: time.Hour}).Assume(ctx, aSession(), assumeRole())
		wantFault(t, err, fault.Network, "canceled before 127.0.0.1")
		if !errors.Is(err, context.Canceled) {
			t.Error("the error is not context.Canceled")
		}
	})
	t.Run("the caller has left", func(t *testing.T) {
		t.Parallel()
		f := serve(t, good)
		ctx, cancel := context.WithCancel(background(t))
		cancel()
		_, err := client(f).Assume(ctx, aSession(), assumeRole())
		wantFault(t, err, fault.Network, "canceled before STS answered")
		if f.count() != 0 || MaybeSeen(err) {
			t.Error("something was sent")
		}
	})
	t.Run("the caller's deadline is nearer", func(t *testing.T) {
		t.Parallel()
		f := serve(t, hang)
		ctx, cancel := context.WithTimeout(background(t), 200*time.Millisecond)
		defer cancel()
		_, err := New(Options{STSEndpoint: f.URL, Timeout: time.Hour}).Assume(ctx, aSession(), assumeRole())
		wantFault(t, err, fault.Network)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error("the error is not context.DeadlineExceeded")
		}
	})
	t.Run("nobody speaks TLS", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, err = New(
			Options{STSEndpoint: "https://" + l.Addr().String(), Timeout: 500 * time.Millisecond},
		).Assume(background(t), aSession(), assumeRole())
		wantFault(t, err, fault.Network, "no connection within")
		if MaybeSeen(err) {
			t.Error("MaybeSeen is true")
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		_, err = New(
			Options{STSEndpoint: "https://" + l.Addr().String()},
		).Call(background(t), userKeys(), openSession(), secret.New(aCode))
		wantFault(t, err, fault.Network, "cannot reach 127.0.0.1", "the connection was refused")
		if MaybeSeen(err) {
			t.Error("MaybeSeen is true")
		}
	})
}

func TestConnections(t *testing.T) {
	var opened atomic.Int64
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	f := &fake{}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.keep(r)
		good(w, r)
	}))
	f.Config.ConnState = func(c net.Conn, s http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch s {
		case http.StateNew:
			opened.Add(1)
			open[c] = true
		case http.StateClosed:
			delete(open, c)
		}
	}
	f.Start()
	t.Cleanup(f.Close)

	// Also count the client's ends, including dead ones that it has not noticed.
	var ours atomic.Int64
	c := client(f)
	c.connect = func(roots *x509.CertPool, w way) http.RoundTripper {
		transport := c.newTransport(roots, w)
		dial := transport.DialContext
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			ours.Add(1)
			return &counted{Conn: conn, left: func() { ours.Add(-1) }}, nil
		}
		return transport
	}
	for range 10 {
		if _, err := c.Assume(background(t), aSession(), assumeRole()); err != nil {
			t.Fatal(err)
		}
	}
	if opened.Load() != 1 {
		t.Errorf("ten calls opened %d connections, want 1", opened.Load())
	}

	// Fifty concurrent roles may open fifty connections; few stay when idle.
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := c.Assume(background(t), aSession(), assumeRole()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	deadline := time.Now().Add(patience)
	for {
		mu.Lock()
		n := len(open)
		mu.Unlock()
		if n <= 8 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections stay", n)
		}
		time.Sleep(10 * time.Millisecond)
	}

	// If the server closed an idle connection, a call with a code still succeeds.
	f.CloseClientConnections()
	for deadline := time.Now().Add(patience); ours.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d dead connections are kept", ours.Load())
		}
	}
	if _, err := c.Call(background(t), userKeys(), openSession(), secret.New(aCode)); err != nil {
		t.Errorf("after idle connections died: %v", err)
	}
}

// counted is a connection that reports when it is closed.
type counted struct {
	net.Conn
	once sync.Once
	left func()
}

func (c *counted) Close() error {
	c.once.Do(c.left)
	return c.Conn.Close()
}

// tunnel is a proxy that connects every CONNECT to one server, whatever its name.
func tunnel(t *testing.T, to string, status int) (proxyURL string, asked func() []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var mu sync.Mutex
	var hosts []string
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		hosts = append(hosts, r.Method+" "+r.Host)
		mu.Unlock()
		if status != 200 {
			http.Error(w, "no", status)
			return
		}
		far, err := net.Dial("tcp", to)
		if err != nil {
			http.Error(w, "no", 502)
			return
		}
		defer far.Close()
		near, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer near.Close()
		fmt.Fprint(near, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() {
			io.Copy(far, near)
			far.Close()
		}()
		io.Copy(near, far)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return "http://" + l.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), hosts...)
	}
}

// TestProxies: the proxy of the route at the time of the call is used; the environment has no effect.
func TestProxies(t *testing.T) {
	const day = 24 * time.Hour
	ca := newAuthority(t)
	f := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.sign(t, "sts.eu-west-1.amazonaws.com", -day, day)}})
	proxy, asked := tunnel(t, f.Listener.Addr().String(), 200)
	closed, askedClosed := tunnel(t, "", 407)
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	var route profiles.Route
	c := New(Options{Timeout: patience, Route: func() profiles.Route { return route }})
	ask := func(r profiles.Route) error {
		route = r
		call := openSession()
		call.Endpoint = profiles.Endpoint{Region: "eu-west-1", CABundle: ca.file}
		_, err := c.Call(background(t), userKeys(), call, secret.New(aCode))
		return err
	}
	if err := ask(profiles.Route{HTTPSProxy: proxy}); err != nil {
		t.Errorf("through the proxy: %v", err)
	}
	if got := asked(); len(got) != 1 || got[0] != "CONNECT sts.eu-west-1.amazonaws.com:443" {
		t.Errorf("the proxy was asked %q", got)
	}
	if f.count() != 1 {
		t.Errorf("%d requests, want 1", f.count())
	}
	wantFault(t, ask(profiles.Route{HTTPSProxy: closed}), fault.Network,
		"the proxy "+closed+" (https_proxy) refuses to connect to sts.eu-west-1.amazonaws.com: it answered 407")
	if got := askedClosed(); len(got) != 1 {
		t.Errorf("a proxy that refuses was asked %d times", len(got))
	}
	wantFault(t, ask(profiles.Route{HTTPSProxy: "http://me:pass@127.0.0.1:1"}), fault.Network,
		"cannot reach the proxy http://127.0.0.1:1 (https_proxy) for sts.eu-west-1.amazonaws.com: the connection was refused")
	// Without a proxy the call would leave the machine, so check only the decision.
	for name, route := range map[string]profiles.Route{"no_proxy": {HTTPSProxy: proxy, NoProxy: ".amazonaws.com"}, "none": {}} {
		to := &url.URL{Scheme: "https", Host: "sts.eu-west-1.amazonaws.com"}
		u, err := c.newTransport(nil, way{Route: route}).Proxy(&http.Request{URL: to})
		if u != nil || err != nil {
			t.Errorf("%s: %v, %v", name, u, err)
		}
	}
}

// TestHintOfBundle: if a CA bundle may make a certificate valid, the hint is to set one.
func TestHintOfBundle(t *testing.T) {
	const bundle = "broker config set ca_bundle FILE"
	for _, tt := range []struct {
		err  error
		hint fault.Hint
	}{
		{x509.UnknownAuthorityError{}, bundle},
		{x509.SystemRootsError{}, bundle},
		{x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}, bundle},
		{&tls.CertificateVerificationError{Err: errors.New("certificate is not trusted")}, bundle}, // as on macOS
		{x509.CertificateInvalidError{Reason: x509.Expired}, ""},
		{x509.HostnameError{}, ""},
	} {
		if got, _ := (&attempt{client: new(Client)}).failureOfTransport(t.Context(), tt.err); got.Hint != tt.hint {
			t.Errorf("%T: hint %q, want %q", tt.err, got.Hint, tt.hint)
		}
	}
}

// TestWrongProxy: an invalid proxy is an error that names the setting, and never means a direct route.
func TestWrongProxy(t *testing.T) {
	for _, proxy := range []string{"http://paul:secret#x@proxy.example.com", "http://secret#x@proxy", "proxy:3128",
		"http://proxy:3128/pac", "ftp://proxy", "http://proxy:port"} {
		sent := false
		c := New(Options{Route: func() profiles.Route { return profiles.Route{HTTPSProxy: proxy} }})
		c.connect = func(*x509.CertPool, way) http.RoundTripper {
			return roundTrip(func(*http.Request) (*http.Response, error) { sent = true; return nil, io.EOF })
		}
		for _, err := range []error{c.Check(profiles.Endpoint{}), func() error {
			_, err := c.Identity(background(t), userKeys(), profiles.Endpoint{})
			return err
		}()} {
			wantFault(t, err, fault.Config, "https_proxy (HTTPS_PROXY of a service unit) ")
			f := fault.Of(err)
			if sent || strings.Contains(f.Message, "secret") || f.Hint != "broker config set https_proxy URL" {
				t.Errorf("%s: sent %t, %v, hint %s", proxy, sent, err, f.Hint)
			}
		}
	}
}
