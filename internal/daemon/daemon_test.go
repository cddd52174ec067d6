//go:build linux

package daemon

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"broker/internal/audit"
	"broker/internal/dial"
	"broker/internal/fault"
	"broker/internal/grant"
	"broker/internal/mfa"
	"broker/internal/peer"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/socket"
	"broker/internal/testproc"
	"broker/internal/wire"
)

func TestVerbs(t *testing.T) {
	h := start(t)
	kind := func(r wire.Response) fault.Kind {
		if r.Err == nil {
			return ""
		}
		return r.Err.Kind
	}
	if r := h.ask(t, wire.Request{Verb: wire.Ping}); r.Err != nil || r.Version != "test" || r.Credential != nil {
		t.Errorf("ping: %+v", r)
	}
	c := h.get(t, "dev").Credential
	if c == nil || c.SecretAccessKey.Reveal() != secretKey || c.SessionToken.Reveal() != sessionToken ||
		c.Profile != "dev" ||
		c.Region != "eu-west-1" ||
		time.Until(c.Expiration) < 55*time.Minute {
		t.Errorf("get: %+v", c)
	}
	for name, want := range map[string]fault.Kind{"denied": fault.Denied, "nobody": fault.NotFound,
		"typed": fault.LoginNeeded, "": fault.Usage, "a\x00b": fault.Usage} {
		if r := h.get(t, name); kind(r) != want || r.Credential != nil {
			t.Errorf("get %q: %+v, want %s", name, r, want)
		}
	}
	r := h.ask(t, wire.Request{Verb: wire.Login, Profile: "typed", Code: secret.New(code)})
	if r.Err != nil || r.Credential != nil || len(r.Status.Sessions) != 1 || r.Status.Sessions[0].Source != "typed" ||
		r.Status.Sessions[0].AccessKeyID != "" {
		t.Errorf("login gives more or less than its times: %+v", r)
	}
	s := h.ask(t, wire.Request{Verb: wire.State}).Status
	if s == nil || s.PID != os.Getpid() || s.Answered != 1 || s.Refused != 5 || s.Total != 4 || len(s.Sessions) != 4 ||
		s.Locked {
		t.Errorf("state: %+v", s)
	}
	if r := h.ask(t, wire.Request{Verb: wire.Logout, Profile: "typed"}); r.Err != nil || r.Count != 1 {
		t.Errorf("logout of one: %+v", r)
	}
	if r := h.ask(t, wire.Request{Verb: wire.Logout}); r.Err != nil || r.Count != 2 {
		t.Errorf("logout of all: %+v", r)
	}
	for _, verb := range []string{"", "GET", "put", "get\n", "vault"} {
		if r := h.ask(t, wire.Request{Verb: verb, Profile: "dev"}); kind(r) != fault.Usage || r.Credential != nil {
			t.Errorf("verb %q: %+v", verb, r)
		}
	}
	h.alive(t)
}

// TestOneConnection: one connection serves requests one after the other.
func TestOneConnection(t *testing.T) {
	h := start(t)
	l := connect(t, h.path)
	for range 100 {
		l.send(t, wire.Request{Verb: wire.Get, Profile: "dev"})
		if r := l.read(t); r.Credential == nil {
			t.Fatalf("got %+v", r)
		}
	}
	for range 10 { // even if the client does not wait for each answer
		l.send(t, wire.Request{Verb: wire.Ping})
	}
	for range 10 {
		if r := l.read(t); r.Version != "test" {
			t.Fatalf("got %+v", r)
		}
	}
}

// TestLocked: while Broker is locked, no credential leaves, cached or not. Seen to fail without refuseLocked at
// the start of Broker.Credentials.
func TestLocked(t *testing.T) {
	h := start(t)
	if h.get(t, "dev").Credential == nil {
		t.Fatal("not served before")
	}
	if r := h.ask(t, wire.Request{Verb: wire.Lock}); r.Err != nil || h.keyring.forgotten.Load() != 1 {
		t.Errorf("lock: %+v, the passphrase was forgotten %d times", r, h.keyring.forgotten.Load())
	}
	for _, req := range []wire.Request{
		{Verb: wire.Get, Profile: "dev"}, {Verb: wire.Get, Profile: "security"}, {Verb: wire.Get, Profile: "nobody"},
		{Verb: wire.Login, Profile: "dev"}, {Verb: wire.Login, Profile: "typed", Code: secret.New(code)},
	} {
		if r := h.ask(t, req); r.Err == nil || r.Err.Kind != fault.Locked || r.Credential != nil || r.Status != nil {
			t.Errorf("%s %s: %+v", req.Verb, req.Profile, r)
		}
	}
	if s := h.ask(t, wire.Request{Verb: wire.State}).Status; !s.Locked || len(s.Sessions) != 0 {
		t.Errorf("state: %+v", s)
	}
	if r := h.ask(t, wire.Request{Verb: wire.Unlock, Passphrase: secret.New("wrong")}); r.Err == nil ||
		r.Err.Kind != fault.KeyringLocked {
		t.Errorf("unlock with a wrong passphrase: %+v", r)
	}
	if r := h.get(t, "dev"); r.Credential != nil {
		t.Error("a wrong passphrase unlocked the daemon")
	}
	if r := h.ask(t, wire.Request{Verb: wire.Unlock, Passphrase: secret.New(passphrase)}); r.Err != nil {
		t.Errorf("unlock: %+v", r)
	}
	if h.get(t, "dev").Credential == nil {
		t.Error("not served after unlock")
	}
	if _, assumed := h.aws.calls(); assumed != 2 {
		t.Errorf("%d AssumeRole: the session outlived the lock", assumed)
	}
}

// TestBadFrames: after a malformed, huge or deeply nested request, the next client is served while the bad sender
// is still connected.
func TestBadFrames(t *testing.T) {
	h := start(t)
	check := calm(t)
	frames := map[string]string{
		"nothing":          "",
		"empty lines":      "\n\n\n\n",
		"no JSON":          "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"NUL":              "\x00\x00\x00\n",
		"NUL in a name":    "{\"v\":1,\"verb\":\"get\",\"profile\":\"a\\u0000b\"}\n",
		"bad UTF-8":        "{\"v\":1,\"verb\":\"get\",\"profile\":\"\xff\xfe\"}\n",
		"deep":             strings.Repeat("[", 65000) + "\n",
		"deep in a field":  `{"v":1,"verb":"ping","x":` + strings.Repeat(`{"a":`, 10000) + "\n",
		"huge number":      `{"v":1,"verb":"state","offset":1` + strings.Repeat("0", 60000) + "}\n",
		"negative offset":  `{"v":1,"verb":"state","offset":-9223372036854775808}` + "\n",
		"offset too far":   `{"v":1,"verb":"state","offset":9223372036854775807}` + "\n",
		"huge":             strings.Repeat("x", 8<<20),
		"huge with an end": strings.Repeat("x", 70000) + "\n",
		"cut off":          `{"v":1,"verb":"get","prof`,
		"another version":  `{"v":7,"verb":"get","profile":"dev"}` + "\n",
		"null":             "null\n",
		"hostile path":     `{"v":1,"verb":"get","profile":"dev","aws_config_file":"/dev/zero","aws_shared_credentials_file":"../../etc"}` + "\n",
	}
	for name, frame := range frames {
		for range 3 {
			l := connect(t, h.path)
			_, _ = io.WriteString(l, frame)
			h.alive(t)
			_ = l.Conn.(*net.UnixConn).CloseWrite()
			answer, _ := io.ReadAll(l.r)
			for one := range strings.Lines(string(answer)) {
				r, err := wire.DecodeResponse([]byte(one))
				if err != nil {
					t.Errorf("%s: answered %q", name, one)
				}
				if r.Err == nil && r.Status == nil || r.Credential != nil {
					t.Errorf("%s: answered %+v", name, r)
				}
			}
			if ended := strings.HasSuffix(frame, "\n") && !strings.HasPrefix(name, "huge with"); ended && len(answer) == 0 {
				t.Errorf("%s: not answered", name)
			}
			_ = l.Close()
		}
	}
	h.alive(t)
	check()
}

// TestCallerLeaves: a client that disconnects during a request does not affect other clients, and the session that
// was fetched for it is cached for the next one.
func TestCallerLeaves(t *testing.T) {
	h := start(t)
	check := calm(t)
	gate := make(chan struct{})
	h.aws.set(func(a *aws) { a.gate = gate })
	leaver, stayer := connect(t, h.path), connect(t, h.path)
	leaver.send(t, wire.Request{Verb: wire.Get, Profile: "dev"})
	until(t, "the call is under way", func() bool { _, n := h.aws.calls(); return n == 1 })
	stayer.send(t, wire.Request{Verb: wire.Get, Profile: "dev"})
	_ = leaver.Close()
	h.alive(t)
	close(gate)
	if r := stayer.read(t); r.Credential == nil {
		t.Errorf("the client that stayed: %+v", r)
	}
	_ = stayer.Close()
	if r := h.get(t, "dev"); r.Credential == nil {
		t.Errorf("the next client: %+v", r)
	}
	if opened, assumed := h.aws.calls(); opened != 1 || assumed != 1 {
		t.Errorf("%d opened, %d assumed", opened, assumed)
	}
	check()
}

// TestSeatComesFromTheKernel: a client can neither claim the terminal of another, nor show its own text there as the
// name of a terminal.
func TestSeatComesFromTheKernel(t *testing.T) {
	self := peer.Peer{UID: os.Getuid(), Process: peer.Process{PID: os.Getpid()}}
	c := call{req: &wire.Request{CanAsk: true, TTY: "/dev/pts/1 of your bank"},
		peer: grant.CallerOf(self)}
	want := strings.TrimPrefix(self.Terminal(), "/dev/")
	if seat, _ := newTerminal(c).Seat(); seat != want {
		t.Errorf("the seat is %q, want %q", seat, want)
	}
	if q := c.prompt(session.Prompt{}); q.TTY != self.Terminal() {
		t.Errorf("a window would come up on %q, want %q", q.TTY, self.Terminal())
	}
}

// TestNoPromptAfterTheCallerLeft: a client that ends during a prompt at its terminal is not prompted anywhere else.
// pinentry would take over the terminal, which belongs to the shell again by then. Seen to fail without the check
// of gone.
func TestNoPromptAfterTheCallerLeft(t *testing.T) {
	h := build(t, t.TempDir(), registry)
	h.Window = func(context.Context, mfa.Prompt) (secret.String, error) {
		t.Error("asked in a window")
		return secret.String{}, mfa.ErrNobody
	}
	h.run(t)
	_ = h.asking(t).Close()
	until(t, "the request ends", func() bool {
		return slices.ContainsFunc(h.trail.all(), func(e audit.Event) bool { return e.Event == "refused" })
	})
}

func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for give := time.Now().Add(patience); time.Now().Before(give); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("timed out waiting until %s", what)
}

// TestIdleConnections: 2,000 idle connections do not keep a client from being served, and are served themselves
// once they send a request.
func TestIdleConnections(t *testing.T) {
	raise(t, 8192)
	h := start(t)
	check := calm(t)
	var idle []line
	for range 2000 {
		idle = append(idle, connect(t, h.path))
	}
	until(t, "all are accepted", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.conns) == 2000 })
	for range 100 {
		if r := h.get(t, "dev"); r.Credential == nil {
			t.Fatalf("got %+v", r)
		}
	}
	for _, l := range idle {
		l.send(t, wire.Request{Verb: wire.Ping})
		if r := l.read(t); r.Version != "test" {
			t.Fatalf("a connection that was idle got %+v", r)
		}
		_ = l.Close()
	}
	check()
}

// TestIdleConnectionIsClosed: a connection that was idle for a minute is closed, unless a request runs on it.
func TestIdleConnectionIsClosed(t *testing.T) {
	d := New(Config{})
	resting := time.Now().Add(-2 * idleTimeout)
	want := map[net.Conn]bool{}
	for _, c := range []struct {
		visit
		stays bool
	}{
		{visit{since: resting}, false},
		{visit{since: resting, asked: true}, false},
		{visit{since: resting, asked: true, busy: true}, true},
		{visit{since: time.Now()}, true},
		{visit{since: time.Now(), asked: true}, true},
	} {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = theirs.Close() })
		d.conns[ours], want[ours] = &c.visit, c.stays
	}
	d.closeIdle(idleTimeout, idleTimeout)
	for conn, stays := range want {
		if _, there := d.conns[conn]; there != stays {
			t.Errorf("a connection that should stay (%t): %t", stays, there)
		}
		if err := conn.SetDeadline(time.Time{}); stays != (err == nil) {
			t.Errorf("a connection that should be open (%t): %v", stays, err)
		}
	}
}

// TestManyAtOnce: clients that ask on their own connections before AWS has answered cost one call of each kind.
func TestManyAtOnce(t *testing.T) { askAtOnce(t, 1000) }

func TestFiveThousandAtOnceLong(t *testing.T) { askAtOnce(t, 5000) }

func askAtOnce(t *testing.T, n int) {
	t.Helper()
	raise(t, 16384)
	h := start(t)
	check := calm(t)
	gate := make(chan struct{})
	h.aws.set(func(a *aws) { a.gate = gate })
	lines := make([]line, n)
	for i := range lines {
		lines[i] = connect(t, h.path)
		lines[i].send(t, wire.Request{Verb: wire.Get, Profile: "dev"})
	}
	until(t, "all are under way", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		busy := 0
		for _, v := range h.conns {
			if v.busy {
				busy++
			}
		}
		return busy == n
	})
	close(gate)
	ids := map[string]int{}
	for _, l := range lines {
		if r := l.read(t); r.Credential != nil {
			ids[r.Credential.AccessKeyID]++
		}
		_ = l.Close()
	}
	if opened, assumed := h.aws.calls(); opened != 1 || assumed != 1 || len(ids) != 1 || ids["ASIA0000000000000002"] != n {
		t.Errorf("%d opened, %d assumed, answers %v", opened, assumed, ids)
	}
	h.alive(t)
	check()
}

// TestPanicInAVerb: a panic while one client is served ends only that connection. Without the recover in serve, it
// was seen to end the test binary.
func TestPanicInAVerb(t *testing.T) {
	h := start(t)
	check := calm(t)
	other := connect(t, h.path)
	for range 20 {
		l := connect(t, h.path)
		l.send(t, wire.Request{Verb: wire.Unlock, Passphrase: secret.New("panic")})
		if err := l.ended(); err != nil {
			t.Errorf("the client of the panic: %v", err)
		}
		_ = l.Close()
	}
	other.send(t, wire.Request{Verb: wire.Get, Profile: "dev"})
	if r := other.read(t); r.Credential == nil {
		t.Errorf("another client: %+v", r)
	}
	_ = other.Close()
	h.alive(t)
	check()
}

// TestDrain: a daemon that is told to end finishes the requests in flight. Seen to fail ("gave up waiting") with
// requests on the context that ends the daemon.
func TestDrain(t *testing.T) {
	h := start(t)
	gate := make(chan struct{})
	h.aws.set(func(a *aws) { a.gate = gate })
	slow, idle := connect(t, h.path), connect(t, h.path)
	slow.send(t, wire.Request{Verb: wire.Get, Profile: "dev"})
	until(t, "the call is under way", func() bool { _, n := h.aws.calls(); return n == 1 })
	h.stop()
	if err := idle.ended(); err != nil {
		t.Errorf("an idle connection: %v", err)
	}
	if _, err := dial.Dial(t.Context(), h.path); !errors.Is(err, dial.ErrNobody) {
		t.Errorf("a new connection: %v", err)
	}
	close(gate)
	if r := slow.read(t); r.Credential == nil {
		t.Errorf("the running request: %+v", r)
	}
	if err := slow.ended(); err != nil {
		t.Errorf("after the drain: %v", err)
	}
	if err := <-h.ended; err != nil {
		t.Error(err)
	}
	h.ended <- nil
	if e := h.trail.all(); e[len(e)-1].Event != "stop" {
		t.Errorf("the last event is %+v", e[len(e)-1])
	}
}

func TestDrainHasAnEnd(t *testing.T) {
	h := build(t, t.TempDir(), registry)
	h.patience = drainTimeout
	h.run(t)
	h.alive(t)
	check := calm(t)
	gate := make(chan struct{})
	h.aws.set(func(a *aws) { a.gate = gate })
	slow := connect(t, h.path)
	slow.send(t, wire.Request{Verb: wire.Get, Profile: "dev"})
	until(t, "the call is under way", func() bool { _, n := h.aws.calls(); return n == 1 })
	before := time.Now()
	h.stop()
	if err := slow.ended(); err != nil {
		t.Errorf("the request that is too slow: %v", err)
	}
	if err := <-h.ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(before); took < drainTimeout {
		t.Errorf("it took %v", took)
	}
	h.ended <- nil
	_ = slow.Close()
	close(gate) // the flight to AWS continues for other callers until it ends
	check()
}

func TestSocketRemovedWhileRunning(t *testing.T) {
	h := start(t)
	if err := os.RemoveAll(filepath.Dir(h.path)); err != nil {
		t.Fatal(err)
	}
	until(t, "clients find it again", func() bool {
		conn, err := net.Dial("unix", h.path)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	h.alive(t)
}

func TestTaken(t *testing.T) {
	h := start(t)
	second := build(t, t.TempDir(), registry)
	second.Socket = h.path
	if err := second.Run(t.Context(), func() { t.Error("it called ready") }); !errors.Is(err, socket.ErrTaken) {
		t.Errorf("a second daemon at the start: %v", err)
	}
	if e := second.trail.all(); len(e) != 0 {
		t.Errorf("a daemon that did not start wrote to the audit log: %+v", e)
	}
	h.alive(t)

	// A second daemon that starts after the directory of the first was removed.
	if err := os.RemoveAll(filepath.Dir(h.path)); err != nil {
		t.Fatal(err)
	}
	l, err := socket.Listen(h.path)
	if err != nil {
		t.Skip("the daemon restored the directory before the test could act")
	}
	defer l.Close()
	if err := <-h.ended; !errors.Is(err, socket.ErrTaken) {
		t.Errorf("the first one ended with %v", err)
	}
	h.ended <- nil
}

// TestOutOfDescriptors: a daemon without free descriptors serves again once it has some. It runs in its own
// process, with a real limit.
func TestOutOfDescriptors(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe", "play-daemon", dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	said := bufio.NewReader(out)
	if first, _ := said.ReadString('\n'); first != "ready\n" {
		t.Fatalf("it says %q", first)
	}
	var short atomic.Int32
	go func() {
		for {
			text, err := said.ReadString('\n')
			if strings.Contains(text, "too many open files") {
				short.Add(1)
			}
			if err != nil {
				return
			}
		}
	}()
	h := &house{path: filepath.Join(dir, "run", "s")}
	h.alive(t)
	before := descriptors(t, cmd.Process.Pid)
	var idle []net.Conn
	for range 300 {
		conn, err := net.Dial("unix", h.path)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
	}
	until(t, "it runs out of descriptors", func() bool { return short.Load() > 0 })
	// Clients are served while the idle ones are still connected, because idle connections are closed to free
	// descriptors. One attempt may be among those that are closed; a client then retries.
	served := 0
	for range 20 {
		err := tryPing(h.path)
		if err != nil {
			err = tryPing(h.path)
		}
		if err == nil {
			served++
		}
	}
	if served < 18 {
		t.Errorf("%d of 20 clients were served while descriptors are short", served)
	}
	for _, c := range idle {
		_ = c.Close()
	}
	until(t, "its descriptors go back", func() bool { return descriptors(t, cmd.Process.Pid) <= before })
	h.alive(t)
}

func tryPing(path string) error {
	conn, err := dial.Dial(context.Background(), path)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "{\"v\":1,\"verb\":\"ping\"}\n"); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 100))
	return err
}

const limit = 64

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "play-daemon" {
		os.Exit(playDaemon(os.Args[2]))
	}
	if len(os.Args) >= 2 && os.Args[1] == "play-short-lived" {
		os.Exit(playShortLived(os.Args[2:]))
	}
	if len(os.Args) == 4 && os.Args[1] == "play-flood" {
		rate, _ := strconv.Atoi(os.Args[3])
		playFlood(os.Args[2], rate)
	}
	if len(os.Args) == 3 && os.Args[1] == "play-owner" {
		os.Exit(playOwner(os.Args[2]))
	}
	if len(os.Args) == 4 && os.Args[1] == "play-grant-daemon" {
		os.Exit(playGrantDaemon(os.Args[2], os.Args[3]))
	}
	if len(os.Args) == 3 && os.Args[1] == "play-lender" {
		os.Exit(playLender(os.Args[2]))
	}
	os.Exit(testproc.Run(m))
}

// playDaemon is a daemon with few descriptors. It runs until stdin ends.
func playDaemon(dir string) int {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		fmt.Println(err)
		return 1
	}
	h := build(new(testing.B), dir, registry)
	h.Log = slog.New(slog.NewTextHandler(os.Stdout, nil))
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	if err := h.Run(ctx, func() { fmt.Println("ready") }); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// TestStatusPages: status comes in pages, whatever it contains.
func TestStatusPages(t *testing.T) {
	var b strings.Builder
	b.WriteString(registry)
	const n = 500
	path := strings.Repeat("a-long-path/", 40)
	for i := range n {
		fmt.Fprintf(&b, "\n[profile p%d]\nrole_arn = arn:aws:iam::444455556666:role/%s%s%d\nsource_profile = security\n", i, []string{"x/", "denied/"}[i%2], path, i)
	}
	h := build(t, t.TempDir(), b.String())
	h.aws.fail = func(c session.Call) error {
		if strings.Contains(c.RoleARN, "denied") {
			// The worst case for a message: JSON takes six bytes for each byte.
			return fault.New(fault.Denied, "%s", strings.Repeat("<", 600))
		}
		return nil
	}
	h.run(t)
	l := connect(t, h.path)
	for i := range n {
		l.send(t, wire.Request{Verb: wire.Get, Profile: fmt.Sprint("p", i)})
		l.read(t)
	}
	seen := map[string]bool{}
	pages := 0
	for at := 0; ; pages++ {
		l.send(t, wire.Request{Verb: wire.State, Offset: at})
		r := l.read(t)
		if r.Err != nil {
			t.Fatalf("from %d on: %v", at, r.Err)
		}
		if r.Status.Total != n+1 {
			t.Fatalf("there are %d", r.Status.Total)
		}
		for _, s := range r.Status.Sessions {
			seen[s.Profile+s.Role] = true
		}
		at += len(r.Status.Sessions)
		if len(r.Status.Sessions) == 0 {
			break
		}
	}
	if len(seen) != n+1 {
		t.Errorf("%d sessions on %d pages, want %d", len(seen), pages, n+1)
	}
}

// forms returns the encodings in which a secret may be written.
func forms(s string) map[string]string {
	quoted, _ := json.Marshal(s)
	utf16 := new(strings.Builder)
	for _, b := range []byte(s) {
		utf16.WriteByte(b)
		utf16.WriteByte(0)
	}
	return map[string]string{
		"raw": s, "base64": base64.StdEncoding.EncodeToString([]byte(s)), "base64url": base64.RawURLEncoding.EncodeToString([]byte(s)),
		"hex": hex.EncodeToString(
			[]byte(s),
		), "HEX": strings.ToUpper(hex.EncodeToString([]byte(s))), "URL": url.QueryEscape(s), "URL path": url.PathEscape(s),
		"JSON": strings.Trim(string(quoted), `"`), "Go": strings.Trim(fmt.Sprintf("%q", s), `"`), "UTF-16": utf16.String(),
	}
}

// TestAudit: the real log gets one line for each answered and each refused request, and no line contains a secret.
// Seen to fail with the secret key in Event.Message.
func TestAudit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	log := audit.New(path, func(err error) { t.Error(err) })
	t.Cleanup(func() { _ = log.Close() })
	h := build(t, dir, registry)
	h.Audit = log
	h.run(t)
	steps := []struct {
		req   wire.Request
		event string
		kind  fault.Kind
	}{
		{wire.Request{Verb: wire.Get, Profile: "dev"}, "given", ""},
		{wire.Request{Verb: wire.Get, Profile: "dev"}, "given", ""}, // from the cache, but recorded like any other
		{wire.Request{Verb: wire.Get, Profile: "denied"}, "refused", fault.Denied},
		{wire.Request{Verb: wire.Get, Profile: "nobody\n{\"event\":\"given\"}"}, "refused", fault.Usage},
		{wire.Request{Verb: wire.Get, Profile: "typed"}, "refused", fault.LoginNeeded},
		{wire.Request{Verb: wire.Login, Profile: "typed", Code: secret.New(code)}, "login", ""},
		{wire.Request{Verb: wire.Get, Profile: "typed", Code: secret.New(code)}, "given", ""},
		{wire.Request{Verb: wire.Logout, Profile: "typed"}, "logout", ""},
		{wire.Request{Verb: wire.Lock}, "lock", ""},
		{wire.Request{Verb: wire.Get, Profile: "dev"}, "refused", fault.Locked},
		{wire.Request{Verb: wire.Login, Profile: "typed", Code: secret.New(code)}, "refused", fault.Locked},
		{wire.Request{Verb: wire.Unlock, Passphrase: secret.New("wrong " + passphrase)}, "refused", fault.KeyringLocked},
		{wire.Request{Verb: wire.Unlock, Passphrase: secret.New(passphrase)}, "unlock", ""},
		{wire.Request{Verb: wire.Ping}, "", ""},
		{wire.Request{Verb: wire.State}, "", ""},
		{wire.Request{Verb: "no such verb"}, "", ""},
	}
	lines := func() []string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Collect(strings.Lines(string(b)))
	}
	for i, s := range steps {
		before := lines()
		h.ask(t, s.req)
		added := lines()[len(before):]
		if want := min(1, len(s.event)); len(added) != want {
			t.Errorf("step %d, %s: %d lines, want %d: %q", i, s.req.Verb, len(added), want, added)
			continue
		}
		if s.event == "" {
			continue
		}
		var e audit.Event
		if err := json.Unmarshal([]byte(added[0]), &e); err != nil {
			t.Fatal(err)
		}
		if e.Event != s.event || e.Kind != s.kind || e.UID != os.Getuid() || e.PID != os.Getpid() || e.Caller == nil ||
			e.Executable == "" || e.Start == "" || len(e.Arguments) == 0 || e.Directory == "" || len(e.Parents) == 0 {
			t.Errorf("step %d, %s: %s", i, s.req.Verb, added[0])
		}
		if given := s.event == "given"; given != strings.HasPrefix(e.KeyID, "ASIA") && s.event != "login" ||
			given && (e.Expires == nil || e.Source == "") {
			t.Errorf("step %d, %s: %s", i, s.req.Verb, added[0])
		}
	}
	all := strings.Join(lines(), "")
	for _, s := range []string{secretKey, sessionToken, code, passphrase} {
		for how, text := range forms(s) {
			if strings.Contains(all, text) {
				t.Errorf("the log holds %s (%s)", text, how)
			}
		}
	}
}

// TestAuditCountsACrowd: with many clients at once, there are as many lines as answers.
func TestAuditCountsACrowd(t *testing.T) {
	h := start(t)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() { h.get(t, []string{"dev", "denied", "nobody"}[i%3]) })
	}
	wg.Wait()
	got := map[string]int{}
	for _, e := range h.trail.all() {
		got[e.Event+" "+e.Profile]++
	}
	if got["given dev"] != 67 || got["refused denied"] != 67 || got["refused nobody"] != 66 || len(got) != 4 {
		t.Errorf("got %v", got)
	}
	s := h.ask(t, wire.Request{Verb: wire.State}).Status
	if s.Answered != 67 || s.Refused != 133 {
		t.Errorf("answered %d, refused %d", s.Answered, s.Refused)
	}
}

// TestLockAfter: after lock_after without use, nothing is handed out any more.
func TestLockAfter(t *testing.T) {
	h := build(t, t.TempDir(), "[settings]\nlock_after = 1h\n"+registry).run(t)
	if r := h.ask(t, wire.Request{Verb: wire.Get, Profile: "dev"}); r.Err != nil {
		t.Fatal(r.Err)
	}
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	h.grants.LastUse.Store(ago(50 * time.Minute))
	h.lockIfUnused()
	if r := h.ask(t, wire.Request{Verb: wire.Get, Profile: "dev"}); r.Err != nil {
		t.Errorf("before lock_after: %v", r.Err)
	}
	if h.grants.LastUse.Load() < ago(40*time.Minute) {
		t.Error("an answered request does not count as a use")
	}
	h.grants.LastUse.Store(ago(time.Hour + time.Second))
	until(t, "it locks by itself", h.Broker.Locked)
	if r := h.ask(t, wire.Request{Verb: wire.Get, Profile: "dev"}); r.Err == nil || r.Err.Kind != fault.Locked {
		t.Errorf("after the lock: %+v", r)
	}
	if r := h.ask(t, wire.Request{Verb: wire.Unlock}); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := h.ask(t, wire.Request{Verb: wire.Get, Profile: "dev"}); r.Err != nil {
		t.Errorf("after unlock: %v", r.Err)
	}
}

func refusedAs(r wire.Response, kind fault.Kind) bool { return r.Err != nil && r.Err.Kind == kind }

// TestRoleOfNoProfile: a role given by its ARN is assumed from a source, checked like a profile, and recorded.
func TestRoleOfNoProfile(t *testing.T) {
	h := start(t)
	const role = "arn:aws:iam::444455556666:role/audit"
	r := h.ask(t, wire.Request{Verb: wire.Get, Profile: "security", Role: &wire.Role{ARN: role, SessionName: "probe", Seconds: 900}})
	if r.Err != nil || r.Credential.Role != role {
		t.Fatalf("%+v", r)
	}
	if r := h.get(t, "dev"); r.Err != nil || r.Credential.Role != "" {
		t.Errorf("%+v", r)
	}
	denied := strings.Replace(role, "role/", "role/denied-", 1)
	if r := h.ask(t, wire.Request{Verb: wire.Get, Profile: "security", Role: &wire.Role{ARN: denied}}); !refusedAs(r, fault.Denied) {
		t.Errorf("%+v", r)
	}
	for _, bad := range []wire.Role{{}, {ARN: "admin"}, {ARN: role, Policy: "{"}, {ARN: role, Seconds: 1}, {ARN: role, Region: "evil.example/"}} {
		if r := h.ask(t, wire.Request{Verb: wire.Get, Profile: "security", Role: &bad}); !refusedAs(r, fault.Usage) ||
			r.Credential != nil {
			t.Errorf("%+v: %+v", bad, r)
		}
	}
	events := h.trail.all()
	if e := events[1]; e.Event != "given" || e.Role != role || e.Profile != "security" {
		t.Errorf("%+v", e)
	}
	if e := events[3]; e.Event != "refused" || e.Role != denied {
		t.Errorf("%+v", e)
	}
}
