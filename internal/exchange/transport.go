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

// pool is the connections that trust one set of roots.
type pool struct {
	bundle    os.FileInfo // of the CA bundle as it was read; nil without one
	transport http.RoundTripper
}

// maxBundle is some twenty times what the public web trusts.
const maxBundle = 4 << 20

// transport returns the connections for a CA bundle: the profile's, else
// AWS_CA_BUNDLE, else the system's roots. A bundle that changed counts at once;
// the connections stay while it is the same. Its errors name the file.
func (c *Client) transport(path string) (http.RoundTripper, error) {
	name := "ca_bundle"
	if path == "" {
		path, name = os.Getenv("AWS_CA_BUNDLE"), "AWS_CA_BUNDLE"
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
	old := c.pools[path]
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
	p := &pool{bundle: bundle, transport: c.connect(roots)}
	c.pools[path] = p
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
func (c *Client) newTransport(roots *x509.CertPool) *http.Transport {
	// A slow handshake must leave time for another attempt.
	half := c.timeout / 2
	dialer := &net.Dialer{Timeout: half, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, // it ignores a variable that is no URL
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
			if resp.StatusCode != http.StatusOK {
				return proxyRefused(resp.StatusCode)
			}
			return nil
		},
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    half,
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
