package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

var (
	expires = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	session = Credential{"ASIAIOSFODNN7EXAMPLE", secret.New("the<secret>&key"), secret.New("the/token=="), expires, "product_prod_paul", "eu-west-1", "", false, "444455556666"}
)

// TestRequestLines: the lines as they are sent. A change here is a change of the protocol.
func TestRequestLines(t *testing.T) {
	tests := []struct {
		req  Request
		line string
	}{
		{Request{Verb: Ping}, `{"v":1,"verb":"ping"}`},
		{Request{Verb: Get, Profile: "product_prod_paul"}, `{"v":1,"verb":"get","profile":"product_prod_paul"}`},
		{Request{Verb: Get, Profile: "p", AWSConfig: "/a/config", AWSCredentials: "/a/credentials", Client: "0.1.0"},
			`{"v":1,"verb":"get","profile":"p","aws_config_file":"/a/config","aws_shared_credentials_file":"/a/credentials","client":"0.1.0"}`},
		{Request{Verb: Login, Profile: "security", Code: secret.New("123456")}, `{"v":1,"verb":"login","profile":"security","code":"123456"}`},
		{Request{Verb: Unlock, Passphrase: secret.New("a \"b\"\n")}, `{"v":1,"verb":"unlock","passphrase":"a \"b\"\n"}`},
		{
			Request{
				Verb:    Get,
				Profile: "security",
				Role: &Role{
					ARN:         "arn:aws:iam::444455556666:role/audit",
					ExternalID:  "e",
					Seconds:     900,
					SessionName: "s",
					Policy:      "{}",
					Tags:        []Tag{{"a", ""}},
				},
			},
			`{"v":1,"verb":"get","profile":"security","role":{"arn":"arn:aws:iam::444455556666:role/audit","external_id":"e","duration_seconds":900,"session_name":"s","policy":"{}","tags":[{"key":"a","value":""}]}}`,
		},
		{Request{Verb: Serve, Profile: "p", TokenFile: true}, `{"v":1,"verb":"serve","profile":"p","token_file":true}`},
		{Request{Verb: PrivateFiles, Profile: "a", Also: []string{"b", "c"}}, `{"v":1,"verb":"overlay","profile":"a","also":["b","c"]}`},
		{Request{Verb: Unlock, Proof: secret.New("ab"), StayLocked: true}, `{"v":1,"verb":"unlock","stay_locked":true,"proof":"ab"}`},
		{Request{Verb: Passphrase, Verifier: &Verifier{Stretch{[]byte("salt"), 3, 65536, 4}, []byte("sum")}},
			`{"v":1,"verb":"passphrase","verifier":{"salt":"c2FsdA==","passes":3,"memory_kib":65536,"lanes":4,"sha256":"c3Vt"}}`},
		{Request{Verb: Rotate, Profile: "security", Rotation: &Rotation{RotateStart, 86400, true, false}},
			`{"v":1,"verb":"rotate","profile":"security","rotation":{"step":"start","grace_seconds":86400,"yes":true}}`},
		{Request{Verb: State, Offset: 64}, `{"v":1,"verb":"state","offset":64}`},
		{Request{Verb: BeginLogin, Profile: "s", Page: &Page{Redirect: "http://127.0.0.1:1/oauth/callback"}},
			`{"v":1,"verb":"begin-login","profile":"s","page":{"redirect":"http://127.0.0.1:1/oauth/callback"}}`},
		{Request{Verb: FinishLogin, Profile: "s", Code: secret.New("c"), Page: &Page{"u", "", "s", "ABCD-EFGH", expires,
			time.Second, secret.New("p"), ""}}, `{"v":1,"verb":"finish-login","profile":"s","page":{"url":"u","state":"s",` +
			`"user_code":"ABCD-EFGH","expires":"2026-01-02T15:04:05Z","interval_ms":1000,"proof":"p"},"code":"c"}`},
		{Request{Verb: FinishLogin, Profile: "s", Page: &Page{Adopt: "/cache"}},
			`{"v":1,"verb":"finish-login","profile":"s","page":{"adopt":"/cache"}}`},
	}
	for _, tt := range tests {
		line, err := EncodeRequest(&tt.req)
		if err != nil || string(line) != tt.line+"\n" {
			t.Errorf("got %s, %v; want %s", line, err, tt.line)
		}
		back, err := DecodeRequest(line)
		if err != nil || !same(*back, tt.req) {
			t.Errorf("%s came back as %+v, %v", tt.line, back, err)
		}
	}
}

func TestResponseLines(t *testing.T) {
	tests := []struct {
		resp Response
		line string
	}{
		{Response{Version: "0.1.0"}, `{"v":1,"version":"0.1.0"}`},
		{Response{Count: 3}, `{"v":1,"count":3}`},
		{Response{Lines: []string{"the old key is deactivated"}}, `{"v":1,"lines":["the old key is deactivated"]}`},
		{Response{Err: fault.New(fault.Locked, "no"), Challenge: &Stretch{[]byte("salt"), 3, 65536, 4}},
			`{"v":1,"error":{"kind":"locked","message":"no"},"challenge":{"salt":"c2FsdA==","passes":3,"memory_kib":65536,"lanes":4}}`},
		{Response{Credential: &session, Warnings: []string{"w"}},
			`{"v":1,"warnings":["w"],"credential":{"AccessKeyId":"ASIAIOSFODNN7EXAMPLE","SecretAccessKey":"the<secret>&key","SessionToken":"the/token==","Expiration":"2026-01-02T15:04:05Z","profile":"product_prod_paul","region":"eu-west-1","AccountId":"444455556666"}}`},
		{Response{Endpoint: &Endpoint{"http://127.0.0.1:20000/x", secret.New("t"), "/run/t", "p", "eu-west-1", "arn"}},
			`{"v":1,"endpoint":{"url":"http://127.0.0.1:20000/x","token":"t","token_file":"/run/t","profile":"p","region":"eu-west-1","role":"arn"}}`},
		{Response{Files: &Files{Profile: "a", Profiles: []string{"a", "b"}, Expires: expires, Credentials: "/run/c"}},
			`{"v":1,"overlay":{"profile":"a","expires":"2026-01-02T15:04:05Z","profiles":["a","b"],"aws_shared_credentials_file":"/run/c"}}`},
		{Response{Page: &Page{"u", "r", "s", "", time.Time{}, 0, secret.New("p"), ""}},
			`{"v":1,"page":{"url":"u","redirect":"r","state":"s","proof":"p"}}`},
		{Response{SignIn: &SignIn{"https://s/federation", secret.New("t"), "p", expires}},
			`{"v":1,"sign_in":{"endpoint":"https://s/federation","token":"t","profile":"p","expires":"2026-01-02T15:04:05Z"}}`},
		{Response{Accounts: []Account{{ID: "111122223333", Name: "Paul's", Management: true},
			{ID: "444455556666", Name: "prod", State: "ACTIVE", Path: "Root/Prod"}}, More: true},
			`{"v":1,"accounts":[{"id":"111122223333","name":"Paul's","management":true},` +
				`{"id":"444455556666","name":"prod","state":"ACTIVE","path":"Root/Prod"}],"more":true}`},
		{Response{Assigned: []Assignment{{"111122223333", "Paul's", "Admin"}}},
			`{"v":1,"assigned":[{"account_id":"111122223333","account":"Paul's","role":"Admin"}]}`},
		{Response{Checked: &Checked{WithoutMFA: &Refusal{"no"}, ExternalID: "ignored", MaxSeconds: 3600, Tags: "accepted"}},
			`{"v":1,"checked":{"without_mfa":{"message":"no"},"external_id":"ignored","max_seconds":3600,"tags":"accepted"}}`},
		{
			Response{Err: &fault.Error{Kind: fault.Denied, Message: "no", Hint: "ask"}},
			`{"v":1,"error":{"kind":"denied","message":"no","hint":"ask"}}`,
		},
		{
			Response{
				Status: &Status{
					PID:      1,
					Started:  expires,
					Sessions: []Session{{Source: "s", Profile: "p", Expires: &expires, LastUse: expires}},
				},
			},
			`{"v":1,"status":{"pid":1,"started":"2026-01-02T15:04:05Z","version":"","locked":false,"keyring":"","answered":0,"refused":0,"total":0,"sessions":[{"source":"s","profile":"p","expires":"2026-01-02T15:04:05Z","last_use":"2026-01-02T15:04:05Z"}]}}`,
		},
	}
	for _, tt := range tests {
		line, err := EncodeResponse(&tt.resp)
		if err != nil || string(line) != tt.line+"\n" {
			t.Errorf("got %s, %v; want %s", line, err, tt.line)
		}
		back, err := DecodeResponse(line)
		if err != nil || !same(*back, tt.resp) {
			t.Errorf("%s came back as %+v, %v", tt.line, back, err)
		}
	}
}

// same compares what was sent with what arrived. It compares secrets by their text: each is behind its own
// pointer, which DeepEqual follows.
func same(a, b any) bool { return reflect.DeepEqual(a, b) }

// TestErrorsTravelAsLines: an error is one printable line on the wire.
func TestErrorsTravelAsLines(t *testing.T) {
	line, err := EncodeResponse(&Response{Err: &fault.Error{Kind: fault.Denied, Message: "a\nb\x1b[2J", Hint: "c\nd"}})
	if want := `{"v":1,"error":{"kind":"denied","message":"a b\\x1b[2J","hint":"c\\nd"}}` + "\n"; err != nil ||
		string(line) != want {
		t.Errorf("got %s, %v; want %s", line, err, want)
	}
}

func TestExpirationIsWholeSecondsInUTC(t *testing.T) {
	c := session
	c.Expiration = expires.Add(999 * time.Millisecond).In(time.FixedZone("", 3600))
	line, err := EncodeResponse(&Response{Credential: &c})
	if err != nil || !strings.Contains(string(line), `"Expiration":"2026-01-02T15:04:05Z"`) {
		t.Errorf("got %s, %v", line, err)
	}
}

func TestDecodeRequestRefuses(t *testing.T) {
	tests := []struct {
		name, line string
		kind       fault.Kind
	}{
		{"nothing", "", fault.Usage},
		{"no JSON", "get me in", fault.Usage},
		{"HTTP", "GET / HTTP/1.1", fault.Usage},
		{"half an object", `{"v":1,"verb":"ge`, fault.Usage},
		{"two objects", `{"v":1}{"v":1}`, fault.Usage},
		{"an array", `[1]`, fault.Usage},
		{"a string", `"v"`, fault.Usage},
		{"wrong type", `{"v":1,"verb":7}`, fault.Usage},
		{"raw NUL", "{\"v\":1,\"verb\":\"a\x00\"}", fault.Usage},
		{"deep nesting", `{"v":1,"x":` + strings.Repeat("[", 60000), fault.Usage},
		{"deep and closed", `{"v":1,"x":` + strings.Repeat("[", 30000) + strings.Repeat("]", 30000) + `}`, fault.Usage},
		{"huge number", `{"v":1e400}`, fault.Usage},
		{"number of 60,000 digits", `{"v":` + strings.Repeat("9", 60000) + `}`, fault.Usage},
		{"fraction", `{"v":1.5}`, fault.Usage},
		{"no version", `{"verb":"get"}`, fault.Failed},
		{"null", `null`, fault.Failed},
		{"older version", `{"v":0,"verb":"get"}`, fault.Failed},
		{"newer version", `{"v":2,"verb":"get"}`, fault.Failed},
		{"newer version with other types", `{"v":2,"verb":{"name":"get"},"profile":["p"]}`, fault.Failed},
		{"negative version", `{"v":-1}`, fault.Failed},
	}
	for _, tt := range tests {
		req, err := DecodeRequest([]byte(tt.line))
		if !fault.Is(err, tt.kind) || req != nil {
			t.Errorf("%s: got %+v, %v; want %s", tt.name, req, err, tt.kind)
		}
	}
}

func TestDecodeResponseRefuses(t *testing.T) {
	whole := `{"AccessKeyId":"A","SecretAccessKey":"s","SessionToken":"t","Expiration":"2026-01-02T15:04:05Z"}`
	for name, line := range map[string]string{
		"nothing":           "",
		"no JSON":           "HTTP/1.1 400 Bad Request",
		"no version":        `{"credential":` + whole + `}`,
		"newer version":     `{"v":2,"credential":` + whole + `}`,
		"newer, other type": `{"v":2,"credential":"sealed"}`,
		"no key id":         `{"v":1,"credential":` + strings.Replace(whole, `"A"`, `""`, 1) + `}`,
		"no secret":         `{"v":1,"credential":` + strings.Replace(whole, `"s"`, `""`, 1) + `}`,
		"no token":          `{"v":1,"credential":` + strings.Replace(whole, `"t"`, `""`, 1) + `}`,
		"no expiration":     `{"v":1,"credential":` + strings.Replace(whole, `"2026-01-02T15:04:05Z"`, `""`, 1) + `}`,
		"odd expiration":    `{"v":1,"credential":` + strings.Replace(whole, `2026-01-02T15:04:05Z`, `tomorrow`, 1) + `}`,
		"cut credential":    `{"v":1,"credential":{"AccessKeyId":"A"}}`,
		"an error as text":  `{"v":1,"error":"no"}`,
	} {
		resp, err := DecodeResponse([]byte(line))
		if !fault.Is(err, fault.Unreachable) || resp != nil {
			t.Errorf("%s: got %+v, %v", name, resp, err)
		}
	}
}

// TestUnknownFieldsAreIgnored: both sides ignore the fields of another version.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	req, err := DecodeRequest([]byte(`{"v":1,"verb":"get","profile":"p","novel":{"a":[1,2,{"b":null}]},"trace":1e300}`))
	if err != nil || !same(*req, Request{Verb: Get, Profile: "p"}) {
		t.Errorf("got %+v, %v", req, err)
	}
	resp, err := DecodeResponse([]byte(`{"v":1,"count":2,"novel":[[[]]],"error":{"kind":"of_a_newer_version","message":"m","more":1}}`))
	if err != nil || resp.Count != 2 || resp.Err.Kind.ExitCode() != 1 || resp.Err.Message != "m" {
		t.Errorf("got %+v, %v", resp, err)
	}
}

func TestLimit(t *testing.T) {
	long := func(n int) *Request { return &Request{Verb: Get, Profile: strings.Repeat("x", n)} }
	empty, err := EncodeRequest(long(1))
	if err != nil {
		t.Fatal(err)
	}
	room := MaxLine - len(empty) + 1
	line, err := EncodeRequest(long(room))
	if err != nil || len(line) != MaxLine {
		t.Errorf("the longest request has %d bytes, %v", len(line), err)
	}
	if got, err := ReadLine(bufio.NewReader(bytes.NewReader(line))); err != nil || len(got) != MaxLine-1 {
		t.Errorf("and is read as %d bytes, %v", len(got), err)
	}
	if line, err := EncodeRequest(long(room + 1)); !errors.Is(err, ErrTooLong) {
		t.Errorf("one byte more: %d bytes, %v", len(line), err)
	}
	if _, err := EncodeResponse(&Response{Warnings: []string{strings.Repeat("x", MaxLine)}}); !errors.Is(err, ErrTooLong) {
		t.Errorf("a response over the limit: %v", err)
	}
}

func TestReadLine(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct {
		name, in string
		want     string
		err      error
	}{
		{"a line", "abc\n", "abc", nil},
		{"the first of two", "abc\ndef\n", "abc", nil},
		{"an empty one", "\nabc\n", "", nil},
		{"carriage return stays", "abc\r\n", "abc\r", nil},
		{"nothing", "", "", io.EOF},
		{"cut off", "abc", "", io.ErrUnexpectedEOF},
		{"cut off beyond the buffer", x(5000), "", io.ErrUnexpectedEOF},
		{"the buffer's size", x(15) + "\n", x(15), nil},
		{"one beyond it", x(16) + "\n", x(16), nil},
		{"longest", x(MaxLine-1) + "\n", x(MaxLine - 1), nil},
		{"too long by one", x(MaxLine) + "\n", "", ErrTooLong},
		{"too long and cut off", x(MaxLine + 5000), "", ErrTooLong},
	}
	for _, tt := range tests {
		for how, slow := range map[string]func(io.Reader) io.Reader{
			"at once":      func(r io.Reader) io.Reader { return r },
			"byte by byte": iotest.OneByteReader,
			"data and EOF": iotest.DataErrReader,
		} {
			for _, size := range []int{16, 1024, 1 << 17} {
				got, err := ReadLine(bufio.NewReaderSize(slow(strings.NewReader(tt.in)), size))
				if string(got) != tt.want || !errors.Is(err, tt.err) {
					t.Errorf("%s, %s, buffer %d: got %d bytes, %v; want %d, %v", tt.name, how, size, len(got), err, len(tt.want), tt.err)
				}
			}
		}
	}
	odd := errors.New("odd")
	if _, err := ReadLine(bufio.NewReader(iotest.ErrReader(odd))); !errors.Is(err, odd) {
		t.Errorf("got %v, want the reader's own error", err)
	}
}

// endless is a reader that never ends its line.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	e.read += len(b)
	return len(b), nil
}

func TestReadLineGivesUp(t *testing.T) {
	e := new(endless)
	if _, err := ReadLine(bufio.NewReaderSize(e, 1024)); !errors.Is(err, ErrTooLong) || e.read > MaxLine+1024 {
		t.Errorf("read %d bytes: %v", e.read, err)
	}
}

// TestNoSecretIsPrinted was seen to fail with a secret.String whose Format writes its contents.
func TestNoSecretIsPrinted(t *testing.T) {
	const text = "hush-hush-0123456789"
	req := Request{Verb: Login, Code: secret.New(text), Passphrase: secret.New(text), Proof: secret.New(text)}
	cred := Credential{AccessKeyID: "A", SecretAccessKey: secret.New(text), SessionToken: secret.New(text)}
	resp := Response{Credential: &cred}
	page := Page{Proof: secret.New(text)}
	req.Page, resp.Page = &page, &page
	all := []any{page, &page, req, &req, cred, &cred, resp, &resp, []Request{req}, map[string]Credential{"a": cred}}
	for _, v := range all {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			got := fmt.Sprintf(verb, v)
			if strings.Contains(got, text) || strings.Contains(got, fmt.Sprintf("%x", text)) {
				t.Errorf("%s of a %T prints a secret: %s", verb, v, got)
			}
		}
	}
}

func FuzzDecodeRequest(f *testing.F) {
	for _, s := range []string{`{"v":1,"verb":"get","profile":"p"}`, `{"v":1,"code":"123456"}`, `{"V":1}`, `{"v":2}`, `null`, `[[[`, "{\"v\":1,\"verb\":\"\xff\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := DecodeRequest(b)
		if err != nil {
			if f := fault.Of(err); f.Kind != fault.Usage && f.Kind != fault.Failed || req != nil {
				t.Fatalf("got %+v, %v", req, err)
			}
			return
		}
		line, err := EncodeRequest(req)
		if err != nil {
			return // too long after escaping
		}
		if back, err := DecodeRequest(line); err != nil || !same(*back, *req) {
			t.Fatalf("%+v came back as %+v, %v", req, back, err)
		}
	})
}

func FuzzDecodeResponse(f *testing.F) {
	for _, r := range []Response{{}, {Credential: &session}, {Err: fault.New(fault.Denied, "no")},
		{Status: &Status{Sessions: []Session{{}}}}} {
		line, err := EncodeResponse(&r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Add([]byte(`{"v":1,"credential":{"Expiration":"9999-12-31T23:59:59Z"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		resp, err := DecodeResponse(b)
		if err != nil {
			if !fault.Is(err, fault.Unreachable) || resp != nil {
				t.Fatalf("got %+v, %v", resp, err)
			}
			return
		}
		if c := resp.Credential; c != nil &&
			(c.AccessKeyID == "" || c.SecretAccessKey.IsZero() || c.SessionToken.IsZero() || c.Expiration.IsZero() &&
				!strings.Contains(string(b), "0001-01-01")) {
			t.Fatalf("half a credential: %+v", c)
		}
	})
}

func FuzzReadLine(f *testing.F) {
	f.Add([]byte("a\nb\n"), 16)
	f.Add([]byte("a"), 1024)
	f.Add(bytes.Repeat([]byte("x"), MaxLine+1), 16)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		r := bufio.NewReaderSize(bytes.NewReader(b), max(16, min(size, 1<<17)))
		for rest := b; ; {
			line, err := ReadLine(r)
			want, after, whole := bytes.Cut(rest, []byte("\n"))
			switch {
			case err == nil:
				if !whole || !bytes.Equal(line, want) || len(line) >= MaxLine {
					t.Fatalf("got %q of %q", line, rest)
				}
				rest = after
				continue
			case errors.Is(err, io.ErrUnexpectedEOF) && !whole && len(rest) > 0:
			case errors.Is(err, io.EOF) && len(rest) == 0:
			case errors.Is(err, ErrTooLong) && len(want) >= MaxLine:
			default:
				t.Fatalf("%v for %q", err, rest)
			}
			return
		}
	})
}

// TestPartsComeBack checks that each part of a message that is a value of its own is encoded and decoded.
func TestPartsComeBack(t *testing.T) {
	fill := func(v reflect.Value) (parts int) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Tag.Get("json") == "-" && f.Type.Kind() == reflect.Pointer && f.Type.Elem().PkgPath() == v.Type().PkgPath() {
				v.Field(i).Set(reflect.New(f.Type.Elem()))
				parts++
			}
		}
		return parts
	}
	var req Request
	if n := fill(reflect.ValueOf(&req).Elem()); n < 2 {
		t.Fatalf("only %d parts were found: the test proves nothing", n)
	}
	line, err := EncodeRequest(&req)
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeRequest(line)
	if err != nil || !reflect.DeepEqual(*back, req) {
		t.Errorf("got %+v, want %+v: %v", *back, req, err)
	}
	var resp Response
	if n := fill(reflect.ValueOf(&resp).Elem()); n < 9 {
		t.Fatalf("only %d parts were found: the test proves nothing", n)
	}
	whole := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	resp.Credential = &Credential{
		AccessKeyID:     "A",
		SecretAccessKey: secret.New("s"),
		SessionToken:    secret.New("t"),
		Expiration:      whole,
	}
	resp.Endpoint = &Endpoint{URL: "u", Token: secret.New("t")}
	resp.Token = &Token{Token: secret.New("t")}
	resp.SignIn = &SignIn{Endpoint: "e", Token: secret.New("t"), Expiration: whole}
	if line, err = EncodeResponse(&resp); err != nil {
		t.Fatal(err)
	}
	got, err := DecodeResponse(line)
	if err != nil || !same(*got, resp) {
		t.Errorf("got %+v, want %+v: %v", got, resp, err)
	}
}

// TestObjectIsJSON checks that Object writes what encoding/json writes, for a request with each field alone, with all
// fields, and with none.
func TestObjectIsJSON(t *testing.T) {
	var fields []reflect.Value
	var list func(reflect.Value)
	list = func(s reflect.Value) {
		for i := range s.NumField() {
			name := s.Type().Field(i).Tag.Get("json")
			switch {
			case s.Type().Field(i).Anonymous:
				list(s.Field(i))
			case name != "-" && name != "v" && name != "verb": // those are always there
				fields = append(fields, s.Field(i))
			}
		}
	}
	j := new(requestJSON)
	list(reflect.ValueOf(j).Elem())
	fill := func(f reflect.Value) {
		switch f.Kind() {
		case reflect.String:
			f.SetString("<é\"\\\n\xff>")
		case reflect.Int, reflect.Int64:
			f.SetInt(-1)
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{"a", "b"}))
		default: // a part
			if err := f.Addr().Interface().(json.Unmarshaler).UnmarshalJSON([]byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(what string) {
		t.Helper()
		got, err := Object(j)
		want, werr := encode(j)
		var a, b map[string]any
		if err = errors.Join(err, werr, json.Unmarshal(got, &a), json.Unmarshal(want, &b)); err != nil || !same(a, b) {
			t.Errorf("%s: %v\n%s%s", what, err, got, want)
		}
		if bytes.Count(got, []byte("\n")) != 1 || !bytes.HasSuffix(got, []byte("\n")) {
			t.Errorf("%s: %q is not one line", what, got)
		}
	}
	j.V, j.Verb = Version, Ping
	check("no field")
	for i, f := range fields {
		fill(f)
		check(fmt.Sprint("field ", i))
		f.SetZero()
	}
	for _, f := range fields {
		fill(f)
	}
	check("all fields")
	if got, err := Object(new(requestJSON)); err != nil || string(got) != "{}\n" {
		t.Errorf("nothing: %q, %v", got, err)
	}
}
