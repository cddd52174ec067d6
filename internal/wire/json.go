package wire

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// part is an optional struct of a message. encoding/json analyses such a type only when it occurs, not together
// with the message: analyzing all of them took a quarter of credproc's run time.
type part[T any] struct{ value *T }

// IsZero reports whether the message lacks the part.
func (p part[T]) IsZero() bool { return p.value == nil }

// MarshalJSON implements json.Marshaler.
func (p part[T]) MarshalJSON() ([]byte, error) { return encode(p.value) }

// UnmarshalJSON implements json.Unmarshaler.
func (p *part[T]) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &p.value) }

// The private structs are the only types that turn a secret into JSON.
type requestJSON struct {
	V int `json:"v"`
	Request
	Role       part[Role]       `json:"role,omitzero"`
	Verifier   part[Verifier]   `json:"verifier,omitzero"`
	Rotation   part[Rotation]   `json:"rotation,omitzero"`
	Page       part[pageJSON]   `json:"page,omitzero"`
	Door       part[DoorTerms]  `json:"door,omitzero"`
	TokenTerms part[TokenTerms] `json:"token,omitzero"`
	Code       string           `json:"code,omitempty"`
	Passphrase string           `json:"passphrase,omitempty"`
	Proof      string           `json:"proof,omitempty"`
	TimeoutMS  int64            `json:"timeout_ms,omitempty"`
	MinTTLMS   int64            `json:"min_ttl_ms,omitempty"`
	ForMS      int64            `json:"for_ms,omitempty"`
}

type responseJSON struct {
	V int `json:"v"`
	Response
	Error      *errorJSON      `json:"error,omitempty"`
	Credential *credentialJSON `json:"credential,omitempty"`

	Endpoint  part[endpointJSON] `json:"endpoint,omitzero"`
	SignIn    part[signInJSON]   `json:"sign_in,omitzero"`
	Status    part[Status]       `json:"status,omitzero"`
	Prompt    part[Prompt]       `json:"ask,omitzero"`
	Files     part[Files]        `json:"overlay,omitzero"`
	Challenge part[Stretch]      `json:"challenge,omitzero"`
	Replaced  part[Replaced]     `json:"heritage,omitzero"`
	Route     part[Route]        `json:"route,omitzero"`
	Setup     part[Setup]        `json:"setup,omitzero"`
	Checked   part[Checked]      `json:"checked,omitzero"`
	Page      part[pageJSON]     `json:"page,omitzero"`
	Door      part[Door]         `json:"door,omitzero"`
	Token     part[tokenJSON]    `json:"token,omitzero"`
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
	Account         string `json:"AccountId,omitempty"`
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

type tokenJSON struct {
	Token   string    `json:"token"`
	User    string    `json:"user,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
}

type pageJSON struct {
	URL        string    `json:"url,omitempty"`
	Redirect   string    `json:"redirect,omitempty"`
	State      string    `json:"state,omitempty"`
	UserCode   string    `json:"user_code,omitempty"`
	Expires    time.Time `json:"expires,omitzero"`
	IntervalMS int64     `json:"interval_ms,omitempty"`
	Proof      string    `json:"proof,omitempty"`
	Adopt      string    `json:"adopt,omitempty"`
}

func encodePage(p *Page) part[pageJSON] {
	if p == nil {
		return part[pageJSON]{}
	}
	return part[pageJSON]{&pageJSON{p.URL, p.Redirect, p.State, p.UserCode, p.Expires, p.Interval.Milliseconds(),
		p.Proof.Reveal(), p.Adopt}}
}

func decodePage(j *pageJSON) *Page {
	if j == nil {
		return nil
	}
	return &Page{j.URL, j.Redirect, j.State, j.UserCode, j.Expires, time.Duration(j.IntervalMS) * time.Millisecond,
		secret.New(j.Proof), j.Adopt}
}

// EncodeRequest returns the line of a request.
func EncodeRequest(r *Request) ([]byte, error) {
	return short(Object(
		&requestJSON{
			V:          Version,
			Request:    *r,
			Role:       part[Role]{r.Role},
			Verifier:   part[Verifier]{r.Verifier},
			Rotation:   part[Rotation]{r.Rotation},
			Page:       encodePage(r.Page),
			Door:       part[DoorTerms]{r.Door},
			TokenTerms: part[TokenTerms]{r.TokenTerms},
			Code:       r.Code.Reveal(),
			Passphrase: r.Passphrase.Reveal(),
			Proof:      r.Proof.Reveal(),
			TimeoutMS:  r.Timeout.Milliseconds(),
			MinTTLMS:   r.MinTTL.Milliseconds(),
			ForMS:      r.For.Milliseconds(),
		},
	))
}

// DecodeRequest parses the line of a request. For a request of another version it reports the version, even if its
// fields have other types.
func DecodeRequest(b []byte) (*Request, error) {
	j := new(requestJSON)
	if err := json.Unmarshal(b, j); err != nil && (j.V == 0 || j.V == Version) {
		return nil, fault.New(fault.Usage, "the request is not a JSON object of this protocol")
	}
	if j.V != Version {
		return nil, fault.New(fault.Failed,
			"the request has protocol version %d, but the daemon speaks version %d", j.V, Version).
			WithHint("broker service restart")
	}
	r := &j.Request
	r.Role, r.Verifier, r.Rotation = j.Role.value, j.Verifier.value, j.Rotation.value
	r.Page, r.Door, r.TokenTerms = decodePage(j.Page.value), j.Door.value, j.TokenTerms.value
	r.Code, r.Passphrase, r.Proof = secret.New(j.Code), secret.New(j.Passphrase), secret.New(j.Proof)
	r.Timeout = time.Duration(j.TimeoutMS) * time.Millisecond
	r.MinTTL = time.Duration(j.MinTTLMS) * time.Millisecond
	r.For = time.Duration(j.ForMS) * time.Millisecond
	return r, nil
}

// EncodeResponse returns the line of a response. A response that is too long becomes ErrTooLong.
func EncodeResponse(r *Response) ([]byte, error) {
	j := &responseJSON{V: Version, Response: *r, Status: part[Status]{r.Status}, Prompt: part[Prompt]{r.Prompt},
		Files: part[Files]{r.Files}, Challenge: part[Stretch]{r.Challenge}, Replaced: part[Replaced]{r.Replaced},
		Route: part[Route]{r.Route}, Setup: part[Setup]{r.Setup}, Checked: part[Checked]{r.Checked}, Page: encodePage(r.Page),
		Door: part[Door]{r.Door}}
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
			Account:         c.Account,
		}
	}
	if e := r.Endpoint; e != nil {
		j.Endpoint.value = &endpointJSON{e.URL, e.Token.Reveal(), e.TokenFile, e.Profile, e.Region, e.Role}
	}
	if s := r.SignIn; s != nil {
		j.SignIn.value = &signInJSON{s.Endpoint, s.Token.Reveal(), s.Profile, s.Expiration.UTC().Format(time.RFC3339)}
	}
	if t := r.Token; t != nil {
		j.Token.value = &tokenJSON{t.Token.Reveal(), t.User, t.Expires}
	}
	return short(encode(j))
}

// DecodeResponse parses the line of a response. It reports another version like DecodeRequest. A credential must
// be complete.
func DecodeResponse(b []byte) (*Response, error) {
	j := new(responseJSON)
	if err := json.Unmarshal(b, j); j.V == 0 || err != nil && j.V == Version {
		return nil, fault.New(fault.Unreachable, "%w", ErrStranger)
	}
	if j.V != Version {
		return nil, fault.New(fault.Unreachable,
			"the daemon speaks protocol version %d, but this program speaks version %d", j.V, Version).
			WithHint("broker service restart")
	}
	r := &j.Response
	r.Status, r.Prompt, r.Files, r.Challenge = j.Status.value, j.Prompt.value, j.Files.value, j.Challenge.value
	r.Replaced, r.Route, r.Setup, r.Checked = j.Replaced.value, j.Route.value, j.Setup.value, j.Checked.value
	r.Page, r.Door = decodePage(j.Page.value), j.Door.value
	if t := j.Token.value; t != nil {
		if t.Token == "" {
			return nil, fault.New(fault.Unreachable, "the daemon's answer is not a complete token")
		}
		r.Token = &Token{secret.New(t.Token), t.User, t.Expires}
	}
	if e := j.Error; e != nil {
		r.Err = &fault.Error{Kind: e.Kind, Message: e.Message, Hint: fault.Hint(e.Hint)}
	}
	if c := j.Credential; c != nil {
		expires, err := time.Parse(time.RFC3339, c.Expiration)
		if err != nil || c.AccessKeyID == "" || c.SecretAccessKey == "" || c.SessionToken == "" {
			return nil, fault.New(fault.Unreachable, "the daemon's answer is not a complete credential")
		}
		r.Credential = &Credential{c.AccessKeyID, secret.New(c.SecretAccessKey), secret.New(c.SessionToken), expires,
			c.Profile, c.Region, c.Role, c.Direct, c.Account}
	}
	if e := j.Endpoint.value; e != nil {
		if e.URL == "" || e.Token == "" {
			return nil, fault.New(fault.Unreachable, "the daemon's answer is not a complete endpoint")
		}
		r.Endpoint = &Endpoint{e.URL, secret.New(e.Token), e.TokenFile, e.Profile, e.Region, e.Role}
	}
	if s := j.SignIn.value; s != nil {
		expires, err := time.Parse(time.RFC3339, s.Expiration)
		if err != nil || s.Endpoint == "" || s.Token == "" {
			return nil, fault.New(fault.Unreachable, "the daemon's answer is not a complete sign-in")
		}
		r.SignIn = &SignIn{s.Endpoint, secret.New(s.Token), s.Profile, expires}
	}
	return r, nil
}

// Learn makes the first DecodeResponse of a program faster: encoding/json analyses the type of an answer only
// once.
func Learn() { _, _ = DecodeResponse([]byte(`{"v":1,"credential":{"Expiration":""}}`)) }

// ErrStranger is wrapped by the error of DecodeResponse for an answer that no version of the daemon gives.
var ErrStranger = errors.New("the program on the socket is not Broker's daemon")

// ErrTooLong is returned for a line over MaxLine.
var ErrTooLong = errors.New("the line is longer than 64 KiB")

// Object returns a struct as a JSON object on one line, without the fields that are zero. A field without a name in its
// tag keeps its own. encoding/json would first analyze the types of all fields, a tenth of credproc's run time.
func Object(v any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	if err := writeFields(&b, newEncoder(&b), reflect.ValueOf(v).Elem()); err != nil {
		return nil, err
	}
	if b.Len() > 1 {
		b.Truncate(b.Len() - 1) // the last comma
	}
	b.WriteString("}\n")
	return b.Bytes(), nil
}

// writeFields writes the fields of a struct that are not zero, and those of its embedded structs, each with a comma
// after it. The encoder writes to b.
func writeFields(b *bytes.Buffer, encoder *json.Encoder, s reflect.Value) error {
	for i := range s.NumField() {
		value, field := s.Field(i), s.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "-", value.IsZero():
			continue
		case field.Anonymous:
			if err := writeFields(b, encoder, value); err != nil {
				return err
			}
			continue
		}
		b.WriteString(`"` + cmp.Or(name, field.Name) + `":`)
		if err := encoder.Encode(value.Interface()); err != nil {
			return err
		}
		b.Bytes()[b.Len()-1] = ',' // instead of the encoder's newline
	}
	return nil
}

// short returns a line, unless it is too long.
func short(line []byte, err error) ([]byte, error) {
	if err == nil && len(line) > MaxLine {
		return nil, ErrTooLong
	}
	return line, err
}

// encode is json.Marshal without the escapes for HTML: '<' takes one byte and not six. A newline follows.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	err := newEncoder(&b).Encode(v)
	return b.Bytes(), err
}

func newEncoder(b *bytes.Buffer) *json.Encoder {
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	return encoder
}

// ReadLine reads one line and returns it without its newline. It allocates memory only as bytes arrive, so an idle
// or hostile peer costs little. At the end of the input the error is io.EOF, within a line io.ErrUnexpectedEOF.
// The bytes are valid until the next call.
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
