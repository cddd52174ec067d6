//go:build unix

package exchange

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// TestRefusals has the exact texts of AWS and the faults for them.
func TestRefusals(t *testing.T) {
	const (
		notAuthorized = "User: arn:aws:iam::111122223333:user/paul is not authorized to perform: sts:AssumeRole on resource: " + aRole
		wrongCode     = "MultiFactorAuthentication failed with invalid MFA one time pass code. "
		wrongSerial   = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user."
		invalidToken  = "The security token included in the request is invalid."
		wrongSecret   = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	)
	user := func(c *Client, ctx context.Context) error {
		_, err := c.Call(ctx, userKeys(), openSession(), secret.New(aCode))
		return err
	}
	chained := func(c *Client, ctx context.Context) error {
		_, err := c.Assume(ctx, aSession(), assumeRole())
		return err
	}
	identity := func(c *Client, ctx context.Context) error {
		_, err := c.Identity(ctx, userKeys(), profiles.Endpoint{})
		return err
	}
	for _, tt := range []struct {
		name    string
		do      func(*Client, context.Context) error
		status  int
		code    string
		message string
		kind    fault.Kind
		is      error
		text    string
	}{
		{"denied", chained, 403, "AccessDenied", notAuthorized, fault.Denied, nil, "assume " + aRole + ": AWS denied it: " + notAuthorized},
		{"denied without words", chained, 403, "AccessDenied", "", fault.Denied, nil, "AWS denied it: AccessDenied"},
		{"wrong code", user, 403, "AccessDenied", wrongCode, fault.CodeRejected, nil, "it is wrong or was used before: MultiFactor"},
		{"wrong serial", user, 403, "AccessDenied", wrongSerial, fault.CodeRejected, ErrWrongDevice, "the MFA device does not belong to this user: MultiFactor"},
		{"half an MFA", user, 403, "AccessDenied", "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.", fault.Denied, nil, "AWS denied it: MultiFactor"},
		{"session for GetSessionToken", user, 403, "AccessDenied", "Cannot call GetSessionToken with session credentials", fault.Denied, nil, "AWS denied it: Cannot call"},
		{"GetSessionToken denied by a policy", user, 403, "AccessDenied", "with an explicit deny", fault.Denied, nil, "explicit deny; if a policy denies GetSessionToken, mfa = each in the registry"},
		{"unknown key", identity, 403, "InvalidClientTokenId", invalidToken, fault.Denied, ErrUnknownKey, "identify key …NYVB: AWS does not know access key …NYVB, it was deleted or deactivated or is not visible yet: The security token"},
		{"unknown key, other name", identity, 403, "UnrecognizedClientException", invalidToken, fault.Denied, ErrUnknownKey, "does not know access key"},
		{"unknown session", chained, 403, "InvalidClientTokenId", invalidToken, fault.ExpiredSession, nil, "does not know the session any more"},
		{"expired", chained, 403, "ExpiredToken", "The security token included in the request is expired", fault.ExpiredSession, nil, "the session has expired: The security token"},
		{"expired, other name", chained, 400, "ExpiredTokenException", "expired", fault.ExpiredSession, nil, "the session has expired"},
		{"wrong secret", user, 403, "SignatureDoesNotMatch", wrongSecret, fault.Denied, nil, "the secret of access key …NYVB is wrong: The request signature"},
		{"region", chained, 403, "RegionDisabledException", "STS is not activated in this region for account:444455556666. Your account administrator can activate STS in this region using the IAM Console.", fault.Denied, nil, "STS is not active in region us-east-1 for that account, activate it"},
		{"policy too large", chained, 400, "PackedPolicyTooLarge", "Packed policy consumes 130% of allotted space, please use smaller policy.", fault.Denied, nil, "session policy or tags: Packed policy consumes 130%"},
		{"policy malformed", chained, 400, "MalformedPolicyDocument", "Syntax errors in policy.", fault.Denied, nil, "session policy or tags: Syntax errors"},
		{"chained too long", chained, 400, "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.", fault.Failed, ErrDurationTooLong, "such a long session: The requested"},
		{"role's maximum", chained, 400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.", fault.Failed, ErrDurationTooLong, "such a long session: The requested"},
		{"above all maxima", chained, 400, "ValidationError", "1 validation error detected: Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200", fault.Failed, ErrDurationTooLong, "such a long session: 1 validation error"},
		{"below the minimum", chained, 400, "ValidationError", "1 validation error detected: Value '5' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900", fault.Failed, nil, "AWS does not accept it: 1 validation error"},
		{"validation", chained, 400, "ValidationError", "Invalid principal", fault.Failed, nil, "AWS does not accept it: Invalid principal"},
		{"throttled", user, 400, "Throttling", "Rate exceeded", fault.Throttled, nil, "AWS asks to slow down: Rate exceeded"},
		{"throttled, other name", user, 400, "RequestLimitExceeded", "Rate exceeded", fault.Throttled, nil, "slow down"},
		{"throttled with 503", user, 503, "SlowDown", "Reduce your request rate", fault.Throttled, nil, "slow down"},
		{"in trouble", user, 500, "InternalFailure", "oops", fault.Network, nil, "failed: it answered 500: oops; AWS may have taken the code"},
		{"unheard of", chained, 400, "NoSuchThing", "never", fault.Failed, nil, "AWS refused it: NoSuchThing: never"},
		{"unheard of, silent", chained, 418, "NoSuchThing", "", fault.Failed, nil, "AWS refused it: NoSuchThing: NoSuchThing"},
		{"control characters", chained, 403, "AccessDenied", "a&#xA;b\u009b31m\u202e", fault.Denied, nil, `AWS denied it: a b\u009b31m\u202e`},
		{"endless words", chained, 403, "AccessDenied", strings.Repeat("no ", 100_000), fault.Denied, nil, "no no no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := serve(t, say(tt.status, refusal(tt.code, tt.message)))
			err := tt.do(client(f), background(t))
			wantFault(t, err, tt.kind, tt.text)
			for _, sentinel := range []error{ErrDurationTooLong, ErrUnknownKey, ErrWrongDevice} {
				if errors.Is(err, sentinel) != (sentinel == tt.is) {
					t.Errorf("errors.Is(err, %q) is %t", sentinel, errors.Is(err, sentinel))
				}
			}
			if len(err.Error()) > 700 {
				t.Errorf("a line of %d bytes", len(err.Error()))
			}
			if !MaybeSeen(err) {
				t.Error("STS answered, but MaybeSeen is false")
			}
		})
	}
}

// Servers that echo the request in the text that becomes an error message.
func TestNoSecretComesBack(t *testing.T) {
	t.Parallel()
	encodings := map[string]func(string) string{
		"plain":     func(s string) string { return s },
		"query":     url.QueryEscape,
		"base64":    func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"hex":       func(s string) string { return hex.EncodeToString([]byte(s)) },
		"upper":     strings.ToUpper,
		"cut":       func(s string) string { return s[:len(s)-len(s)/3] },
		"wrapped":   func(s string) string { return s[:len(s)/2] + "\n" + s[len(s)/2:] },
		"quoted":    func(s string) string { return fmt.Sprintf("%q", s) },
		"canonical": func(s string) string { return "The Canonical String for this request should have been\n" + s },
	}
	places := map[string]func(w http.ResponseWriter, echo string){
		"message": func(w http.ResponseWriter, echo string) {
			w.WriteHeader(403)
			io.WriteString(w, refusal("AccessDenied", html.EscapeString(echo)))
		},
		"signature message": func(w http.ResponseWriter, echo string) {
			w.WriteHeader(403)
			io.WriteString(w, refusal("SignatureDoesNotMatch", "Signature expired: "+html.EscapeString(echo)))
		},
		"code": func(w http.ResponseWriter, echo string) {
			w.WriteHeader(400)
			io.WriteString(w, refusal(html.EscapeString(echo), "x"))
		},
		"page":   func(w http.ResponseWriter, echo string) { io.WriteString(w, "<html>"+echo) },
		"xml":    func(w http.ResponseWriter, echo string) { io.WriteString(w, "<a><"+echo+"></b>") },
		"fields": func(w http.ResponseWriter, echo string) { answerWith(answer{id: html.EscapeString(echo)})(w, nil) },
		"time": func(w http.ResponseWriter, echo string) {
			answerWith(answer{expiration: html.EscapeString(echo)})(w, nil)
		},
		"arn": func(w http.ResponseWriter, echo string) {
			answerWith(answer{arn: html.EscapeString(strings.Join(strings.Fields(echo), ""))})(w, nil)
		},
		"location": func(w http.ResponseWriter, echo string) {
			w.Header().Set("Location", "https://evil.example/"+url.PathEscape(echo))
			w.WriteHeader(307)
		},
		"status line": func(w http.ResponseWriter, echo string) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			fmt.Fprintf(conn, "HTTP/1.1 403 %s\r\nContent-Length: 0\r\n\r\n", echo)
			conn.Close()
		},
		"no HTTP": func(w http.ResponseWriter, echo string) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			fmt.Fprintf(conn, "%s\r\n\r\n", echo)
			conn.Close()
		},
		"header": func(w http.ResponseWriter, echo string) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n%s\r\n\r\n", echo)
			conn.Close()
		},
		"chunk": func(w http.ResponseWriter, echo string) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n", echo)
			conn.Close()
		},
	}
	for place, put := range places {
		for encoding, encode := range encodings {
			t.Run(place+"/"+encoding, func(t *testing.T) {
				t.Parallel()
				var signature string
				server := serve(t, func(w http.ResponseWriter, r *http.Request) {
					_, signature, _ = strings.Cut(r.Header.Get("Authorization"), "Signature=")
					var all strings.Builder
					for name, values := range r.Header {
						fmt.Fprintf(&all, "%s=%s ", name, encode(values[0]))
					}
					put(w, all.String()+encode(aCode)+" "+encode("TokenCode="+aCode))
				})
				keys := userKeys()
				keys.Token = secret.New(sessionText)
				call := assumeRole()
				call.MFASerial = aSerial
				_, err := client(server).Call(background(t), keys, call, secret.New(aCode))
				if err == nil {
					t.Fatal("no error")
				}
				wantClean(t, err)
				for _, form := range append(forms(sessionText), strings.ToUpper(sessionText), signature, keys.AccessKeyID) {
					if strings.Contains(err.Error(), form) {
						t.Errorf("%q is in %q", form, err)
					}
				}
			})
		}
	}
}

func TestRedact(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{"nothing here", "nothing here"},
		{"x " + longSecret + " y", "x [redacted] y"},
		{longSecret + longSecret, "[redacted]"},
		{"a " + longSecret[:12] + " b " + longSecret[20:30], "a [redacted] b [redacted]"},
		{longSecret[:grain-1], longSecret[:grain-1]},
		{"code 918273!", "code [redacted]!"},
		{"é " + longSecret + " é", "é [redacted] é"},
	} {
		if got := redact(tt.text, longSecret, aCode, ""); got != tt.want {
			t.Errorf("redact(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

// Searching for each grain of the secret at each position of the text would take hours.
func TestRedactTakesNoTime(t *testing.T) {
	if got := redact(strings.Repeat("a", 64*maxWords), strings.Repeat("a", 16*maxToken)); got != "[redacted]" {
		t.Errorf("%.40q is left", got)
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("x ", longSecret, " y")
	f.Add("", "1", "1")
	f.Fuzz(func(t *testing.T, before, plain, after string) {
		got := redact(before+plain+after, plain)
		if len(plain) >= grain && strings.Contains(strings.ReplaceAll(got, "[redacted]", "\x00"), plain) {
			t.Errorf("%q is still in %q", plain, got)
		}
	})
}

// timeoutError is a net.Error like those of net/http.
type timeoutError struct{}

func (timeoutError) Error() string { return "net/http: TLS handshake timeout" }
func (timeoutError) Timeout() bool { return true }

// The network failures that a test cannot produce without leaving the machine.
func TestTransportFailures(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, tt := range []struct {
		name string
		err  error
		text string
	}{
		{"no such host", dial(&net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}), "cannot find sts.eu-west-1.amazonaws.com: there is no such host in the DNS"},
		{"no DNS", dial(&net.DNSError{Err: "i/o timeout", Name: "x", IsTimeout: true}), "the DNS does not answer"},
		{"no route", dial(syscall.ENETUNREACH), "cannot reach sts.eu-west-1.amazonaws.com: there is no route to it"},
		{"no host", dial(syscall.EHOSTUNREACH), "there is no route"},
		{"refused", dial(syscall.ECONNREFUSED), "the connection was refused"},
		{"blackhole", dial(timeoutError{}), "no connection within"},
		{"slow handshake", timeoutError{}, "no connection within"},
		{"proxy refused", &net.OpError{Op: "proxyconnect", Net: "tcp", Err: dial(syscall.ECONNREFUSED)}, "cannot reach the proxy for sts.eu-west-1.amazonaws.com: the connection was refused"},
		{"proxy unknown", &net.OpError{Op: "proxyconnect", Net: "tcp", Err: dial(&net.DNSError{IsNotFound: true})}, "cannot find the proxy for"},
		{"anything else", errors.New("what " + sessionText), "cannot connect to sts.eu-west-1.amazonaws.com"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{answer: func(*http.Request) (*http.Response, error) { return nil, tt.err }}
			c := New(Options{})
			c.connect = r.connect
			call := openSession()
			call.Endpoint.Region = "eu-west-1"
			_, err := c.Call(background(t), userKeys(), call, secret.New(aCode))
			wantFault(t, err, fault.Network, "open a session with MFA device "+aSerial+": ", tt.text)
			if MaybeSeen(err) {
				t.Error("nothing was sent, but MaybeSeen is true")
			}
			if len(r.requests) != 1 {
				t.Errorf("%d requests, want 1", len(r.requests))
			}
		})
	}
}

func TestMaybeSeenKnowsItsOwn(t *testing.T) {
	if MaybeSeen(nil) || MaybeSeen(errors.New("x")) || MaybeSeen(fault.New(fault.Network, "x")) {
		t.Error("MaybeSeen is true for an error of another package")
	}
	seen := &fault.Error{Kind: fault.Network, Message: "x", Err: &cause{seen: true}}
	if !MaybeSeen(fmt.Errorf("open: %w", seen)) {
		t.Error("MaybeSeen does not look into wrapped errors")
	}
}
