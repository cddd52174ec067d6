package exchange

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"broker/internal/system"
)

// way is what connections have in common: two calls share them only if it is the same.
type way struct {
	bundle   string // path of a CA bundle; "" is the system's roots
	plain    bool   // plain http
	listener string // of plain http: see profiles.Endpoint
}

// pool is the connections of one way.
type pool struct {
	bundle    os.FileInfo // of the CA bundle as it was read; nil without one
	transport http.RoundTripper
}

// maxBundle is some twenty times what the public web trusts.
const maxBundle = 4 << 20

// transport returns the connections for a CA bundle: the profile's, else
// AWS_CA_BUNDLE, else the system's roots. A bundle that changed counts at once;
// the connections stay while it is the same. Its errors name the file.
func (c *Client) transport(w way) (http.RoundTripper, error) {
	path, name := w.bundle, "ca_bundle"
	if path == "" {
		path, name = os.Getenv("AWS_CA_BUNDLE"), "AWS_CA_BUNDLE"
		w.bundle = path
	}
	var bundle os.FileInfo
	if path != "" {
		var err error
		if bundle, err = os.Stat(path); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.pools[w]
	if old != nil && same(old.bundle, bundle) {
		return old.transport, nil
	}
	var roots *x509.CertPool
	if path != "" {
		var err error
		if roots, err = readRoots(path); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	if old != nil {
		// Those in use end with their call.
		if t, ok := old.transport.(interface{ CloseIdleConnections() }); ok {
			t.CloseIdleConnections()
		}
	}
	dialer := &net.Dialer{Timeout: c.timeout / 2, KeepAlive: 15 * time.Second} // a slow one must leave time for another attempt
	dial := dialer.DialContext
	if w.plain {
		dial = guardListener(dial, w.listener)
	}
	p := &pool{bundle: bundle, transport: c.connect(roots, dial)}
	c.pools[w] = p
	return p.transport, nil
}

// same reports whether a file is as it was.
func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func readRoots(path string) (*x509.CertPool, error) {
	f, _, err := system.OpenRegular(path, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	pem, err := io.ReadAll(io.LimitReader(f, maxBundle+1))
	if err != nil {
		return nil, err
	}
	if len(pem) > maxBundle {
		return nil, fmt.Errorf("%s has more than 4 MiB", path)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", path)
	}
	return roots, nil
}

// newTransport makes connections that verify, wait a bounded time and rest
// cheaply. HTTP/2 stays off: STS does not offer it, and one request on one
// connection is what MaybeSeen reasons about.
func (c *Client) newTransport(roots *x509.CertPool, dial dialFunc) *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, // it ignores a variable that is no URL
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
		DisableCompression:     true, // a small answer has no use for it, a bomb has
		MaxIdleConns:           16,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        30 * time.Second,
	}
}

// proxyRefused is the status with which a proxy refused to connect us.
type proxyRefused int

func (s proxyRefused) Error() string { return fmt.Sprintf("the proxy answered %d", int(s)) }
