package exchange

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/net/http/httpproxy"

	"broker/internal/bundle"
	"broker/internal/fault"
	"broker/internal/profiles"
)

// way is the key of a pool: two calls share connections only if their ways are equal.
type way struct {
	profiles.Route
	plain    bool   // plain http
	listener string // for plain http: see profiles.Endpoint
}

// pool holds the connections of one way.
type pool struct {
	bundle    os.FileInfo // info of the CA bundle when it was read; nil without a bundle
	transport http.RoundTripper
}

// transport returns the connections for a call. They use the CA bundle of its profile, else that of the route,
// else the system's roots. A changed bundle or route takes effect at once; otherwise the connections are reused.
// Errors name the file.
func (c *Client) transport(w way) (http.RoundTripper, error) {
	name := "ca_bundle"
	if c.route != nil {
		own := w.CABundle
		if w.Route = c.route(); own != "" {
			w.CABundle = own
		} else {
			name = "ca_bundle of [settings]"
		}
	}
	if w.HTTPSProxy != "" {
		// The library would treat an invalid URL as no proxy.
		if err := profiles.CheckProxy(w.HTTPSProxy); err != nil {
			return nil, &proxyError{err}
		}
	}
	path := w.CABundle
	var file os.FileInfo
	if path != "" {
		var err error
		if file, err = os.Stat(path); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.pools[w]
	if old != nil && same(old.bundle, file) {
		return old.transport, nil
	}
	var roots *x509.CertPool
	if path != "" {
		var err error
		if roots, err = bundle.Read(path); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	if old != nil {
		old.closeIdle()
	}
	p := &pool{bundle: file, transport: c.connect(roots, w)}
	c.pools[w] = p
	return p.transport, nil
}

// proxyError means that a proxy cannot be used.
type proxyError struct{ err error }

func (e *proxyError) Error() string {
	return "https_proxy (HTTPS_PROXY of a service unit) " + e.err.Error()
}
func (e *proxyError) Unwrap() error { return e.err }

// mend returns the command that fixes a way; empty if no command does.
func mend(err error) fault.Hint {
	if p := (*proxyError)(nil); errors.As(err, &p) {
		return "broker config set https_proxy URL"
	}
	return profiles.MendTrust(err)
}

// Check returns the fault.Config of a call to this endpoint that cannot be sent because the CA bundle or the proxy
// is unusable.
func (c *Client) Check(endpoint profiles.Endpoint) error {
	if _, err := c.transport(way{Route: profiles.Route{CABundle: endpoint.CABundle}}); err != nil {
		return fault.New(fault.Config, "%w", err).WithHint("%s", mend(err))
	}
	return nil
}

// closeIdle closes the idle connections. Connections in use are closed after their call.
func (p *pool) closeIdle() {
	if t, ok := p.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Close closes the idle connections. It is for a Client that is created for one call.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pools {
		p.closeIdle()
	}
}

// same reports whether a file is unchanged.
func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// newTransport makes connections that verify certificates, have timeouts and cost little while idle. HTTP/2 is
// disabled: STS does not offer it, and MaybeSeen relies on one request per connection.
func (c *Client) newTransport(roots *x509.CertPool, w way) *http.Transport {
	// A slow dial must leave time for another attempt.
	dial := (&net.Dialer{Timeout: c.timeout / 2, KeepAlive: 15 * time.Second}).DialContext
	if w.plain {
		dial = guardListener(dial, w.listener)
	}
	proxy := (&httpproxy.Config{HTTPSProxy: w.HTTPSProxy, NoProxy: w.NoProxy}).ProxyFunc()
	return &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) { return proxy(r.URL) },
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
			if resp.StatusCode != http.StatusOK {
				return proxyRefused(resp.StatusCode)
			}
			return nil
		},
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    c.timeout / 2,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // small answers need none, and it would allow decompression bombs
		MaxIdleConns:           16,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        30 * time.Second,
	}
}

// proxyRefused is the status with which a proxy refused a connection.
type proxyRefused int

func (s proxyRefused) Error() string { return fmt.Sprintf("the proxy answered %d", int(s)) }
