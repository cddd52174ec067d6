package exchange

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// pool is the connections that trust one set of roots.
type pool struct {
	sum       [sha256.Size]byte // of the CA bundle as it was read
	transport http.RoundTripper
}

// maxBundle is some twenty times what the public web trusts.
const maxBundle = 4 << 20

// transport returns the connections for a CA bundle: the profile's, else
// AWS_CA_BUNDLE, else the system's roots. The file is read again for each call,
// so that a changed one counts at once; the connections stay while it is the same.
func (c *Client) transport(bundle string) (http.RoundTripper, error) {
	name := "ca_bundle"
	if bundle == "" {
		bundle, name = os.Getenv("AWS_CA_BUNDLE"), "AWS_CA_BUNDLE"
	}
	var pem []byte
	if bundle != "" {
		var err error
		if pem, err = readBundle(bundle); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	sum := sha256.Sum256(pem)
	old := c.pools[bundle]
	if old != nil && old.sum == sum {
		return old.transport, nil
	}
	var roots *x509.CertPool
	if bundle != "" {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read %s: %s holds no certificate in PEM form", name, bundle)
		}
	}
	if old != nil {
		// Those in use end with their call.
		if t, ok := old.transport.(interface{ CloseIdleConnections() }); ok {
			t.CloseIdleConnections()
		}
	}
	p := &pool{sum: sum, transport: c.connect(roots)}
	c.pools[bundle] = p
	return p.transport, nil
}

// readBundle reads a regular file; its errors name it.
func readBundle(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	// A fifo would hold the call for ever.
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBundle+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxBundle {
		return nil, fmt.Errorf("%s has more than 4 MiB", path)
	}
	return b, nil
}

// newTransport makes connections that verify, wait a bounded time and rest
// cheaply. HTTP/2 stays off: STS does not offer it, and one request on one
// connection is what MaybeSeen reasons about.
func (c *Client) newTransport(roots *x509.CertPool) *http.Transport {
	// A slow handshake must leave time for another attempt.
	half := c.timeout / 2
	dialer := &net.Dialer{Timeout: half, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			u, err := c.proxy(r)
			if err != nil {
				return nil, errProxyURL // net/http's own text holds the proxy's password
			}
			return u, nil
		},
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

var errProxyURL = errors.New("the proxy of the environment is not a URL")

// proxyRefused is the status with which a proxy refused to connect us.
type proxyRefused int

func (s proxyRefused) Error() string { return fmt.Sprintf("the proxy answered %d", int(s)) }
