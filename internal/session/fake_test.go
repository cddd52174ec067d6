package session

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// aws is STS and the vault in one. It knows the true time, issues sessions, and refuses sessions that have ended.
// Every call takes a second unless told otherwise.
type aws struct {
	now  func() time.Time // true time; AWS reports it in whole seconds
	took time.Duration

	mu       sync.Mutex
	issued   map[string]time.Time // by access key id: its end
	asked    map[string]Call      // by access key id: the call that it is the answer to
	revoked  map[string]bool
	opens    []open
	assumes  map[string]int // calls by role
	inside   int            // calls in flight
	most     int            // the most calls in flight at one time
	drops    []string       // the sources of Drop
	onDrop   func(source string) error
	onOpen   func(open) error
	onAssume func(Call) error
}

type open struct {
	source string
	call   Call
	code   string
}

func newAWS() *aws {
	return &aws{
		now: time.Now, took: time.Second,
		issued: map[string]time.Time{}, asked: map[string]Call{}, revoked: map[string]bool{}, assumes: map[string]int{},
	}
}

func (a *aws) enter() (took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inside++
	a.most = max(a.most, a.inside)
	return a.took
}

func (a *aws) leave() {
	a.mu.Lock()
	a.inside--
	a.mu.Unlock()
}

func (a *aws) Open(ctx context.Context, source profiles.Source, call Call, code secret.String) (Credentials, error) {
	took := a.enter()
	defer a.leave()
	o := open{source.Name, call, code.Reveal()}
	a.mu.Lock()
	a.opens = append(a.opens, o)
	hook := a.onOpen
	a.mu.Unlock()
	if err := wait(ctx, took); err != nil {
		return Credentials{}, err
	}
	if hook != nil {
		if err := hook(o); err != nil {
			return Credentials{}, err
		}
	}
	return a.issue(call), nil
}

// Drop takes as long as a vault process.
func (a *aws) Drop(ctx context.Context, source, refused string) error {
	if err := wait(ctx, 50*time.Millisecond); err != nil {
		return err
	}
	a.mu.Lock()
	a.drops = append(a.drops, source)
	hook := a.onDrop
	a.mu.Unlock()
	if hook != nil {
		return hook(source)
	}
	return nil
}

// dropped lists the sources that Drop was called with.
func (a *aws) dropped() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.Sort(a.drops)
	return strings.Join(a.drops, " ")
}

func (a *aws) onEachDrop(f func(source string) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.onDrop = f
}

func (a *aws) Assume(ctx context.Context, with Credentials, call Call) (Credentials, error) {
	took := a.enter()
	defer a.leave()
	a.mu.Lock()
	a.assumes[call.RoleARN]++
	hook := a.onAssume
	a.mu.Unlock()
	if err := wait(ctx, took); err != nil {
		return Credentials{}, err
	}
	if !a.accepts(with) {
		return Credentials{}, fault.New(fault.ExpiredSession, "ExpiredToken")
	}
	if hook != nil {
		if err := hook(call); err != nil {
			return Credentials{}, err
		}
	}
	return a.issue(call), nil
}

func wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fault.New(fault.Network, "%w", ctx.Err())
	}
}

func (a *aws) issue(call Call) Credentials {
	a.mu.Lock()
	defer a.mu.Unlock()
	told := a.now().Truncate(time.Second)
	c := Credentials{
		AccessKeyID:     fmt.Sprintf("ASIA%016d", len(a.issued)+1),
		SecretAccessKey: secret.New("secret"),
		SessionToken:    secret.New("token"),
		Issued:          told,
		Expires:         told.Add(call.Duration),
		Subject:         call.RoleARN,
	}
	a.issued[c.AccessKeyID] = c.Expires
	a.asked[c.AccessKeyID] = call
	return c
}

// accepts reports whether STS would accept these credentials now.
func (a *aws) accepts(c Credentials) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	end, known := a.issued[c.AccessKeyID]
	return known && a.now().Before(end) && !a.revoked[c.AccessKeyID]
}

func (a *aws) revoke(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revoked[id] = true
}

func (a *aws) take(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.took = d
}

func (a *aws) onEachAssume(f func(Call) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.onAssume = f
}

func (a *aws) onEachOpen(f func(open) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.onOpen = f
}

// withoutSeed is a vault that has neither a seed nor a session.
func withoutSeed(o open) error {
	if o.code == "" {
		return fault.New(fault.LoginNeeded, "a code is needed").WithHint("broker login %s --code 123456", o.source)
	}
	return nil
}

// calls returns the number of calls of the vault (mostly GetSessionToken) and of AssumeRole.
func (a *aws) calls() (opened, assumed int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.assumes {
		assumed += n
	}
	return len(a.opens), assumed
}

func (a *aws) wantCalls(t *testing.T, opened, assumed int) {
	t.Helper()
	if o, n := a.calls(); o != opened || n != assumed {
		t.Fatalf("%d opened and %d assumed, want %d and %d", o, n, opened, assumed)
	}
}

// registry has a source with a stored seed, a source without, and roles of both.
const registry = `
[source security]
access_key_id = AKIAIOSFODNN7EXAMPLE
mfa_serial = arn:aws:iam::111122223333:mfa/paul
mfa_seed = keyring

[source typed]
access_key_id = AKIAI44QH8DHBEXAMPLE
mfa_serial = arn:aws:iam::111122223333:mfa/paula

[profile dev]
role_arn = arn:aws:iam::444455556666:role/dev
source_profile = security

[profile dev-too]
role_arn = arn:aws:iam::444455556666:role/dev
source_profile = security

[profile prod]
role_arn = arn:aws:iam::777788889999:role/prod
source_profile = security

[profile deep]
role_arn = arn:aws:iam::777788889999:role/deep
source_profile = dev

[profile long]
role_arn = arn:aws:iam::777788889999:role/long
source_profile = security
duration_seconds = 43200

[profile typed-dev]
role_arn = arn:aws:iam::444455556666:role/typed-dev
source_profile = typed
`

type world struct {
	*Broker
	t     *testing.T
	aws   *aws
	files profiles.Files
	end   context.CancelFunc
}

// newWorld returns a Broker on a registry. It must be called within the bubble of the test.
func newWorld(t *testing.T, text string) *world {
	t.Helper()
	w := &world{t: t, aws: newAWS(), files: profiles.Files{Registry: filepath.Join(t.TempDir(), "config")}}
	w.write(text)
	ctx, cancel := context.WithCancel(t.Context())
	w.end = cancel
	w.Broker = New(ctx, Config{Profiles: new(profiles.Store), Vault: w.aws, STS: w.aws, Who: Who{User: "paul", Host: "host"}})
	return w
}

// write replaces the registry.
func (w *world) write(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.files.Registry+".new", []byte(strings.TrimLeft(text, "\n")), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(w.files.Registry+".new", w.files.Registry); err != nil {
		w.t.Fatal(err)
	}
}

// logout calls Logout, which must succeed.
func (w *world) logout(source string) int {
	w.t.Helper()
	ended, err := w.Logout(w.t.Context(), source, w.files)
	if err != nil {
		w.t.Errorf("logout of %q: %v", source, err)
	}
	return ended.Sessions
}

func (w *world) ask(profile string) (Answer, error) {
	return w.Credentials(w.t.Context(), Request{Profile: profile, Files: w.files})
}

// get asks for a profile, which must be served with credentials that STS would accept.
func (w *world) get(profile string) Answer {
	w.t.Helper()
	a, err := w.ask(profile)
	if err != nil {
		w.t.Fatalf("%s: %v", profile, err)
	}
	if !w.aws.accepts(a.Credentials) {
		w.t.Fatalf("%s: got %s, which STS would refuse", profile, a.AccessKeyID)
	}
	return a
}

// fail asks for a profile, which must fail in this way and hand nothing out.
func (w *world) fail(profile string, kind fault.Kind) {
	w.t.Helper()
	a, err := w.ask(profile)
	if !fault.Is(err, kind) {
		w.t.Fatalf("%s: got %v, want %s", profile, err, kind)
	}
	if a.AccessKeyID != "" || !a.SecretAccessKey.IsZero() || !a.SessionToken.IsZero() {
		w.t.Fatalf("%s: failed, but handed out %s", profile, a.AccessKeyID)
	}
}
