//go:build linux

package daemon

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/lockfile"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/wire"
)

// patience is the timeout for actions that take no time on an idle machine.
const patience = time.Minute

// The secrets of the tests. None may appear where it does not belong.
const (
	secretKey    = `wJalr/XUtn<FEMI>&K7MDENG+"bPx"RfiCY`
	sessionToken = "FwoGZXIvYXdzEJr//////////wEaDH+token=="
	accessToken  = sessionToken // of the portal
	code         = "314159"
	passphrase   = "correct horse battery staple"
)

// aws is STS and the vault in one.
type aws struct {
	mu      sync.Mutex
	opened  int
	assumed int
	made    int
	gate    chan struct{} // if not nil, AssumeRole waits until it is closed
	fail    func(session.Call) error
}

func (a *aws) Drop(context.Context, string, string) error { return nil }

func (a *aws) Open(
	_ context.Context,
	source profiles.Source,
	call session.Call,
	code secret.String,
) (session.Credentials, error) {
	if call.MFASerial != "" && !source.HasSeed && code.IsZero() {
		return session.Credentials{}, fault.New(fault.LoginNeeded, "a code is needed").WithHint("broker login %s --code 123456", source.Name)
	}
	a.mu.Lock()
	a.opened++
	a.mu.Unlock()
	return a.issue(call), nil
}

func (a *aws) Assume(ctx context.Context, _ session.Credentials, call session.Call) (session.Credentials, error) {
	a.mu.Lock()
	a.assumed++
	gate, fail := a.gate, a.fail
	a.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return session.Credentials{}, fault.New(fault.Network, "%w", ctx.Err())
		}
	}
	if fail != nil {
		if err := fail(call); err != nil {
			return session.Credentials{}, err
		}
	}
	return a.issue(call), nil
}

func (a *aws) issue(call session.Call) session.Credentials {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.made++
	if call.Operation == session.CreateToken {
		call.Duration = time.Hour
	}
	now := time.Now().Truncate(time.Second)
	return session.Credentials{
		AccessKeyID:     fmt.Sprintf("ASIA%016d", a.made),
		SecretAccessKey: secret.New(secretKey),
		SessionToken:    secret.New(sessionToken),
		Issued:          now,
		Expires:         now.Add(call.Duration),
	}
}

func (a *aws) set(f func(*aws)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(a)
}

func (a *aws) calls() (opened, assumed int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.opened, a.assumed
}

const signInToken = "the-token-of-one-sign-in"

// organization is the number of accounts: more than fit into a line.
const organization = 500

// SignIn implements AWS.
func (a *aws) SignIn(_ context.Context, with session.Credentials, partition, caBundle string, life time.Duration) (
	string, secret.String, error,
) {
	if with.SessionToken.Reveal() != sessionToken {
		return "", secret.String{}, fault.New(fault.Denied, "no session")
	}
	return fmt.Sprintf("https://signin/%s%s?direct=%t", partition, caBundle, life > 0), secret.New(signInToken), nil
}

// Accounts implements AWS. The names take the most space that names can take.
func (a *aws) Accounts(context.Context, session.Credentials, profiles.Endpoint) (list []wire.Account, err error) {
	for i := range organization {
		list = append(list, wire.Account{ID: fmt.Sprintf("%012d", i), Name: strings.Repeat("\x01", 250), Management: i == 7})
	}
	return list, nil
}

func (a *aws) AllAccounts(ctx context.Context, with session.Credentials, e profiles.Endpoint) (
	list []wire.Account, denied, err error,
) {
	list, err = a.Accounts(ctx, with, e)
	for i := range list {
		list[i].Path = strings.Repeat("\x01", 850)
	}
	return list, nil, err
}

// Assigned implements AWS. The names take the most space that names can take.
func (a *aws) Assigned(_ context.Context, access secret.String, _ profiles.Endpoint) (
	list []wire.Assignment, err error,
) {
	if access.Reveal() != accessToken {
		return nil, fault.New(fault.ExpiredSession, "the portal does not accept the token")
	}
	for i := range organization {
		list = append(list, wire.Assignment{AccountID: fmt.Sprintf("%012d", i), Account: strings.Repeat("\x01", 250),
			Role: strings.Repeat("r", 64)})
	}
	return list, nil
}

func (a *aws) Role(context.Context, session.Credentials, profiles.Endpoint, string) (time.Duration, bool, error) {
	return time.Hour, true, nil
}

// Token implements AWS. It says what it was asked for.
func (a *aws) Token(_ context.Context, with session.Credentials, e profiles.Endpoint, terms wire.TokenTerms) (
	wire.Token, error,
) {
	if with.SessionToken.Reveal() != sessionToken {
		return wire.Token{}, fault.New(fault.Denied, "no session")
	}
	return wire.Token{Token: secret.New(fmt.Sprintf("%s in %s %+v", serviceToken, e.Region, terms)), User: "AWS",
		Expires: time.Now().Add(12 * time.Hour)}, nil
}

const serviceToken = "the-token-of-a-service"

// keyring accepts one passphrase.
type keyring struct{ forgotten atomic.Int32 }

func (k *keyring) Unlock(_ context.Context, p secret.String) error {
	switch p.Reveal() {
	case "panic":
		panic("with a secret: " + secretKey)
	case "", passphrase:
		return nil
	}
	return fault.New(fault.KeyringLocked, "the passphrase is wrong")
}

func (k *keyring) Forget() { k.forgotten.Add(1) }

// trail records the audit events.
type trail struct {
	mu     sync.Mutex
	full   error // if not nil, nothing can be recorded
	events []audit.Event
	before func(audit.Event) // each record, if not nil
}

func (r *trail) Record(all ...audit.Event) error {
	for _, e := range all {
		if r.before != nil {
			r.before(e)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full == nil {
		r.events = append(r.events, all...)
	}
	return r.full
}

func (r *trail) Failing() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.full
}

func (r *trail) fill(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full = err
}

func (r *trail) all() []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]audit.Event(nil), r.events...)
}

// twoSources has a source with a seed, and a source whose codes a person types.
const twoSources = `[source security]
access_key_id = AKIAIOSFODNN7EXAMPLE
mfa_serial = arn:aws:iam::111122223333:mfa/paul
mfa_seed = keyring

[source typed]
access_key_id = AKIAI44QH8DHBEXAMPLE
mfa_serial = arn:aws:iam::111122223333:mfa/paula

`

const registry = twoSources + `[profile dev]
role_arn = arn:aws:iam::444455556666:role/dev
source_profile = security
region = eu-west-1

[profile denied]
role_arn = arn:aws:iam::444455556666:role/denied
source_profile = security

[sso-session my-sso]
sso_start_url = https://my.awsapps.com/start
sso_region = eu-west-1
`

// denies makes STS refuse the roles named "denied…".
func denies(c session.Call) error {
	if strings.Contains(c.RoleARN, ":role/denied") {
		return fault.New(fault.Denied, "not authorized to perform: sts:AssumeRole on resource: %s", c.RoleARN)
	}
	return nil
}

// house is a daemon in this process.
type house struct {
	*Daemon
	path    string
	aws     *aws
	keyring *keyring
	trail   *trail
	stop    context.CancelFunc
	ended   chan error
}

func build(t testing.TB, dir, registry string) *house {
	t.Helper()
	h := &house{
		path:    filepath.Join(dir, "run", "s"),
		aws:     &aws{fail: denies},
		keyring: new(keyring),
		trail:   new(trail),
		ended:   make(chan error, 1),
	}
	files := profiles.Files{Registry: filepath.Join(dir, "registry")}
	// Write the file atomically: a running daemon could read a half-written registry.
	if old, err := os.ReadFile(files.Registry); err != nil || string(old) != registry {
		if err := os.WriteFile(files.Registry, []byte(registry), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store := new(profiles.Store)
	flights, end := context.WithCancel(context.Background())
	t.Cleanup(end)
	h.Daemon = New(Config{
		Socket: h.path,
		Files:  files,
		Broker: session.New(flights, session.Config{Profiles: store, Vault: h.aws, STS: h.aws,
			Who: session.Who{User: "paul", Host: "host"}}),
		Store:   store,
		Keyring: h.keyring,
		AWS:     h.aws,
		Audit:   h.trail,
		Log:     slog.New(slog.DiscardHandler),
		Version: "test",

		StateDir:    dir,
		CommandsDir: filepath.Join(dir, "run", "overlays"),
		DoorsDir:    filepath.Join(dir, "run", "doors"),
		Helper:      func() (string, error) { return filepath.Join(dir, "credproc"), nil },
		LockFile:    lockfile.New(filepath.Join(dir, "lock.json")),
	})
	h.patience = patience / 2 // a busy machine must not cut requests off
	return h
}

// run starts the daemon, and ends it with the test.
func (h *house) run(t testing.TB) *house {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	ready := make(chan struct{})
	go func() { h.ended <- h.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-h.ended:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-h.ended:
			if err != nil {
				t.Errorf("the daemon ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("timed out waiting for the end")
		}
	})
	return h
}

func start(t testing.TB) *house {
	t.Helper()
	h := build(t, t.TempDir(), registry).run(t)
	// Once it has answered, all of its goroutines exist, which calm needs.
	h.ask(t, wire.Request{Verb: wire.Ping})
	return h
}

// line is a client with its own connection.
type line struct {
	net.Conn
	r *bufio.Reader
}

func connect(t testing.TB, path string) line {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	return line{conn, bufio.NewReader(conn)}
}

func (l line) send(t testing.TB, req wire.Request) {
	t.Helper()
	b, err := wire.EncodeRequest(&req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Write(b); err != nil {
		t.Fatal(err)
	}
}

func (l line) read(t testing.TB) wire.Response {
	t.Helper()
	b, err := wire.ReadLine(l.r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := wire.DecodeResponse(b)
	if err != nil {
		t.Fatal(err)
	}
	return *resp
}

// ended returns nil if the daemon closed the connection without sending anything.
func (l line) ended() error {
	if b, err := io.ReadAll(l.r); len(b) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
		return fmt.Errorf("%q, %w", b, err)
	}
	return nil
}

// ask sends one request on a new connection.
func (h *house) ask(t testing.TB, req wire.Request) wire.Response {
	t.Helper()
	l := connect(t, h.path)
	defer l.Close()
	l.send(t, req)
	return l.read(t)
}

func (h *house) get(t testing.TB, profile string) wire.Response {
	t.Helper()
	return h.ask(t, wire.Request{Verb: wire.Get, Profile: profile})
}

// alive checks that the daemon answers a ping, whatever else it does.
func (h *house) alive(t testing.TB) {
	t.Helper()
	if resp := h.ask(t, wire.Request{Verb: wire.Ping}); resp.Err != nil || resp.Version != "test" {
		t.Errorf("ping: %+v", resp)
	}
}

// looked waits until the keeper has checked its grants. At the end of a check it restores a missing record. It
// waits for two checks, because the first may have begun earlier.
func (h *house) looked(t testing.TB) {
	t.Helper()
	for range 2 {
		record := h.record(t)
		if err := os.Remove(record); err != nil {
			t.Fatal(err)
		}
		until(t, "the keeper looks", func() bool { _, err := os.Lstat(record); return err == nil })
	}
}

func descriptors(t testing.TB, pid int) int {
	t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// calm waits until the numbers of goroutines and descriptors are back at their start values. If they are not, it
// prints the stacks.
func calm(t testing.TB) (check func()) {
	t.Helper()
	routines, files := runtime.NumGoroutine(), descriptors(t, os.Getpid())
	return func() {
		t.Helper()
		var r, f int
		for give := time.Now().Add(patience); time.Now().Before(give); time.Sleep(10 * time.Millisecond) {
			if r, f = runtime.NumGoroutine(), descriptors(t, os.Getpid()); r <= routines && f <= files {
				return
			}
		}
		var stacks strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		t.Errorf("%d goroutines and %d descriptors, %d and %d at the start\n%s", r, f, routines, files, &stacks)
	}
}

// raise raises the limit of descriptors to n.
func raise(t testing.TB, n uint64) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if l.Cur >= n {
		return
	}
	l.Cur, l.Max = n, max(n, l.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Skipf("SKIPPED, NOT PROVEN: needs %d descriptors: %v", n, err)
	}
}

// record returns the file in which the daemon records its grants.
func (h *house) record(t testing.TB) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(h.StateDir, "grants-*.json"))
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	return list[0]
}
