package exchange

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"broker/internal/session"
)

// maxBody is far larger than any answer of STS, which has a few kilobytes.
const maxBody = 1 << 20

// attempt is one request and its response. It is the SDK's HTTP client, signer and credentials for that one
// request, so that it knows everything about it.
type attempt struct {
	client    *Client
	request   request
	to        location
	transport http.RoundTripper
	began     time.Time

	host   string        // host of the request, for messages
	offset time.Duration // what the signature added to our clock

	// connected says that a connection was established: from then on STS may have seen the request, whatever
	// happens next.
	connected atomic.Bool
	// lost is why there is no complete answer; nil if there is one.
	lost   error
	status int
	look   look
	body   []byte
	issued time.Time // the Date header, else our clock, corrected
	dated  bool      // there was a Date header

	handedOut session.Credentials // set once the credentials are checked
	bare      bareError           // a refusal in S3's format; empty if it has another format
}

// bareError is a refusal without the <ErrorResponse> element that STS puts around it: Ceph answers in this form.
type bareError struct {
	XMLName xml.Name `xml:"Error"`
	Code    string
	Message string
}

// look is what a body seems to be at first sight.
type look int

const (
	looksLikeXML look = iota
	looksLikeJSON
	looksEmpty
	looksLikePage
	looksOther
)

var (
	errRedirect = errors.New("redirect")
	errSwitched = errors.New("switched protocols")
	errTooBig   = errors.New("answer too large")
)

func (c *Client) newAttempt(q request, to location, transport http.RoundTripper) *attempt {
	return &attempt{client: c, request: q, to: to, transport: transport, began: time.Now()}
}

// sts returns the SDK's STS client for this one request.
func (a *attempt) sts() *sts.Client {
	o := a.to.options()
	o.HTTPClient, o.HTTPSignerV4, o.Credentials = a, a, a
	return sts.New(o)
}

// Retrieve implements aws.CredentialsProvider.
func (a *attempt) Retrieve(context.Context) (aws.Credentials, error) {
	return a.request.keys.aws(), nil
}

// service returns the name of the service for messages.
func (a *attempt) service() string {
	if a.request.service == "" {
		return "STS"
	}
	return a.request.service
}

// SignHTTP implements sts.HTTPSignerV4, the SDK's documented hook for a custom signer: it is the SDK's signer with
// the time of AWS's clock instead of ours. The SDK's own correction needs a refused attempt first, and a call with
// a code has only one attempt. Each request gets a new signer, because a signer caches the signing keys that it
// derives.
func (a *attempt) SignHTTP(
	ctx context.Context,
	keys aws.Credentials,
	r *http.Request,
	payloadHash, service, region string,
	_ time.Time,
	opts ...func(*v4.SignerOptions),
) error {
	a.offset = a.client.ServerOffset()
	return v4.NewSigner().SignHTTP(ctx, keys, r, payloadHash, service, region, time.Now().Add(a.offset).UTC(), opts...)
}

// Do implements sts.HTTPClient. It makes one request without redirects, returns the complete body or an error, and
// reads the server's clock.
func (a *attempt) Do(r *http.Request) (*http.Response, error) {
	a.host = r.URL.Host
	resp, err := a.roundTrip(r)
	a.lost = err
	return resp, err
}

func (a *attempt) roundTrip(r *http.Request) (*http.Response, error) {
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { a.connected.Store(true) },
	})
	r = r.Clone(ctx)
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		// With GetBody, net/http can use another connection if the idle one was closed before a byte of the
		// request went out.
		r.ContentLength = int64(len(body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body, _ = r.GetBody()
	}

	sent := time.Now()
	resp, err := a.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	a.status = resp.StatusCode
	a.readClock(resp.Header.Get("Date"), sent)

	switch {
	case resp.StatusCode < 200:
		// The body is the raw connection, which no context ends, so do not read it.
		return nil, errSwitched
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, errRedirect
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxBody {
		return nil, errTooBig
	}
	a.look, a.body = lookOf(body), body
	if resp.StatusCode >= 400 && a.look == looksLikeXML && xml.Unmarshal(body, &a.bare) != nil {
		a.bare = bareError{}
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// readClock derives the offset from a Date header. The header has whole seconds, and the answer took some time, so
// the true offset is between date − now and date + 1s − sent. If that range contains zero, the clocks agree.
func (a *attempt) readClock(header string, sent time.Time) {
	now := time.Now()
	date, err := http.ParseTime(header)
	if err != nil {
		a.issued = a.client.now()
		return
	}
	a.issued, a.dated = date.UTC(), true
	a.client.answered.Store(now.UnixNano())
	least, most := date.Sub(now), date.Add(time.Second).Sub(sent)
	if least <= 0 && most >= 0 {
		a.client.offset.Store(0)
		return
	}
	a.client.offset.Store(int64(least + (most-least)/2))
}

func lookOf(body []byte) look {
	head := bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	head = bytes.ToLower(head[:min(len(head), 256)])
	switch {
	case len(head) == 0:
		return looksEmpty
	case bytes.HasPrefix(head, []byte("<!doctype html")), bytes.Contains(head, []byte("<html")):
		return looksLikePage
	case head[0] == '<':
		return looksLikeXML
	case head[0] == '{':
		return looksLikeJSON
	}
	return looksOther
}
