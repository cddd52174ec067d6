package stssim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"broker/internal/testproc"
)

// The names of the demo organization that tests use.
const (
	paulSerial  = "arn:aws:iam::111122223333:mfa/paul"
	devAdmin    = "arn:aws:iam::222233334444:role/allow-admin-from-security-account"
	prodAdmin   = "arn:aws:iam::444455556666:role/allow-admin-from-security-account"
	prodRelease = "arn:aws:iam::444455556666:role/release"
	devLong     = "arn:aws:iam::222233334444:role/long-work"
	devBuild    = "arn:aws:iam::222233334444:role/build"
	stageVendor = "arn:aws:iam::333344445555:role/vendor-access"
)

// TestMain lets the test binary act as the program, for the tests of flags and signals.
func TestMain(m *testing.M) {
	if os.Getenv("STSSIM_AS_PROGRAM") == "1" {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(testproc.Run(m))
}

func newDemo(t testing.TB) *Sim {
	t.Helper()
	sim, err := New(Demo())
	if err != nil {
		t.Fatal(err)
	}
	return sim
}

// caller signs requests with the real SDK's signer.
type caller struct {
	sim    *Sim
	keys   aws.Credentials
	region string
	api    string                          // service in the scope; empty means the right one
	at     time.Time                       // time of signing; zero means now
	before func(*http.Request)             // changes the request before it is signed
	after  func(*http.Request)             // changes it afterwards
	client *http.Client                    // default: no network
	url    string                          // default: a name that does not resolve
	form   func(url.Values, []byte) []byte // changes the body after it was signed
	raw    []byte                          // the body; default: the form
}

func paul(sim *Sim) caller {
	return caller{sim: sim, keys: keysOf(Demo().User("security", "paul").Keys[0])}
}

func robot(sim *Sim) caller {
	return caller{sim: sim, keys: keysOf(Demo().User("security", "robot").Keys[0])}
}

func keysOf(k AccessKey) aws.Credentials {
	return aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret}
}

// reply is the answer to a call, an error or not.
type reply struct {
	status  int
	header  http.Header
	body    string
	code    string
	message string
	err     error // of the transport
}

// field returns the text of the first XML element with this name.
func (r reply) field(name string) string {
	_, rest, _ := strings.Cut(r.body, "<"+name+">")
	text, _, _ := strings.Cut(rest, "</"+name+">")
	return text
}

// with returns the caller with the session that the reply opened.
func (c caller) with(r reply) caller {
	c.keys = aws.Credentials{AccessKeyID: r.field("AccessKeyId"), SecretAccessKey: r.field("SecretAccessKey"), SessionToken: r.field("SessionToken")}
	return c
}

// call makes a call; params are names and values alternately.
func (c caller) call(action string, params ...string) reply {
	op, known := operations[action]
	if !known {
		op.api = apiSTS
	}
	form := url.Values{"Action": {action}, "Version": {versions[op.api]}}
	for i := 0; i < len(params); i += 2 {
		form.Set(params[i], params[i+1])
	}
	if c.api == "" {
		c.api = op.api
	}
	return c.send(form)
}

func (c caller) send(form url.Values) reply {
	if c.region == "" {
		c.region = "eu-west-1"
	}
	if c.at.IsZero() {
		c.at = c.sim.Now()
	}
	if c.client == nil {
		c.client = &http.Client{
			Transport:     c.sim,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if c.url == "" {
		c.url = "https://sts.eu-west-1.simulated.invalid"
	}
	body := []byte(form.Encode())
	if c.raw != nil {
		body = c.raw
	}
	request, err := http.NewRequest("POST", c.url+"/", bytes.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	if c.before != nil {
		c.before(request)
	}
	hash := sha256.Sum256(body)
	if c.keys.AccessKeyID != "" {
		if err := v4.NewSigner().SignHTTP(context.Background(), c.keys, request, hex.EncodeToString(hash[:]), c.api,
			c.region, c.at); err != nil {
			return reply{err: err}
		}
	}
	if c.form != nil {
		body = c.form(form, body)
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	if c.after != nil {
		c.after(request)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return reply{err: err}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	r := reply{status: response.StatusCode, header: response.Header, body: string(text), err: err}
	var failed struct {
		Code    string `xml:"Error>Code"`
		Message string `xml:"Error>Message"`
	}
	if xml.Unmarshal(text, &failed) == nil {
		r.code, r.message = failed.Code, failed.Message
	}
	return r
}

// want fails the test unless the reply is an error of that code with that text
// in its message; an empty code wants success.
func (r reply) want(t testing.TB, code, message string) {
	t.Helper()
	if r.err != nil {
		t.Fatalf("no answer: %v", r.err)
	}
	if r.code != code || !strings.Contains(r.message, message) {
		t.Fatalf("answer %d %q %q, want %q with %q", r.status, r.code, r.message, code, message)
	}
	if (code == "") != (r.status == 200) {
		t.Fatalf("status %d with code %q", r.status, code)
	}
}

// session opens an MFA session of paul.
func (c caller) session(t testing.TB) caller {
	t.Helper()
	r := c.call("GetSessionToken", "SerialNumber", paulSerial, "TokenCode", c.sim.FreshCode(paulSerial))
	r.want(t, "", "")
	return c.with(r)
}

// assume opens a session of a role.
func (c caller) assume(t testing.TB, arn string) caller {
	t.Helper()
	r := c.call("AssumeRole", "RoleArn", arn, "RoleSessionName", "test")
	r.want(t, "", "")
	return c.with(r)
}
