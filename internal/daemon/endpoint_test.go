//go:build linux

package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/mfa"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/wire"
)

// lend asks for an endpoint for this process.
func (h *house) lend(t testing.TB, req wire.Request) wire.Endpoint {
	t.Helper()
	req.Verb = wire.Serve
	r := h.ask(t, req)
	if r.Err != nil || r.Endpoint == nil || r.Credential != nil {
		t.Fatalf("serve: %+v", r)
	}
	return *r.Endpoint
}

// home returns the host and path of an endpoint.
func home(e wire.Endpoint) (host, path string) {
	host, path, _ = strings.Cut(strings.TrimPrefix(e.URL, "http://"), "/")
	return host, "/" + path
}

// raw sends bytes and returns the complete answer.
func raw(t testing.TB, host, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", host)
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = conn.Write([]byte(text)) // the connection may be closed before everything is sent
	_ = conn.(*net.TCPConn).SetReadBuffer(1 << 20)
	b, _ := io.ReadAll(conn)
	return string(b)
}

// request returns a request that is answered.
func request(e wire.Endpoint) string {
	host, path := home(e)
	return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: " + e.Token.Reveal() + "\r\n\r\n"
}

// call requests an endpoint like an SDK.
func (h *house) call(t testing.TB, e wire.Endpoint) (status int, body string) {
	t.Helper()
	host, _ := home(e)
	return parts(raw(t, host, request(e)))
}

func parts(answer string) (status int, body string) {
	head, body, _ := strings.Cut(answer, "\r\n\r\n")
	if f := strings.Fields(head); len(f) > 1 {
		status, _ = strconv.Atoi(f[1])
	}
	return status, body
}

// leaks reports whether the answer contains a part of a credential.
func leaks(answer string) bool {
	for _, s := range []string{secretKey, sessionToken, "ASIA", "SecretAccessKey"} {
		for _, text := range forms(s) {
			if strings.Contains(answer, text) {
				return true
			}
		}
	}
	return false
}

func TestEndpoint(t *testing.T) {
	h := start(t)
	e := h.lend(t, wire.Request{Profile: "dev"})
	if e.Profile != "dev" || e.Region != "eu-west-1" || e.TokenFile != "" || e.Role != "" {
		t.Errorf("got %+v", e)
	}
	status, body := h.call(t, e)
	var got map[string]string
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err, body)
	}
	expires, err := time.Parse("2006-01-02T15:04:05Z", got["Expiration"])
	if status != 200 || len(got) != 5 || got["AccountId"] != "444455556666" || got["SecretAccessKey"] != secretKey || got["Token"] != sessionToken ||
		!strings.HasPrefix(got["AccessKeyId"], "ASIA") || err != nil || time.Until(expires) < 55*time.Minute {
		t.Errorf("%d %s", status, body)
	}
	if opened, assumed := h.aws.calls(); opened != 1 || assumed != 1 {
		t.Errorf("%d sessions, %d roles", opened, assumed)
	}
	// What is stored on disk is useless to a thief.
	b, err := os.ReadFile(h.record(t))
	if err != nil || strings.Contains(string(b), e.Token.Reveal()) || leaks(string(b)) {
		t.Errorf("%v %s", err, b)
	}
	if info, err := os.Stat(h.record(t)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	var last audit.Event
	for _, last = range h.trail.all() {
	}
	if last.Event != "given" || last.Delivery != audit.Endpoint || last.PID != os.Getpid() || last.Profile != "dev" ||
		last.KeyID == "" ||
		last.Endpoint == "" ||
		!strings.HasSuffix(e.URL, last.Endpoint) {
		t.Errorf("%+v", last)
	}
	// Without a session, there is no endpoint.
	for name, want := range map[string]fault.Kind{"denied": fault.Denied, "nobody": fault.NotFound, "typed": fault.LoginNeeded, "": fault.Usage} {
		if r := h.ask(t, wire.Request{Verb: wire.Serve, Profile: name}); !refusedAs(r, want) || r.Endpoint != nil {
			t.Errorf("serve %q: %+v", name, r)
		}
	}
	// A role that no profile defines.
	role := "arn:aws:iam::444455556666:role/adhoc"
	e = h.lend(t, wire.Request{Profile: "security", Role: &wire.Role{ARN: role}, TokenFile: true})
	if e.Role != role {
		t.Errorf("%+v", e)
	}
	if b, err := os.ReadFile(e.TokenFile); err != nil || string(b) != e.Token.Reveal() {
		t.Errorf("the token's file: %q, %v", b, err)
	}
	host, path := home(e)
	status, body = parts(raw(t, host, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n"))
	if status != 401 || !strings.Contains(body, "run broker exec without --token-file") {
		t.Errorf("a program that does not know the token file: %d %s", status, body)
	}
	if status, body := h.call(t, e); status != 200 || !strings.Contains(body, "ASIA") {
		t.Errorf("%d %s", status, body)
	}
	h.alive(t)
}

// TestEndpointAnswers: requests that programs send but browsers do not. Clients of the Common Runtime leave the
// port out of Host, and Node's fetch sends its mode.
func TestEndpointAnswers(t *testing.T) {
	h := start(t)
	e := h.lend(t, wire.Request{Profile: "dev"})
	host, path := home(e)
	for _, headers := range []string{
		"Host: " + host,
		"Host: 127.0.0.1",
		"Host: " + host + "\r\nSec-Fetch-Mode: cors\r\nAccept-Language: *",
		"Host: " + host + "\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: cors",
	} {
		answer := raw(t, host, "GET "+path+" HTTP/1.1\r\n"+headers+"\r\nAuthorization: "+e.Token.Reveal()+"\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 200 ") || !strings.Contains(answer, `"AccountId":"`) {
			t.Errorf("%q: %s", headers, answer)
		}
	}
}

// TestEndpointRefuses: requests that a web page, a proxy or a bad client could send. Each request differs in one
// detail from a request that is answered. Each row was seen to fail without the check that it tests.
func TestEndpointRefuses(t *testing.T) {
	h := start(t)
	e := h.lend(t, wire.Request{Profile: "dev"})
	host, path := home(e)
	_, port, _ := strings.Cut(host, ":")
	token := e.Token.Reveal()
	auth := "Authorization: " + token + "\r\n"
	at := "Host: " + host + "\r\n"
	line := func(l string) string { return l + "\r\n" + at + auth + "\r\n" }
	with := func(header string) string { return "GET " + path + " HTTP/1.1\r\n" + at + auth + header + "\r\n\r\n" }
	from := func(host string) string { return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + auth + "\r\n" }
	bearing := func(auth string) string { return "GET " + path + " HTTP/1.1\r\n" + at + auth + "\r\n" }
	rows := []string{
		// methods
		line("POST " + path + " HTTP/1.1"), line("PUT " + path + " HTTP/1.1"), line("HEAD " + path + " HTTP/1.1"), line("OPTIONS " + path + " HTTP/1.1"),
		line("DELETE " + path + " HTTP/1.1"), line("TRACE " + path + " HTTP/1.1"), line("get " + path + " HTTP/1.1"), line("CONNECT " + host + " HTTP/1.1"),
		line("OPTIONS * HTTP/1.1"), line("PATCH " + path + " HTTP/1.1"),
		// request lines
		line("GET http://" + host + path + " HTTP/1.1"), line("GET http://evil.example" + path + " HTTP/1.1"), line("GET //" + host + path + " HTTP/1.1"),
		line("GET " + path + "? HTTP/1.1"), line("GET " + path + "?x=1 HTTP/1.1"), line("GET " + path + "/ HTTP/1.1"), line("GET " + path + "#x HTTP/1.1"),
		line("GET /x/.." + path + " HTTP/1.1"), line("GET /" + path + " HTTP/1.1"), line("GET " + strings.Replace(path, "c", "%63", 1) + " HTTP/1.1"),
		line("GET " + strings.ToUpper(path) + " HTTP/1.1"), line("GET " + path[:len(path)-1] + " HTTP/1.1"), line("GET /credentials/ HTTP/1.1"), line("GET / HTTP/1.1"),
		line("GET " + path + ";x HTTP/1.1"), line("GET " + path + "%00 HTTP/1.1"), line("GET * HTTP/1.1"), line("GET  " + path + " HTTP/1.1"),
		line("GET " + path), line("GET " + path + " HTTP/2.0"), line("GET " + path + " HTTP/0.9"), line("GET " + path + " HTTP/1.1 x"),
		// hosts: rebinding
		from("evil.example"), from("evil.example:" + port), from("localhost:" + port), from("localhost"), from("127.0.0.2"), from("[::1]"), from("127.0.0.1:"),
		from("127.0.0.1:80"), from("127.0.0.2:" + port),
		from("127.1:" + port), from("[::1]:" + port), from("[::ffff:127.0.0.1]:" + port), from("2130706433:" + port), from("0.0.0.0:" + port), from(host + "."),
		from("127.0.0.1.:" + port), from("user@" + host), from(""), from(host + "\r\nHost: evil.example"), from(host + "\r\nHost: " + host), from(host + ", " + host),
		"GET " + path + " HTTP/1.1\r\n" + auth + "\r\n", "GET " + path + " HTTP/1.0\r\n" + auth + "\r\n",
		// what a browser adds
		with("Origin: http://evil.example"), with("Origin: null"), with("Origin: http://" + host), with("Origin:"), with("Referer: http://evil.example/"), with("Referer:"),
		with("Sec-Fetch-Site: cross-site"), with("Sec-Fetch-Site: same-site"), with("Sec-Fetch-Site: same-origin"),
		with("Sec-Fetch-Site:"), with("Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site"), with("Sec-Fetch-Mode: cors\r\nOrigin: null"),
		with("Sec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1"), with("sec-fetch-dest: empty"), with("Sec-CH-UA: x"),
		with("Cookie: a=b"), with("Access-Control-Request-Method: GET"), with("Access-Control-Request-Private-Network: true"), with("Sec-WebSocket-Key: x"),
		// what a proxy adds
		with("Forwarded: for=1.2.3.4"), with("X-Forwarded-For: 127.0.0.1"), with("x-forwarded-host: " + host), with("X-Forwarded-Proto: http"), with("X-Real-IP: 127.0.0.1"),
		with("Via: 1.1 proxy"), with("Proxy-Authorization: x"), with("Proxy-Connection: close"),
		// tokens; each wrong one counts, so fewer than 20
		bearing(""), bearing(auth + auth), bearing(auth + "Authorization: x\r\n"), bearing("Authorization:\r\n"), bearing("Authorization: x\r\n"),
		bearing("Authorization: Bearer " + token + "\r\n"), bearing("Authorization: Basic " + token + "\r\n"), bearing("Authorization: " + token + token + "\r\n"),
		bearing("Authorization: " + token[:63] + "\r\n"), bearing("Authorization: " + strings.ToUpper(token) + "\r\n"), bearing("Authorization: " + token + "," + token + "\r\n"),
		bearing("X-Aws-Authorization: " + token + "\r\n"), bearing("Proxy-Authorization: " + token + "\r\n"), bearing("Authorization : " + token + "\r\n"),
		bearing("Authorization: " + token + "\x00\r\n"),
		// bodies, upgrades, smuggling
		with("Content-Length: 1") + "x", with("Transfer-Encoding: chunked") + "0\r\n\r\n", with("Transfer-Encoding: gzip"), with("Content-Length: -1"),
		with("Content-Length: 0\r\nContent-Length: 1"), with("Content-Length: 4\r\nTransfer-Encoding: chunked") + "0\r\n\r\n",
		with("Expect: 100-continue"), with("Upgrade: websocket\r\nConnection: Upgrade"), with("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings"),
		// not HTTP, too much, broken
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 512), "\r\n\r\n\r\n\r\n", "GET\r\n\r\n",
		`{"v":1,"verb":"get","profile":"dev"}` + "\n\r\n\r\n", with("X: " + strings.Repeat("x", 64<<10)), with(strings.Repeat("X: x\r\n", 4000) + "X: x"),
		line("GET /" + strings.Repeat("a", 64<<10) + " HTTP/1.1"), with("a b: x"), with(": x"), bearing("Authorization: " + token + "\r\n x\r\n"), with("X: \x01"), with("noheader"),
	}
	if len(rows) < 60 {
		t.Fatalf("only %d rows", len(rows))
	}
	for _, row := range rows {
		answer := raw(t, host, row)
		status, _ := parts(answer)
		if leaks(answer) || strings.Contains(answer, "Access-Control") || answer != "" && (status < 400 || status > 505) {
			t.Errorf("%.300q is answered with %.300q", row, answer)
		}
		if strings.Contains(answer, token) {
			t.Errorf("%.300q: the token comes back", row)
		}
	}
	t.Logf("%d requests", len(rows))
	// The same requests without that detail, written as the tools write them, are answered. Otherwise the rows
	// above would prove nothing.
	for _, good := range []string{
		request(e),
		"GET " + path + " HTTP/1.0\r\n" + at + auth + "\r\n",
		with("Accept: application/json\r\nUser-Agent: aws-sdk-go-v2/1.2\r\nAccept-Encoding: identity\r\nConnection: keep-alive"),
		"GET " + path + " HTTP/1.1\r\nhost:" + host + "\r\nauthorization:" + token + "\r\n\r\n",
		with("Connection: close\r\nContent-Length: 0"),
	} {
		answer := raw(t, host, good)
		if status, body := parts(answer); status != 200 || !strings.Contains(body, "ASIA") || strings.Contains(answer, "Access-Control") {
			t.Errorf("%.300q is answered with %.300q", good, answer)
		}
	}
	for _, ev := range h.trail.all() {
		if ev.Event == "refused" && (ev.Kind != fault.Denied || ev.Message == "") {
			t.Errorf("%+v", ev)
		}
	}
	h.alive(t)
}

// TestEndpointSlow: a client that delays its request costs only its connection, and only for seconds.
func TestEndpointSlow(t *testing.T) {
	h := start(t)
	e := h.lend(t, wire.Request{Profile: "dev"})
	host, _ := home(e)
	back := calm(t)
	for range 50 {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = conn.Write([]byte("GET /"))
		go func() { _, _ = io.Copy(io.Discard, conn); _ = conn.Close() }()
	}
	if status, _ := h.call(t, e); status != 200 {
		t.Errorf("with idle connections: %d", status)
	}
	back()
}

// TestEndpointGuesses: after twenty wrong tokens, the right one is refused too.
func TestEndpointGuesses(t *testing.T) {
	h := start(t)
	e := h.lend(t, wire.Request{Profile: "dev", TokenFile: true})
	right := e.Token
	for i := range 20 {
		if status, _ := h.call(t, e); status != 200 {
			t.Fatalf("after %d wrong tokens: %d", i, status)
		}
		e.Token = secret.New(fmt.Sprintf("%064x", i))
		if status, body := h.call(t, e); status != 401 || leaks(body) {
			t.Fatalf("a wrong token: %d %s", status, body)
		}
		e.Token = right
	}
	if status, body := h.call(t, e); status == 200 || leaks(body) {
		t.Errorf("the right token after %d wrong ones: %d %s", 20, status, body)
	}
	if _, err := os.Stat(e.TokenFile); err == nil {
		t.Error("the token file still exists")
	}
	n := 0
	for _, ev := range h.trail.all() {
		if ev.Event == "revoked" && ev.PID == os.Getpid() && ev.Profile == "dev" && strings.HasSuffix(e.URL, ev.Endpoint) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("recorded %d times", n)
	}
	// A new endpoint can still be had.
	if status, _ := h.call(t, h.lend(t, wire.Request{Profile: "dev"})); status != 200 {
		t.Errorf("a new one: %d", status)
	}
}

// TestEndpointEnds: an endpoint ends with its process.
func TestEndpointEnds(t *testing.T) {
	h := start(t)
	child := plays(t, "play-owner", h.path)
	ours := h.lend(t, wire.Request{Profile: "dev"})
	e := lendTo(t, child)
	other := lendTo(t, child)
	if status, _ := h.call(t, e); status == 200 {
		t.Error("a process has two endpoints")
	}
	e = other
	if status, _ := h.call(t, e); status != 200 {
		t.Fatalf("while it lives: %d", status)
	}
	if err := child.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Do not wait for the process: until then it is a zombie, which counts as ended too.
	until(t, "its lease ends", func() bool { status, _ := h.call(t, e); return status != 200 })
	_ = child.cmd.Wait()
	if status, body := h.call(t, e); status == 200 || leaks(body) {
		t.Errorf("after its end: %d %s", status, body)
	}
	if status, _ := h.call(t, ours); status != 200 {
		t.Errorf("the endpoint of another process: %d", status)
	}
}

// lendTo asks for an endpoint for another process.
func lendTo(t testing.TB, p *player) wire.Endpoint {
	t.Helper()
	r := p.ask(t, wire.Request{Verb: wire.Serve, Profile: "dev", TokenFile: true})
	if r.Endpoint == nil {
		t.Fatalf("serve: %+v", r)
	}
	return *r.Endpoint
}

// TestEndpointWaits: a program does not wait for a person, nor longer than SDKs wait. The fetch that it started
// continues without it.
func TestEndpointWaits(t *testing.T) {
	h := build(t, t.TempDir(), registry)
	h.Window = func(context.Context, mfa.Prompt) (secret.String, error) {
		t.Error("a person was asked")
		return secret.String{}, mfa.ErrNobody
	}
	h.run(t)
	if r := h.ask(t, wire.Request{Verb: wire.Login, Profile: "typed", Code: secret.New(code)}); r.Err != nil {
		t.Fatal(r.Err)
	}
	typed := h.lend(t, wire.Request{Profile: "typed"})
	dev := lendTo(t, plays(t, "play-owner", h.path))
	if status, _ := h.call(t, typed); status != 200 {
		t.Fatalf("with a session: %d", status)
	}
	h.Broker.Lock() // drops the cached sessions
	h.Broker.Unlock()
	status, body := h.call(t, typed)
	if status != 403 || !strings.Contains(body, `"code":"login_needed"`) || !strings.Contains(body, "broker login typed") || leaks(body) {
		t.Errorf("an endpoint that needs a code: %d %s", status, body)
	}
	gate := make(chan struct{})
	h.aws.set(func(a *aws) { a.gate = gate })
	before := time.Now()
	status, body = h.call(t, dev)
	if status != 503 || !strings.Contains(body, "try again") || leaks(body) {
		t.Errorf("while AWS is slow: %d %s", status, body)
	}
	t.Logf("answered after %v", time.Since(before))
	close(gate)
	until(t, "it is there for the next", func() bool { status, _ := h.call(t, dev); return status == 200 })
	if _, assumed := h.aws.calls(); assumed != 2 {
		t.Errorf("%d roles were assumed, want one before the lock and one after", assumed)
	}
	h.aws.set(func(a *aws) {
		a.gate = nil
		a.fail = func(session.Call) error { return fault.New(fault.Network, "no route to AWS") }
	})
	h.Broker.Lock()
	h.Broker.Unlock()
	if status, body := h.call(t, dev); status != 503 || !strings.Contains(body, `"code":"network","message":"no route to AWS`) {
		t.Errorf("without AWS: %d %s", status, body)
	}
}

// TestEndpointLocked: an endpoint hands out nothing while Broker is locked, and nothing after a logout. Otherwise
// a program that keeps running would open a new session at once.
func TestEndpointLocked(t *testing.T) {
	h := start(t)
	e := h.lend(t, wire.Request{Profile: "dev"})
	h.ask(t, wire.Request{Verb: wire.Lock})
	if status, body := h.call(t, e); status != 403 || !strings.Contains(body, `"code":"locked"`) ||
		!strings.Contains(body, "broker unlock") ||
		leaks(body) {
		t.Errorf("locked: %d %s", status, body)
	}
	if r := h.ask(t, wire.Request{Verb: wire.Serve, Profile: "dev"}); !refusedAs(r, fault.Locked) || r.Endpoint != nil {
		t.Errorf("locked: %+v", r)
	}
	h.ask(t, wire.Request{Verb: wire.Unlock})
	if status, _ := h.call(t, e); status != 200 {
		t.Errorf("unlocked: %d", status)
	}
	for _, source := range []string{"security", ""} {
		opened, _ := h.aws.calls()
		h.ask(t, wire.Request{Verb: wire.Logout, Profile: source})
		if status, body := h.call(t, e); status != 403 || !strings.Contains(body, "broker login security") || leaks(body) {
			t.Errorf("logged out: %d %s", status, body)
		}
		if now, _ := h.aws.calls(); now != opened {
			t.Error("a program's request opened a new session")
		}
		h.ask(t, wire.Request{Verb: wire.Login, Profile: "typed", Code: secret.New(code)}) // of another source
		if status, _ := h.call(t, e); status != 403 {
			t.Errorf("after a login of another source: %d", status)
		}
		h.ask(t, wire.Request{Verb: wire.Login, Profile: "dev"})
		if status, _ := h.call(t, e); status != 200 {
			t.Errorf("logged in: %d", status)
		}
	}
	h.ask(t, wire.Request{Verb: wire.Logout, Profile: "typed"})
	if status, _ := h.call(t, e); status != 200 {
		t.Errorf("after a logout of another source: %d", status)
	}
}

// TestEndpointRestart: the next daemon serves the same address. If the port was taken, status warns, and the
// daemon takes the port when it can.
func TestEndpointRestart(t *testing.T) {
	dir := t.TempDir()
	first := build(t, dir, registry).run(t)
	e := first.lend(t, wire.Request{Profile: "dev"})
	gone := plays(t, "play-owner", first.path)
	dead := lendTo(t, gone)
	host, _ := home(e)
	stray := first.path + ".token-" + strings.Repeat("0", 32)
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stop := func(h *house) {
		h.stop()
		if err := <-h.ended; err != nil {
			t.Fatal(err)
		}
		h.ended <- nil
		if conn, err := net.Dial("tcp", host); err == nil {
			_ = conn.Close()
			t.Fatal("the old daemon still listens")
		}
	}
	stop(first)
	gone.kill()
	second := build(t, dir, registry).run(t)
	if status, _ := second.call(t, e); status != 200 {
		t.Errorf("the next daemon: %d", status)
	}
	if status, _ := second.call(t, dead); status == 200 {
		t.Error("the endpoint of an ended process is served")
	}
	for _, file := range []string{stray, dead.TokenFile} {
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s still exists", file)
		}
	}
	second.ask(t, wire.Request{Verb: wire.Logout})
	stop(second)

	taker, err := net.Listen("tcp4", host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taker.Close() }()
	third := build(t, dir, registry).run(t)
	s := third.ask(t, wire.Request{Verb: wire.State}).Status
	if !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, host) }) {
		t.Errorf("no warning that %s was taken: %q", host, s.Warnings)
	}
	other := lendTo(t, plays(t, "play-owner", third.path))
	if status, _ := third.call(t, other); status != 200 || strings.Contains(other.URL, host) {
		t.Errorf("the endpoint of another process: %d at %s", status, other.URL)
	}
	_ = taker.Close()
	until(t, "it listens again", func() bool { status, _ := third.call(t, e); return status != 0 })
	if status, body := third.call(t, e); status != 403 || !strings.Contains(body, "logged out") {
		t.Errorf("logged out before the restart: %d %s", status, body)
	}
	third.ask(t, wire.Request{Verb: wire.Login, Profile: "dev"})
	if status, _ := third.call(t, e); status != 200 {
		t.Errorf("after the port was free again: %d", status)
	}
	if s := third.ask(t, wire.Request{Verb: wire.State}).Status; len(s.Warnings) != 0 {
		t.Errorf("the warning %q is still there", s.Warnings)
	}
}

// TestEndpointWarm: an unused session is refreshed while the program lives. A session that AWS refuses is not
// requested in a loop.
func TestEndpointWarm(t *testing.T) {
	h := start(t)
	h.lend(t, wire.Request{Profile: "dev"})
	forget := func() {
		h.Broker.Lock()
		h.Broker.Unlock()
		h.grants.Resume()
	}
	forget()
	until(t, "it is fetched by itself", func() bool { _, n := h.aws.calls(); return n == 2 })
	h.aws.set(func(a *aws) { a.fail = func(session.Call) error { return fault.New(fault.Denied, "no") } })
	forget()
	until(t, "it is tried", func() bool { _, n := h.aws.calls(); return n == 3 })
	h.looked(t)
	if _, n := h.aws.calls(); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
}

// TestVerbsHaveAClass: a verb without a class is refused for everybody. Over a door, only ping and get are answered.
func TestVerbsHaveAClass(t *testing.T) {
	for name, v := range verbs {
		if v.class != anywhere && v.class != here {
			t.Errorf("%s has no class", name)
		}
		if want := name == wire.Ping || name == wire.Get; v.class.admits(new(doorway)) != want {
			t.Errorf("%s over a door: %v", name, !want)
		}
	}
	if class(0).admits(nil) || class(0).admits(new(doorway)) || !here.admits(nil) {
		t.Error("a verb without a class is answered, or a verb with a class is not")
	}
}
