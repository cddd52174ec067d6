package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// The private structs are the only place where a secret becomes JSON.
type requestJSON struct {
	V              int    `json:"v"`
	Verb           string `json:"verb"`
	Profile        string `json:"profile,omitempty"`
	AWSConfig      string `json:"aws_config_file,omitempty"`
	AWSCredentials string `json:"aws_shared_credentials_file,omitempty"`
	Client         string `json:"client,omitempty"`
	Offset         int    `json:"offset,omitempty"`
	Code           string `json:"code,omitempty"`
	Passphrase     string `json:"passphrase,omitempty"`

	TimeoutMS int64  `json:"timeout_ms,omitempty"`
	MinTTLMS  int64  `json:"min_ttl_ms,omitempty"`
	ForMS     int64  `json:"for_ms,omitempty"`
	CanAsk    bool   `json:"can_ask,omitempty"`
	TTY       string `json:"tty,omitempty"`
	Desktop   string `json:"desktop,omitempty"`
	ID        int    `json:"id,omitempty"`
	Role      *Role  `json:"role,omitempty"`
	TokenFile bool   `json:"token_file,omitempty"`

	Also []string `json:"also,omitempty"`

	Proof      string    `json:"proof,omitempty"`
	Verifier   *Verifier `json:"verifier,omitempty"`
	StayLocked bool      `json:"stay_locked,omitempty"`

	Registry string `json:"registry,omitempty"`
	State    string `json:"state_dir,omitempty"`
	Keyring  string `json:"keyring_dir,omitempty"`
	Home     string `json:"home,omitempty"`
}

type responseJSON struct {
	V          int             `json:"v"`
	Error      *errorJSON      `json:"error,omitempty"`
	Credential *credentialJSON `json:"credential,omitempty"`
	Endpoint   *endpointJSON   `json:"endpoint,omitempty"`
	Status     *Status         `json:"status,omitempty"`
	Version    string          `json:"version,omitempty"`
	Warnings   []string        `json:"warnings,omitempty"`
	Count      int             `json:"count,omitempty"`
	Ask        *Ask            `json:"ask,omitempty"`
	Notice     string          `json:"notice,omitempty"`
	Files      *Files          `json:"overlay,omitempty"`
	Challenge  *Stretch        `json:"challenge,omitempty"`
	Heritage   *Heritage       `json:"heritage,omitempty"`
	SignIn     *signInJSON     `json:"sign_in,omitempty"`
	Accounts   []Account       `json:"accounts,omitempty"`
	More       bool            `json:"more,omitempty"`
	Route      *Route          `json:"route,omitempty"`
}

type errorJSON struct {
	Kind    fault.Kind `json:"kind"`
	Message string     `json:"message"`
	Hint    string     `json:"hint,omitempty"`
}

type credentialJSON struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string `json:"SecretAccessKey"`
	SessionToken    string `json:"SessionToken"`
	Expiration      string `json:"Expiration"`
	Profile         string `json:"profile,omitempty"`
	Region          string `json:"region,omitempty"`
	Role            string `json:"role,omitempty"`
	Direct          bool   `json:"direct,omitempty"`
}

type endpointJSON struct {
	URL       string `json:"url"`
	Token     string `json:"token"`
	TokenFile string `json:"token_file,omitempty"`
	Profile   string `json:"profile"`
	Region    string `json:"region,omitempty"`
	Role      string `json:"role,omitempty"`
}

type signInJSON struct {
	Endpoint   string `json:"endpoint"`
	Token      string `json:"token"`
	Profile    string `json:"profile"`
	Expiration string `json:"expires"`
}

// EncodeRequest returns the line of a request.
func EncodeRequest(r Request) ([]byte, error) {
	return line(requestJSON{Version, r.Verb, r.Profile, r.AWSConfig, r.AWSCredentials, r.Client, r.Offset, r.Code.Reveal(), r.Passphrase.Reveal(),
		r.Timeout.Milliseconds(), r.MinTTL.Milliseconds(), r.For.Milliseconds(), r.CanAsk, r.TTY, r.Desktop, r.ID, r.Role, r.TokenFile,
		r.Also, r.Proof.Reveal(), r.Verifier, r.StayLocked, r.Registry, r.State, r.Keyring, r.Home})
}

// DecodeRequest reads the line of a request. One of another version is told
// so even where its fields are of other types.
func DecodeRequest(b []byte) (Request, error) {
	var j requestJSON
	if err := json.Unmarshal(b, &j); err != nil && (j.V == 0 || j.V == Version) {
		return Request{}, fault.New(fault.Usage, "the request is not a JSON object of this protocol")
	}
	if j.V != Version {
		return Request{}, fault.New(fault.Failed, "the request is of protocol version %d, the daemon speaks %d", j.V, Version).WithHint("broker service restart")
	}
	return Request{j.Verb, j.Profile, j.AWSConfig, j.AWSCredentials, j.Client, j.Offset, secret.New(j.Code), secret.New(j.Passphrase),
		time.Duration(j.TimeoutMS) * time.Millisecond, time.Duration(j.MinTTLMS) * time.Millisecond, time.Duration(j.ForMS) * time.Millisecond, j.CanAsk, j.TTY, j.Desktop, j.ID, j.Role, j.TokenFile,
		j.Also, secret.New(j.Proof), j.Verifier, j.StayLocked, j.Registry, j.State, j.Keyring, j.Home}, nil
}

// EncodeResponse returns the line of a response. One that is too long
// becomes a failure that says so.
func EncodeResponse(r Response) ([]byte, error) {
	j := responseJSON{V: Version, Status: r.Status, Version: r.Version, Warnings: r.Warnings, Count: r.Count, Ask: r.Ask, Notice: r.Notice, Files: r.Files,
		Challenge: r.Challenge, Heritage: r.Heritage, Route: r.Route, Accounts: r.Accounts, More: r.More}
	if r.Err != nil {
		j.Error = &errorJSON{r.Err.Kind, fault.Line(r.Err.Message), r.Err.Hint.Shown()}
	}
	if c := r.Credential; c != nil {
		j.Credential = &credentialJSON{
			AccessKeyID:     c.AccessKeyID,
			SecretAccessKey: c.SecretAccessKey.Reveal(),
			SessionToken:    c.SessionToken.Reveal(),
			Expiration:      c.Expiration.UTC().Format(time.RFC3339),
			Profile:         c.Profile,
			Region:          c.Region,
			Role:            c.Role,
			Direct:          c.Direct,
		}
	}
	if e := r.Endpoint; e != nil {
		j.Endpoint = &endpointJSON{e.URL, e.Token.Reveal(), e.TokenFile, e.Profile, e.Region, e.Role}
	}
	if s := r.SignIn; s != nil {
		j.SignIn = &signInJSON{s.Endpoint, s.Token.Reveal(), s.Profile, s.Expiration.UTC().Format(time.RFC3339)}
	}
	return line(j)
}

// DecodeResponse reads the line of a response, with the same care for the
// version. A credential must be whole.
func DecodeResponse(b []byte) (Response, error) {
	var j responseJSON
	if err := json.Unmarshal(b, &j); err != nil && (j.V == 0 || j.V == Version) {
		return Response{}, fault.New(fault.Unreachable, "what answers on the socket is not the broker's daemon")
	}
	if j.V != Version {
		return Response{}, fault.New(fault.Unreachable, "the daemon speaks protocol version %d, this program %d", j.V, Version).WithHint("broker service restart")
	}
	r := Response{Status: j.Status, Version: j.Version, Warnings: j.Warnings, Count: j.Count, Ask: j.Ask, Notice: j.Notice, Files: j.Files,
		Challenge: j.Challenge, Heritage: j.Heritage, Route: j.Route, Accounts: j.Accounts, More: j.More}
	if e := j.Error; e != nil {
		r.Err = &fault.Error{Kind: e.Kind, Message: e.Message, Hint: fault.Hint(e.Hint)}
	}
	if c := j.Credential; c != nil {
		expires, err := time.Parse(time.RFC3339, c.Expiration)
		if err != nil || c.AccessKeyID == "" || c.SecretAccessKey == "" || c.SessionToken == "" {
			return Response{}, fault.New(fault.Unreachable, "the daemon's answer is not a whole credential")
		}
		r.Credential = &Credential{c.AccessKeyID, secret.New(c.SecretAccessKey), secret.New(c.SessionToken), expires, c.Profile, c.Region, c.Role, c.Direct}
	}
	if e := j.Endpoint; e != nil {
		if e.URL == "" || e.Token == "" {
			return Response{}, fault.New(fault.Unreachable, "the daemon's answer is not a whole endpoint")
		}
		r.Endpoint = &Endpoint{e.URL, secret.New(e.Token), e.TokenFile, e.Profile, e.Region, e.Role}
	}
	if s := j.SignIn; s != nil {
		expires, err := time.Parse(time.RFC3339, s.Expiration)
		if err != nil || s.Endpoint == "" || s.Token == "" {
			return Response{}, fault.New(fault.Unreachable, "the daemon's answer is not a whole sign-in")
		}
		r.SignIn = &SignIn{s.Endpoint, secret.New(s.Token), s.Profile, expires}
	}
	return r, nil
}

// ErrTooLong is returned for a line over MaxLine.
var ErrTooLong = errors.New("the line is longer than 64 KiB")

func line(v any) ([]byte, error) {
	var b bytes.Buffer
	// No browser reads this: '<' need not take six bytes.
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	if b.Len() > MaxLine {
		return nil, ErrTooLong
	}
	return b.Bytes(), nil
}

// ReadLine reads one line without its newline. Memory is taken as bytes come,
// so an idle or hostile peer costs little. At the end of input the error is io.EOF, within
// a line io.ErrUnexpectedEOF. The bytes are valid until the next call.
func ReadLine(r *bufio.Reader) ([]byte, error) {
	b, err := r.ReadSlice('\n')
	var all []byte
	for errors.Is(err, bufio.ErrBufferFull) && len(all) < MaxLine {
		all = append(all, b...)
		b, err = r.ReadSlice('\n')
	}
	if all != nil {
		b = append(all, b...)
	}
	switch {
	case len(b) > MaxLine, len(b) == MaxLine && err != nil:
		return nil, ErrTooLong
	case err == nil:
		return bytes.TrimSuffix(b, []byte("\n")), nil
	case errors.Is(err, io.EOF) && len(b) > 0:
		return nil, io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("read a line: %w", err)
}
