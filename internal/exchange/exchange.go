// Package exchange talks to AWS STS and IAM Identity Center, and makes a few calls to IAM, Organizations, ECR,
// CodeArtifact and the sign-in services of the console. It makes the tokens of EKS and RDS. It signs the calls, checks
// every field of the answers, and turns failures into faults that a person understands. It is the only importer of the
// AWS SDK. It does not read profiles or the environment, does not follow redirects, never sends a code twice, and keeps
// secrets and the SDK's own texts out of its errors.
package exchange

import (
	"context"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// Options configures a Client. The zero value is right for AWS.
type Options struct {
	// STSEndpoint replaces every endpoint, for simulators: an https URL, or plain http on loopback. An invalid one
	// fails each call with fault.Config.
	STSEndpoint string
	// Timeout limits one call including all its attempts; 0 means 10 seconds.
	Timeout time.Duration
	// Offset is AWS's clock minus ours, as another process learned it. A call with a code has only one attempt, so
	// it must be signed with the right time.
	Offset time.Duration
	// Route returns the route to AWS. It is called for each call; nil means a direct route with the system's CAs.
	Route func() profiles.Route
}

// defaultTimeout is how long a person waits before thinking that the program hangs.
const defaultTimeout = 10 * time.Second

// maxAttempts applies to calls without a code; the SDK's own default is three too.
const maxAttempts = 3

// Client makes calls to STS. It is safe for concurrent use; create it with New.
type Client struct {
	endpoint string
	timeout  time.Duration
	offset   atomic.Int64 // time.Duration: AWS's clock minus ours
	answered atomic.Int64 // when the last answer with a time came, in Unix nanoseconds; 0 for never

	// connect makes the connections of a pool; nil roots means the system's.
	connect func(roots *x509.CertPool, w way) http.RoundTripper
	route   func() profiles.Route

	mu    sync.Mutex
	pools map[way]*pool
}

var _ session.Assumer = (*Client)(nil)

// New returns a Client. It opens nothing and reads nothing.
func New(o Options) *Client {
	c := &Client{
		endpoint: o.STSEndpoint,
		timeout:  o.Timeout,
		pools:    make(map[way]*pool),
		route:    o.Route,
	}
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	c.connect = func(roots *x509.CertPool, w way) http.RoundTripper { return c.newTransport(roots, w) }
	c.offset.Store(int64(o.Offset))
	return c
}

// Keys sign a call: the long-lived key of an IAM user (without Token), or a session.
type Keys struct {
	AccessKeyID string
	Secret      secret.String
	Token       secret.String
}

// aws returns the keys in the form of the SDK.
func (k Keys) aws() aws.Credentials {
	return aws.Credentials{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.Secret.Reveal(), SessionToken: k.Token.Reveal()}
}

// Identity says to whom keys belong.
type Identity struct {
	Account string // twelve digits
	ARN     string
	UserID  string // the unique ID; for an assumed role, with the name of the session
}

// ServerOffset returns AWS's clock minus ours, from the Date header of the last answer. It is zero before the
// first answer, and while the clocks agree to within the one second that the header can show.
func (c *Client) ServerOffset() time.Duration { return time.Duration(c.offset.Load()) }

// Clock returns the ServerOffset, and when the answer came that it is from: the zero time before the first answer.
func (c *Client) Clock() (offset time.Duration, at time.Time) {
	if nanos := c.answered.Load(); nanos != 0 {
		at = time.Unix(0, nanos)
	}
	return c.ServerOffset(), at
}

// now returns the time by AWS's clock, as far as it is known.
func (c *Client) now() time.Time { return time.Now().Add(c.ServerOffset()).UTC() }

// Call makes a GetSessionToken, AssumeRole or GetFederationToken call signed with keys. With a code it makes
// exactly one attempt on the wire, because AWS accepts a code once and a second attempt would waste it. Without a
// code it makes up to three attempts, with backoff, for 5xx, throttling, lost connections and a signature refused
// for its time.
//
// Faults: Denied, Failed, CodeRejected (see ErrWrongDevice), ExpiredSession, Throttled, Clock, Network, BadAnswer,
// Config, and LoginNeeded for a call that names a device and comes without a code. See also ErrDurationTooLong,
// ErrUnknownKey and MaybeSeen. A Clock fault means that AWS refused the signature before it looked at the code.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetFederationToken.html
func (c *Client) Call(
	ctx context.Context,
	keys Keys,
	call session.Call,
	code secret.String,
) (session.Credentials, error) {
	q := request{keys: keys, endpoint: call.Endpoint, resource: call.RoleARN, code: code}
	if q.resource == "" {
		q.resource = call.MFASerial
	}
	serial, tokenCode, err := device(call, code)
	if err != nil {
		return session.Credentials{}, err
	}

	switch call.Operation {
	case session.GetSessionToken:
		q.verb, q.opens = "open a session", true
		if call.MFASerial != "" {
			q.verb = "open a session with MFA device " + call.MFASerial
		}
		in := &sts.GetSessionTokenInput{
			DurationSeconds: seconds(call.Duration),
			SerialNumber:    serial,
			TokenCode:       tokenCode,
		}
		var got session.Credentials
		err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
			out, err := a.sts().GetSessionToken(ctx, in)
			if err != nil {
				return err
			}
			got, err = a.credentials(out.Credentials, maxSessionToken)
			return err
		})
		return got, err

	case session.AssumeRole:
		q.verb = "assume " + call.RoleARN
		asked, ok := parseRole(call.RoleARN, call.Endpoint.Compatible)
		if !ok {
			return session.Credentials{}, fault.New(fault.Config, "assume %q: this is not the ARN of a role", call.RoleARN)
		}
		if call.SessionName == "" {
			return session.Credentials{}, fault.New(fault.Internal, "%s: the call has no session name", q.verb)
		}
		in := assumeRoleInput(call, serial, tokenCode)
		var got session.Credentials
		err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
			out, err := a.sts().AssumeRole(ctx, in)
			if err != nil {
				return err
			}
			got, err = a.credentials(out.Credentials, maxRoleSession)
			if err != nil {
				return err
			}
			if got.Subject, err = a.subject(asked, call.RoleARN, out.AssumedRoleUser); err != nil {
				return err
			}
			// An STS other than AWS's may leave it out.
			if id := aws.ToString(out.SourceIdentity); id != "" && call.SourceIdentity != "" && id != call.SourceIdentity {
				return a.badField("SourceIdentity", id)
			}
			return nil
		})
		if err != nil {
			return session.Credentials{}, err
		}
		return got, nil
	}
	if call.Operation == session.GetFederationToken {
		return c.federate(ctx, q, call)
	}
	return session.Credentials{}, fault.New(fault.Internal, "ask STS: unknown call %q", call.Operation)
}

// Identity asks AWS to whom keys belong. AWS answers this for every working key, whatever else the key may do, so
// it verifies a new key. Its faults are those of Call, without CodeRejected.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
func (c *Client) Identity(ctx context.Context, keys Keys, endpoint profiles.Endpoint) (Identity, error) {
	q := request{verb: "identify key " + secret.Tail(keys.AccessKeyID), keys: keys, endpoint: endpoint}
	var got Identity
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		out, err := a.sts().GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err != nil {
			return err
		}
		got, err = a.identity(out)
		return err
	})
	return got, err
}

// request is what all attempts of one call have in common.
type request struct {
	verb     string // begins every message about the call
	keys     Keys
	endpoint profiles.Endpoint
	resource string // an ARN that shows the partition if no region is given
	code     secret.String
	next     secret.String // the code after it, of EnableMFADevice
	service  string        // name in messages; empty means STS
	opens    bool          // the call is GetSessionToken
	// effect is what AWS may have done if the answer is lost, for example "created the key". A call with an effect
	// has one attempt.
	effect string
	// secrets are the other secrets in the request: no message may have them.
	secrets []secret.String
	form    look // of an answer
	// regional says that the call goes to the region that is set, and that there is no other one to try.
	regional bool
	// explain describes the refusals that only this call has, or returns nil. A failed network is worth a retry.
	explain func(*attempt, refusedCall) *fault.Error
}

// ask makes the attempts of one call.
func (c *Client) ask(ctx context.Context, q request, send func(context.Context, *attempt) error) error {
	to, err := c.locate(q.endpoint, q.resource)
	if err == nil && q.regional {
		err = checkRegion(q.endpoint)
	}
	if err != nil {
		return fault.New(fault.Config, "%s: %w", q.verb, err)
	}
	transport, err := c.transport(way{Route: profiles.Route{CABundle: q.endpoint.CABundle}, plain: to.isPlain(),
		listener: to.listener})
	if err != nil {
		return fault.New(fault.Config, "%s: %w", q.verb, err).WithHint("%s", mend(err))
	}
	tries := maxAttempts
	if !q.code.IsZero() || q.effect != "" {
		tries = 1
	}

	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var before *fault.Error
	for try := 1; ; try++ {
		a := c.newAttempt(q, to, transport)
		err := a.run(ctx, try == tries, send)
		if err == nil {
			return nil
		}
		failure, again := a.failure(ctx, err)
		if before != nil && !a.connected.Load() && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return before // it had more time to find the cause
		}
		before = failure
		if !again || try == tries || !pause(ctx, backoff(try, failure.Kind)) {
			return failure
		}
	}
}

// run makes one attempt. An attempt that can be repeated gets half of the remaining time: a dead connection must
// not use up the time of an attempt that would succeed.
func (a *attempt) run(ctx context.Context, last bool, send func(context.Context, *attempt) error) error {
	if end, ok := ctx.Deadline(); ok && !last {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	return send(ctx, a)
}

// backoff returns the wait after a failed attempt: about 0.2 s, then 0.4 s, and four times as long after
// throttling. Half of it is random, so that many clients do not retry at the same moment.
func backoff(try int, kind fault.Kind) time.Duration {
	d := 250 * time.Millisecond << (try - 1)
	if kind == fault.Throttled {
		d *= 4
	}
	return d/2 + rand.N(d/2)
}

// pause waits. It returns false if the wait would exceed the remaining time of the call.
func pause(ctx context.Context, d time.Duration) bool {
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// device checks the MFA parameters of a call: a device and a code must come together, and a code must be six
// digits (AWS counts a malformed code as a wrong one).
func device(call session.Call, code secret.String) (serial, tokenCode *string, err error) {
	switch {
	case call.MFASerial == "" && code.IsZero():
		return nil, nil, nil
	case call.MFASerial == "":
		return nil, nil, fault.New(fault.Internal, "ask STS: there is a code but no MFA device")
	case code.IsZero():
		return nil, nil, fault.New(fault.LoginNeeded, "ask STS: the call needs a code from MFA device %s", call.MFASerial)
	}
	if !sixDigits(code) {
		return nil, nil, errNotSixDigits
	}
	return aws.String(call.MFASerial), aws.String(code.Reveal()), nil
}

func sixDigits(code secret.String) bool {
	digits := code.Reveal()
	return len(digits) == 6 && strings.Trim(digits, "0123456789") == ""
}

var errNotSixDigits = fault.New(fault.CodeRejected, "read the MFA code: it has to be six digits")
