package exchange

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"

	"broker/internal/fault"
	"broker/internal/session"
)

// What a caller can tell apart within one kind of fault.
var (
	ErrDurationTooLong = session.ErrDurationTooLong
	ErrUnknownKey      = session.ErrUnknownKey
	ErrWrongDevice     = session.ErrWrongDevice
	ErrTagsRefused     = session.ErrTagsRefused

	// ErrNotThere means that IAM knows no such key, device or user (fault.Failed).
	ErrNotThere = errors.New("no such entity")
	// ErrExists means that the name is taken, or the device is enabled already (fault.Failed).
	ErrExists = errors.New("entity already exists")
	// ErrEnabled means that a device cannot be deleted, because a user has it (fault.Failed).
	ErrEnabled = errors.New("device is enabled")
	// ErrLimit means that the user or account may have no more of these (fault.Failed).
	ErrLimit = errors.New("limit exceeded")
)

// noSuchEntity is IAM's code for a missing entity.
const noSuchEntity = "NoSuchEntity"

// codesOfIAM are the codes of IAM that a caller can tell apart.
// https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
var codesOfIAM = map[string]error{
	noSuchEntity:          ErrNotThere,
	"EntityAlreadyExists": ErrExists,
	"DeleteConflict":      ErrEnabled,
	"LimitExceeded":       ErrLimit,
}

// MaybeSeen reports whether STS may have seen the request that failed with err: a connection was established, so a
// code in the request counts as used. It is true for refusals too. It is false if nothing left this machine, and
// for errors of other packages. The information does not cross process boundaries.
func MaybeSeen(err error) bool {
	var c *cause
	return errors.As(err, &c) && c.seen
}

// cause is the innermost error of every fault of an attempt. It replaces the errors of net/http and of the SDK,
// whose texts contain what servers sent.
type cause struct {
	text string
	seen bool
	is   error // a sentinel or a context's error; may be nil
}

func (c *cause) Error() string { return c.text }
func (c *cause) Unwrap() error { return c.is }

// fault makes the one-line message for the user. Arguments that came from the network must already be cleaned by
// words.
func (a *attempt) fault(kind fault.Kind, is error, format string, args ...any) *fault.Error {
	message := a.request.verb + ": " + fmt.Sprintf(format, args...)
	seen := a.connected.Load()
	switch lost := seen && (kind == fault.Network || kind == fault.BadAnswer); {
	case lost && a.request.effect != "":
		message += "; AWS may have " + a.request.effect
	case lost && !a.request.code.IsZero():
		message += "; AWS may have taken the code"
	}
	return &fault.Error{Kind: kind, Message: message, Err: &cause{text: message, seen: seen, is: is}}
}

// failure turns the error of an attempt into a fault, and reports whether a retry may succeed.
func (a *attempt) failure(ctx context.Context, err error) (f *fault.Error, again bool) {
	if errors.As(err, &f) {
		return f, false
	}
	if a.lost != nil {
		return a.failureOfTransport(ctx, a.lost)
	}
	if a.status == 0 {
		if ctx.Err() != nil {
			return a.failureOfTransport(ctx, ctx.Err())
		}
		// The SDK refused to send it: its endpoint rules have no such endpoint.
		return a.fault(fault.Config, nil, "%s", a.words(innermost(err))), false
	}
	refused := a.refusal(err)
	if a.request.explain != nil && a.look == a.request.form {
		if f := a.request.explain(a, refused); f != nil {
			return f, f.Kind == fault.Network
		}
	}
	if refused.code != "" {
		return a.failureOfCall(refused.code, refused.message)
	}
	switch {
	case a.status == http.StatusTooManyRequests:
		return a.fault(fault.Throttled, nil, "%s asks to slow down", a.host), true
	case a.status >= 500:
		return a.fault(fault.Network, nil, "%s failed: it answered %d", a.host, a.status), true
	}
	return a.noAnswer(), false
}

// refusedCall is what a service says about a call that it refused.
type refusedCall struct {
	code    string // empty if the answer has none
	message string
	// The others are only of services that answer in the form of OAuth.
	oauth  string // the field "error"
	reason string
	region string
}

// refusal reads a refusal. The SDK leaves out fields of OAuth, and takes an answer without a type for an unknown one.
func (a *attempt) refusal(err error) (r refusedCall) {
	if e := smithy.APIError(nil); errors.As(err, &e) && e.ErrorCode() != "UnknownError" {
		r.code, r.message = e.ErrorCode(), e.ErrorMessage()
	} else {
		r.code, r.message = a.bare.Code, a.bare.Message
	}
	if a.request.explain == nil || a.look != looksLikeJSON {
		return r
	}
	var body struct {
		Error       string
		Description string `json:"error_description"`
		Message     string
		Reason      string
		Region      string
	}
	if json.Unmarshal(a.body, &body) == nil {
		r.code, r.message = cmp.Or(r.code, body.Error), cmp.Or(body.Description, body.Message, r.message)
		r.oauth, r.reason, r.region = body.Error, body.Reason, body.Region
	}
	return r
}

// noAnswer describes a response that is not an answer of the service.
func (a *attempt) noAnswer() *fault.Error {
	switch a.look {
	case looksEmpty:
		return a.badAnswer("%s answered %d with nothing", a.host, a.status)
	case looksLikePage:
		return a.badAnswer("%s answered %d with a web page: a proxy or a captive portal is in the way", a.host, a.status)
	}
	return a.badAnswer("%s answered %d, but that is not an answer of %s", a.host, a.status, a.service())
}

// innermost returns the text of the innermost wrapped error, without the SDK's prefix.
func innermost(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return strings.TrimPrefix(err.Error(), "endpoint rule error, ")
		}
		err = inner
	}
}

// clockCodes are the error codes for a signature with the wrong time. Sources:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html and
// https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
var clockCodes = map[string]bool{
	"RequestExpired":       true,
	"RequestTimeTooSkewed": true,
	"RequestInTheFuture":   true,
}

// skewed is the clock offset from which a retry with the corrected time makes sense. AWS accepts 5 to 15 minutes.
const skewed = 2 * time.Minute

// failureOfCall describes a refusal by AWS. It recognizes texts of AWS that appear in public issues; AWS documents
// only the codes.
func (a *attempt) failureOfCall(code, message string) (_ *fault.Error, again bool) {
	if message == "" || message == "UnknownError" {
		message = code
	}
	words, lower := a.words(message), strings.ToLower(message)
	_, throttled := retry.DefaultThrottleErrorCodes[code]

	switch {
	case clockCodes[code], isSignature(code) && (strings.Contains(lower, "signature expired") || strings.Contains(lower, "not yet current")):
		off := a.client.ServerOffset()
		wrong := (off - a.offset).Abs() > skewed
		if !a.dated || off.Abs() <= skewed {
			return a.fault(fault.Clock, nil, "AWS refused the time of the request: %s", words), wrong
		}
		side := "behind"
		if off < 0 {
			side = "ahead of"
		}
		return a.fault(fault.Clock, nil, "the clock of this machine is %s %s AWS's: %s", off.Abs().Round(time.Second), side, words), wrong

	case throttled, a.status == http.StatusTooManyRequests:
		return a.fault(fault.Throttled, nil, "AWS asks to slow down: %s", words), true

	case a.status >= 500:
		return a.fault(fault.Network, nil, "%s failed: it answered %d: %s", a.host, a.status, words), true

	case code == "ExpiredToken", code == "ExpiredTokenException":
		return a.fault(fault.ExpiredSession, nil, "AWS says that the session has expired: %s", words), false

	case strings.Contains(lower, "invalid mfa one time pass code"):
		return a.fault(fault.CodeRejected, nil, "AWS rejected the MFA code, it is wrong or was used before: %s", words), false

	case code == "InvalidAuthenticationCode":
		return a.fault(fault.CodeRejected, nil, "AWS rejected the MFA codes, they are wrong, not consecutive or used before: %s",
			words), false

	case strings.Contains(lower, "unable to validate mfa code"):
		return a.fault(fault.CodeRejected, ErrWrongDevice, "the MFA device does not belong to this user: %s", words), false

	case code == "AccessDenied" && a.request.opens:
		return a.fault(fault.Denied, nil, "AWS denied it: %s; if a policy denies GetSessionToken, mfa = each in the "+
			"registry's profile of a role makes Broker assume the role with the key and a code", words), false

	case code == "AccessDenied" && strings.Contains(lower, "sts:tagsession"):
		return a.fault(fault.Denied, ErrTagsRefused, "the role does not accept session tags: its trust policy must allow "+
			"sts:TagSession, or the registry's profile needs optional_tags = true; AWS says: %s", words), false

	case code == "AccessDenied" && strings.Contains(lower, "sts:setsourceidentity"):
		return a.fault(fault.Denied, ErrTagsRefused, "the role does not accept a source identity: its trust policy must "+
			"allow sts:SetSourceIdentity, or the registry's profile needs optional_tags = true; AWS says: %s", words), false

	case code == "AccessDenied" && a.request.service == "IAM":
		return a.fault(fault.Denied, nil, "AWS denied it: %s", words).WithHint("broker policy self-service"), false

	case code == "AccessDenied", code == "AccessDeniedException", code == "AWSOrganizationsNotInUseException":
		return a.fault(fault.Denied, nil, "AWS denied it: %s", words), false

	case code == "InvalidClientTokenId", code == "UnrecognizedClientException", code == "InvalidAccessKeyId":
		if !a.request.keys.Token.IsZero() {
			return a.fault(fault.ExpiredSession, nil, "AWS does not know the session any more: %s", words), false
		}
		return a.fault(fault.Denied, ErrUnknownKey, "AWS does not know access key %s, it was deleted or deactivated or is not visible yet: %s", a.keyTail(), words), false

	case isSignature(code):
		return a.fault(fault.Denied, nil, "the secret of access key %s is wrong: %s", a.keyTail(), words), false

	case code == "RegionDisabledException":
		return a.fault(fault.Denied, nil, "STS is not active in region %s for that account, activate it in the account settings of IAM or use another region: %s", a.to.region, words), false

	case strings.HasPrefix(code, "PackedPolicyTooLarge"), strings.HasPrefix(code, "MalformedPolicyDocument"):
		return a.fault(fault.Denied, nil, "AWS does not accept the session policy or tags: %s", words), false

	case strings.Contains(lower, "durationseconds exceeds"),
		strings.Contains(lower, "'durationseconds' failed") && strings.Contains(lower, "less than or equal"):
		return a.fault(fault.Failed, ErrDurationTooLong, "AWS does not allow such a long session: %s", words), false

	case code == "ValidationError", code == "ValidationException":
		return a.fault(fault.Failed, nil, "AWS does not accept it: %s", words), false
	}
	return a.fault(fault.Failed, codesOfIAM[code], "AWS refused it: %s: %s", a.words(code), words), false
}

func isSignature(code string) bool {
	return code == "SignatureDoesNotMatch" || code == "InvalidSignatureException"
}

// failureOfTransport says why no complete answer came. It shows nothing of the error's own text, because net/http
// quotes what the server sent.
func (a *attempt) failureOfTransport(ctx context.Context, err error) (_ *fault.Error, again bool) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return a.fault(fault.Network, context.Canceled, "canceled before %s answered", a.place()), false
	}
	place, proxy := a.place(), a.client.proxyName()
	if op := (*net.OpError)(nil); errors.As(err, &op) && (op.Op == "proxyconnect" || strings.HasPrefix(op.Op, "socks")) {
		place = proxy + " for " + place
	}

	var (
		refused   proxyRefused
		stranger  *strangerError
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		roots     x509.SystemRootsError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		timeout   interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &stranger):
		return a.fault(fault.NotConfirmed, nil, "plain http is only allowed to a program of your own user: %s", stranger), false
	case errors.Is(err, errRedirect):
		return a.badAnswer("%s answered with a redirect (%d), which %s never does: a proxy or a captive portal is in the way", place, a.status, a.service()), false
	case errors.Is(err, errSwitched):
		return a.badAnswer("%s answered %d, which %s never does", place, a.status, a.service()), false
	case errors.Is(err, errTooBig):
		return a.badAnswer("the answer of %s is larger than 1 MiB, so it is not an answer of %s", place, a.service()), false
	case errors.As(err, &refused):
		return a.fault(fault.Network, nil, "%s refuses to connect to %s: it answered %d", proxy, place, int(refused)), false

	case errors.As(err, &authority):
		f := a.fault(fault.Network, nil, "cannot trust %s: its certificate is signed by an authority that this machine "+
			"does not know; behind a proxy that inspects TLS, set ca_bundle to the file with the proxy's root certificate", place)
		return withBundle(f), false
	case errors.As(err, &name):
		return a.fault(fault.Network, nil, "cannot trust %s: its certificate is for another host%s", place, a.namesOf(name.Certificate)), false
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return a.fault(fault.Network, nil, "cannot trust %s: by the clock of this machine its certificate is expired or not yet valid", place), false
	case errors.As(err, &roots):
		return withBundle(a.fault(fault.Network, nil, "cannot trust %s: this machine has no root certificates", place)), false
	case errors.As(err, &invalid), errors.As(err, &verify):
		return withBundle(a.fault(fault.Network, nil, "cannot trust %s: its certificate is not valid", place)), false
	case errors.As(err, &record):
		return a.fault(fault.Network, nil, "%s does not speak TLS: a proxy or a captive portal may be in the way", place), false
	case errors.As(err, &alert), strings.Contains(err.Error(), "tls: "):
		return a.fault(fault.Network, nil, "the TLS handshake with %s failed", place), false

	case errors.As(err, &dns) && dns.IsNotFound:
		return a.fault(fault.Network, nil, "cannot find %s: there is no such host in the DNS", place), true
	case errors.As(err, &dns):
		return a.fault(fault.Network, nil, "cannot find %s: the DNS does not answer", place), true
	case errors.Is(err, syscall.ECONNREFUSED):
		return a.fault(fault.Network, nil, "cannot reach %s: the connection was refused", place), true
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return a.fault(fault.Network, nil, "cannot reach %s: there is no route to it", place), true

	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		what := "cannot reach %s: no connection within %s"
		if a.connected.Load() {
			what = "no complete answer from %s within %s"
		}
		// A retry makes sense while the call as a whole has time left.
		return a.fault(
			fault.Network,
			context.DeadlineExceeded,
			what,
			place,
			time.Since(a.began).Round(100*time.Millisecond),
		), ctx.Err() == nil

	case notHTTP(err.Error()):
		return a.badAnswer("%s does not answer in HTTP", place), false
	case a.connected.Load():
		return a.fault(fault.Network, nil, "the connection to %s broke before the answer was complete", place), true
	}
	return a.fault(fault.Network, nil, "cannot connect to %s", place), true
}

// proxyName returns the proxy for a message: with the name of the setting, without its password.
func (c *Client) proxyName() string {
	if c.route != nil {
		if u, err := url.Parse(c.route().HTTPSProxy); err == nil && u.Host != "" {
			return fmt.Sprintf("the proxy %s://%s (https_proxy)", u.Scheme, u.Host)
		}
	}
	return "the proxy"
}

// withBundle adds the hint for a failed certificate check that a CA bundle may fix.
func withBundle(f *fault.Error) *fault.Error { return f.WithHint("broker config set ca_bundle FILE") }

// notHTTP recognizes errors for which net/http has no types.
func notHTTP(text string) bool {
	parts := []string{"malformed", "headers exceeded", "transfer encoding", "Content-Length", "chunk", "1xx"}
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}

// place returns the host for a message; before the SDK has chosen a host, it is just the service.
func (a *attempt) place() string {
	if a.host == "" {
		return a.service()
	}
	return a.host
}

func (a *attempt) namesOf(cert *x509.Certificate) string {
	if cert == nil || len(cert.DNSNames) == 0 {
		return ""
	}
	return ", " + a.words(cert.DNSNames[0])
}
