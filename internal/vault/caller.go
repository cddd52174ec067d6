// Package vault gives all programs access to the keyring. The Caller starts a vault process for each call, and
// this package defines the request and the answer that pass between the two (package process, in brokerd, is the
// other side). It links neither the keyring library nor the AWS SDK. It refuses to send a secret to a process that
// is not hardened, and to make calls while Broker is locked.
package vault

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"broker/internal/child"
	"broker/internal/fault"
	"broker/internal/harden"
	"broker/internal/mfa"
	"broker/internal/profiles"
	"broker/internal/record"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/tty"
	"broker/internal/version"
)

const (
	// DefaultTimeout limits one vault process: a full step of waiting for an unused code, plus the calls.
	DefaultTimeout = 45 * time.Second

	probeTimeout = 8 * time.Second
	// MaxProcesses is how many vault processes of this program run at a time; further calls wait.
	MaxProcesses = 4
	maxStderr    = 4 << 10
	// OuterBus names the variable with which a vault process for the backend pass gets the address of the session
	// bus. gpg's agent needs it for its prompts, while the library must not see it.
	OuterBus = "BROKER_OUTER_BUS"
	// NoticePrefix begins a line from a vault process that is meant for Notice.
	NoticePrefix = "notice: "

	busSilent = 71          // nodbus.BusSilent: exit code of a vault process whose session bus does not respond
	noBus     = "disabled:" // nodbus.Disabled: an address of the session bus that nothing can be dialed at
)

var slots = make(chan struct{}, MaxProcesses)

// Caller is the only access to the keyring for the rest of the program. It starts one vault process for each call.
// It is safe for concurrent use; its fields must not change after the first call.
//
// While Broker is locked, all calls but Drop, Check and Probe fail with a fault of the kind Locked, before a
// process starts. All errors are faults. Besides the kinds that a method lists: Keyring, KeyringLocked (see
// ErrNoPassphrase, ErrWrongPassphrase), NotFound (see ErrNotCreated), Config, Usage and Internal.
type Caller struct {
	// Exe is brokerd, the program that becomes the vault process with the argument "vault". If Exe is empty, Find
	// provides the program. If Find is nil too, it is the running program itself, even if its file has been
	// replaced since.
	Exe string
	// Find returns the program. It is called for each call.
	Find func() (string, error)
	// Backend returns the chosen keyring: one of Backends, or "" for the first backend that works, which is then
	// used from then on. Nil means "". See InUse.
	Backend func() string
	// Dir is the absolute directory of the file keyring.
	Dir string
	// StateDir is the absolute directory of the ledger of used codes.
	StateDir string
	// Registry is the registry that decides where calls go: an absolute path without symbolic links. Open uses the
	// registry of its source instead. A key that belongs to another registry can only be used if that registry
	// lists this one in its setting registry.
	Registry string
	// Timeout limits each call; 0 means DefaultTimeout.
	Timeout time.Duration
	// Route returns the route to AWS. It is called for each call; nil means a direct route with the system's CAs.
	Route func() profiles.Route
	// Env returns the environment from which vault processes get the variables that they need; nil means our own.
	Env func() []string
	// Notice, if not nil, is called with one line that says why a call for a source takes long, or what the call
	// could not do besides its answer.
	Notice func(source, line string)
	// Adopted, if not nil, is called when a call took over the login that aws sso login made for a source. It may be
	// another person's.
	Adopted func(source string)

	mu    sync.Mutex
	opens secret.String // for the file keyring: its passphrase, or the key from an earlier answer
	// generation counts the calls of SetPassphrase; see run.
	generation int
	probed     string
	offset     time.Duration // AWS's clock minus ours, from the last answer
	answered   time.Time     // when that answer came
}

var (
	_ session.Opener = (*Caller)(nil)
	_ session.Logins = (*Caller)(nil)
)

// Key is a long-lived access key to store.
type Key struct {
	Name        string // name of the source
	AccessKeyID string
	Secret      secret.String
	Seed        secret.String // of the MFA device; may be empty
	// Replace allows replacing another key of the same name; without it, that fails with ErrExists. Storing the
	// same key again needs no Replace.
	Replace  bool
	KeepSeed bool // if Seed is empty, keep the seed of the replaced item
}

// Info describes a stored key without its secrets.
type Info struct {
	AccessKeyID string    `json:"access_key_id"`
	HasSeed     bool      `json:"has_seed"`
	Created     time.Time `json:"created"` // when it was stored, UTC
	// Enrolling is the serial of the MFA device whose enrollment is not finished, or empty. Replaces is the serial of
	// the device that is removed then.
	Enrolling string `json:"enrolling,omitempty"`
	Replaces  string `json:"replaces,omitempty"`
}

// Identity is the identity of a long-lived key, as GetCallerIdentity returns it.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
type Identity struct {
	Account string `json:"account"` // twelve digits
	ARN     string `json:"arn"`
	UserID  string `json:"user_id"`
}

// Trial is the result of Probe for one backend.
type Trial struct {
	Backend string
	Err     error // nil if usable; kind KeyringLocked if it exists but is locked; ErrNotCreated if it can be created
	ByName  bool  // it is used only if the settings name it
}

// Works reports whether the backend can be used, perhaps after unlocking or creating it.
func (t Trial) Works() bool {
	return t.Err == nil || fault.Is(t.Err, fault.KeyringLocked) || errors.Is(t.Err, ErrNotCreated)
}

// SetPassphrase stores the passphrase of the file keyring, or a result of Key, for later calls. The first call
// that opens the keyring with a passphrase replaces the passphrase by the key.
func (c *Caller) SetPassphrase(p secret.String) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opens = p
	c.generation++
}

// Key returns what opens the file keyring, for SetPassphrase of another Caller in this version or an older one.
// After a call has opened the keyring, that is its key; for an old keyring that could not get a key, it is the
// passphrase. It is empty if neither is known.
func (c *Caller) Key() secret.String {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opens
}

// Clock returns AWS's clock minus ours, and when the answer of AWS came that shows it: the zero time before the first
// one.
func (c *Caller) Clock() (offset time.Duration, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset, c.answered
}

// Forget forgets the passphrase and the key.
func (c *Caller) Forget() { c.SetPassphrase(secret.String{}) }

// Open implements session.Opener. Sessions of a source with an MFA device are also stored in the keyring. Without
// a code, Open returns a stored session for the same call and key if enough of its lifetime is left, as if it were
// issued now.
func (c *Caller) Open(
	ctx context.Context,
	source profiles.Source,
	call session.Call,
	code secret.String,
) (session.Credentials, error) {
	a, err := c.run(ctx, openRequest(source, call, code))
	if err != nil {
		return session.Credentials{}, err
	}
	if a.Credentials == nil {
		return session.Credentials{}, fault.New(fault.Internal, "the vault process answered without credentials")
	}
	return a.Credentials.Sealed(), nil
}

// Put stores a key. With verify it calls GetCallerIdentity first and returns the identity; if that is not an IAM
// user, the fault is Failed. Other faults: Denied, Network and the others of an STS call.
func (c *Caller) Put(ctx context.Context, key Key, endpoint profiles.Endpoint, verify bool) (Identity, error) {
	a, err := c.run(ctx, putRequest(key, endpoint, verify))
	if err != nil {
		return Identity{}, err
	}
	if a.Identity == nil {
		return Identity{}, nil
	}
	return *a.Identity, nil
}

// SetSeed stores the TOTP seed of a source, in a form that mfa.ParseSeed accepts. NotFound if there is no such
// source.
func (c *Caller) SetSeed(ctx context.Context, source string, seed secret.String) error {
	return c.tell(ctx, seedRequest(source, seed))
}

// RemoveSeed deletes the seed of a source, if it has one.
func (c *Caller) RemoveSeed(ctx context.Context, source string) error {
	return c.tell(ctx, &Request{Op: OpRemoveSeed, Source: source})
}

// Drop implements session.Opener: it deletes the stored session of a source, if there is one. Of a login on a web page
// it deletes the access token only, so that the next Open refreshes it. If refused is not empty, it is the access key
// id of the session that AWS refused: a session that another daemon has stored since stays.
func (c *Caller) Drop(ctx context.Context, source, refused string) error {
	return c.tell(ctx, &Request{Op: OpDrop, Source: source, KeyID: refused})
}

// BeginLogin implements session.Logins.
func (c *Caller) BeginLogin(ctx context.Context, source profiles.Source, redirect string) (session.Login, error) {
	a, err := c.run(ctx, loginRequest(OpBeginLogin, source, session.Login{Redirect: redirect}, secret.String{}))
	if err != nil {
		return session.Login{}, err
	}
	if a.Page == nil {
		return session.Login{}, fault.New(fault.Internal, "the vault process answered without a page")
	}
	return a.Page.login(), nil
}

// FinishLogin implements session.Logins.
func (c *Caller) FinishLogin(
	ctx context.Context, source profiles.Source, login session.Login, code secret.String,
) (time.Time, error) {
	a, err := c.run(ctx, loginRequest(OpFinishLogin, source, login, code))
	if err != nil {
		return time.Time{}, err
	}
	return a.Until, nil
}

// FinishSignIn is FinishLogin for a console login. It also returns who signed in, which is not known before the first
// login of a source without an ARN. If the source has an ARN and somebody else signed in, nothing is stored, and the
// fault is Failed.
func (c *Caller) FinishSignIn(
	ctx context.Context, source profiles.Source, login session.Login, code secret.String,
) (Identity, time.Time, error) {
	a, err := c.run(ctx, loginRequest(OpFinishLogin, source, login, code))
	if err != nil {
		return Identity{}, time.Time{}, err
	}
	if a.Identity == nil {
		return Identity{}, time.Time{}, fault.New(fault.Internal, "the vault process answered without who signed in")
	}
	return *a.Identity, a.Until, nil
}

// SignInFile returns the name of the file in which `aws login` keeps the login of an ARN.
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sign-in.html
func SignInFile(arn string) string { return fmt.Sprintf("%x.json", sha256.Sum256([]byte(arn))) }

// PortalFile returns the name of the file in which `aws sso login` keeps the login to a portal: the hash of the name of
// the sso-session, or of the start URL of a profile without one.
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sso.html
func PortalFile(name string) string { return fmt.Sprintf("%x.json", sha1.Sum([]byte(name))) }

// EndLogin implements session.Logins.
func (c *Caller) EndLogin(ctx context.Context, source profiles.Source) error {
	return c.tell(ctx, loginRequest(OpEndLogin, source, session.Login{}, secret.String{}))
}

// LoginNames implements session.Logins.
func (c *Caller) LoginNames(ctx context.Context, registry string) ([]string, error) {
	a, err := c.run(ctx, &Request{Op: OpLogins, Registry: registry})
	if err != nil {
		return nil, err
	}
	return a.Names, nil
}

// Remove deletes the key, the seed, the stored session and the login of a source. NotFound if there is no such source.
func (c *Caller) Remove(ctx context.Context, source string) error {
	return c.tell(ctx, &Request{Op: OpRemove, Source: source})
}

// Describe returns what is stored for a source. NotFound if there is no such source.
func (c *Caller) Describe(ctx context.Context, source string) (Info, error) {
	a, err := c.run(ctx, &Request{Op: OpDescribe, Source: source})
	if err != nil {
		return Info{}, err
	}
	if a.Info == nil {
		return Info{}, fault.New(fault.Internal, "the vault process answered without a description")
	}
	return *a.Info, nil
}

// Devices asks AWS for the serials of the MFA devices of the user who owns the key of a source. If AWS denies that
// without a code, as its example policies do, the fault is Denied. NotFound if there is no such source. Other
// faults: Network and the others of a call. If the endpoint has a URL, IAM is called there.
func (c *Caller) Devices(ctx context.Context, source string, endpoint profiles.Endpoint) ([]string, error) {
	a, err := c.run(ctx, &Request{Op: OpDevices, Source: source, Endpoint: endpoint})
	if err != nil {
		return nil, err
	}
	return a.Serials, nil
}

// Check verifies that the chosen keyring can be used now: it is reachable and unlocked, and the passphrase is
// right. It never prompts.
func (c *Caller) Check(ctx context.Context) error {
	return c.tell(ctx, &Request{Op: OpCheck})
}

// Create creates the file keyring with its first passphrase, and the Caller keeps its key. It calls Notice if the
// passphrase is weak. ErrExists if the keyring was created before.
func (c *Caller) Create(ctx context.Context, passphrase secret.String) error {
	q := &Request{Op: OpCreate, Backend: File}
	q.withPassphrase(passphrase)
	return c.tell(ctx, q)
}

// Probe tries each backend and returns whether it can be used, and why not. It writes nothing and never prompts.
func (c *Caller) Probe(ctx context.Context) []Trial {
	var trials []Trial
	for _, b := range platform {
		trials = append(trials, c.try(ctx, b))
	}
	return trials
}

func (c *Caller) try(ctx context.Context, b backend) Trial {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := c.run(ctx, &Request{Op: OpProbe, Backend: b.name})
	return Trial{b.name, err, b.byName}
}

// InUse returns the backend that calls use: the chosen one, or the first of Backends that works and may be chosen
// automatically. That choice lasts as long as this Caller; the command that stores the first key should write it
// to the settings. The fault is Keyring with all reasons if no backend works.
func (c *Caller) InUse(ctx context.Context) (string, error) {
	if c.Backend != nil {
		if chosen := c.Backend(); chosen != "" {
			return chosen, nil
		}
	}
	c.mu.Lock()
	known := c.probed
	c.mu.Unlock()
	if known != "" {
		return known, nil
	}
	var reasons []string
	for _, b := range platform {
		if b.byName {
			continue
		}
		t := c.try(ctx, b)
		if t.Works() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.probed == "" {
				c.probed = t.Backend
			}
			return c.probed, nil
		}
		reason, _, _ := strings.Cut(t.Err.Error(), "; ") // the rest is advice, the same for all
		reasons = append(reasons, t.Backend+": "+reason)
	}
	return "", fault.New(fault.Keyring, "no keyring can be used (%s); fix one, or choose one with keyring_backend in [settings]", strings.Join(reasons, "; ")).
		WithHint("broker keyring list")
}

// tell is run for a call whose answer has nothing in it.
func (c *Caller) tell(ctx context.Context, q *Request) error {
	_, err := c.run(ctx, q)
	return err
}

// run executes one call in one vault process.
func (c *Caller) run(ctx context.Context, q *Request) (*Answer, error) {
	if err := RefuseLocked(q.Op, c.StateDir); err != nil {
		return nil, err
	}
	if q.Backend == "" {
		var err error
		if q.Backend, err = c.InUse(ctx); err != nil {
			return nil, err
		}
	}
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	if q.Op == OpMigrate || q.Op == OpClear {
		timeout = max(timeout, migrateTimeout)
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return nil, fault.New(fault.Keyring, "gave up while %d other calls used the keyring: %w", MaxProcesses, ctx.Err())
	}
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	if timeout < time.Millisecond {
		return nil, fault.New(fault.Keyring, "no time left to call the keyring: %w", context.DeadlineExceeded)
	}
	c.mu.Lock()
	if q.Op != OpCreate { // create brings the new passphrase
		q.withPassphrase(c.opens)
	}
	generation := c.generation
	q.OffsetMS = c.offset.Milliseconds()
	c.mu.Unlock()
	if !q.ownFile() {
		q.Passphrase = ""
	}
	if c.Route != nil {
		q.Route = c.Route()
	}
	q.Dir, q.StateDir, q.TimeoutMS = c.Dir, c.StateDir, timeout.Milliseconds()
	if q.Registry == "" {
		q.Registry = c.Registry
	}
	if c.Find != nil { // otherwise it is this program, or what replaced it on disk
		q.Version = version.String()
	}
	data, err := json.Marshal(q)
	if err != nil {
		return nil, fault.New(fault.Internal, "the request to the vault cannot be written")
	}
	if len(data) > MaxMessage {
		return nil, fault.New(fault.Usage, "the request to the vault is larger than %d bytes", MaxMessage)
	}
	a, err := c.exchange(ctx, q, data, timeout)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if a.OffsetKnown {
		c.offset, c.answered = time.Duration(a.OffsetMS)*time.Millisecond, time.Now()
	}
	if a.Key != "" && c.generation == generation { // otherwise the passphrase was cleared or set again meanwhile
		c.opens = a.key()
	}
	c.mu.Unlock()
	if a.Adopted && c.Adopted != nil {
		c.Adopted(q.Source)
	}
	if a.Fault != nil {
		return nil, a.Fault.Unpack()
	}
	return a, nil
}

// exchange starts the process, sends the request once the process is hardened, and returns the answer.
func (c *Caller) exchange(ctx context.Context, q *Request, data []byte, timeout time.Duration) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	exe, err := c.program()
	if err != nil {
		return nil, err
	}
	stderr := &lines{hardened: make(chan struct{}), notice: func(line string) {
		if c.Notice != nil {
			c.Notice(q.Source, fault.Line(line))
		}
	}}
	from := os.Environ()
	if c.Env != nil {
		from = c.Env()
	}
	var a Answer
	var open error
	answered := false
	err = child.Command{
		Program: exe, Argv0: "brokerd", Args: []string{"vault"}, Env: Environment(from, q.backends()), Socket: true,
		// Ctx ends the process before this Timeout does.
		Stderr: stderr, Timeout: timeout + time.Second, Limit: MaxMessage + 2,
	}.Converse(ctx, func(process *child.Lines) error {
		select {
		case <-stderr.hardened:
			if open = harden.Verify(process.PID()); open != nil {
				return open
			}
			_ = process.Send(append(data, '\n')) // a failure shows when reading the answer
		case <-process.Dead():
		case <-ctx.Done():
		}
		text, err := process.Rest()
		if err == nil && record.DecodeStrict(text, &a) != nil {
			err = child.ErrEnded
		}
		answered = err == nil
		return err
	})
	switch {
	case answered:
		return &a, nil
	case open != nil:
		return nil, fault.New(fault.Keyring, "sent nothing to the vault process: %w", open)
	case errors.Is(err, child.ErrTooMuch):
		return nil, fault.New(fault.Internal, "the vault process answered more than %d bytes", MaxMessage)
	case errors.Is(err, child.ErrNotStarted), errors.Is(err, child.ErrNotFound), errors.Is(err, child.ErrRelative):
		return nil, fault.New(fault.Keyring, "start the vault process: %s %w", exe, err)
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, fault.New(fault.Keyring, "the vault process was ended before it answered: %w", ctx.Err())
	case ctx.Err() != nil:
		return nil, fault.New(fault.Keyring, "the vault process was ended after %s without an answer: %w",
			timeout.Round(time.Second), ctx.Err())
	}
	return nil, endOf(err, stderr)
}

// endOf says how a vault process without an answer ended. It shows nothing of stderr but an error line of the Go
// runtime, which cannot contain a value.
func endOf(err error, stderr *lines) error {
	how := "exit status 0"
	if exit := (*child.ExitError)(nil); errors.As(err, &exit) {
		if exit.Code == busSilent {
			return fault.New(fault.Keyring, "the session bus takes connections but does not answer; log in again, or set keyring_backend = file").
				WithHint("broker keyring list")
		}
		how = fmt.Sprintf("exit status %d", exit.Code)
		if exit.Signal != 0 {
			how = "signal: " + exit.Signal.String()
		}
	}
	for line := range strings.Lines(stderr.data.String()) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "fatal error: ") {
			how += " (" + fault.Line(line) + ")"
			break
		}
	}
	return fault.New(fault.Keyring, "the vault process ended with %s and gave no answer", how)
}

// Unpack rebuilds the error that the vault process had.
func (f *Fault) Unpack() error {
	e := &fault.Error{Kind: f.Kind, Message: f.Message, Hint: fault.Hint(f.Hint), Err: reasonNamed(f.Reason)}
	if !f.Next.IsZero() {
		e.Err = &mfa.SpentError{Next: f.Next, Damaged: f.Damaged}
	}
	return e
}

func (c *Caller) program() (string, error) {
	if c.Exe != "" {
		return c.Exe, nil
	}
	if c.Find != nil {
		return c.Find()
	}
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil // the running program, even if its file has been replaced
	}
	exe, err := os.Executable()
	if err != nil {
		return "", fault.New(fault.Internal, "find this program: %w", err)
	}
	return exe, nil
}

// Environment returns the variables that a vault process needs to find the user's keyring. The route to AWS comes
// with the request, so it contains nothing that AWS tools read.
func Environment(from []string, backends []string) []string {
	bus := slices.Contains(backends, SecretService) || slices.Contains(backends, KWallet)
	pass := slices.Contains(backends, Pass)
	prefixes := []string{"DBUS_", "XDG_", "SSL_CERT_", "BROKER_"}
	if pass {
		prefixes = append(prefixes, "PASSWORD_STORE_")
	}
	var env []string
	for _, kv := range from {
		name, value, _ := strings.Cut(kv, "=")
		keep := slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		switch strings.ToUpper(name) {
		case "SYSTEMROOT", "USERPROFILE", "APPDATA", "LOCALAPPDATA": // Windows
			keep = true
		}
		switch name {
		case "PATH", "Path", "HOME", "LANG", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY":
			keep = true
		case "GNUPGHOME":
			keep = pass
		case "GPG_TTY":
			// A daemon has no terminal and must not prompt on anybody else's.
			keep = pass && tty.Exists()
		case "DBUS_SESSION_BUS_ADDRESS":
			if pass && !bus {
				env = append(env, OuterBus+"="+value)
			}
		}
		if keep {
			env = append(env, kv)
		}
	}
	if !bus {
		// The library dials the bus when the process starts; a broken bus must not affect another backend.
		env = append(env, "DBUS_SESSION_BUS_ADDRESS="+noBus)
	}
	return env
}

// lines collects the first bytes of a vault process's stderr and passes its notices on as they arrive.
type lines struct {
	data     bytes.Buffer
	seen     int // how much of data was searched for lines
	notice   func(string)
	hardened chan struct{} // closed at harden.Line
	is       bool          // hardened has been closed
}

func (l *lines) Write(p []byte) (int, error) {
	l.data.Write(p[:min(len(p), maxStderr-l.data.Len())])
	for {
		rest := l.data.Bytes()[l.seen:]
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			return len(p), nil
		}
		line := string(rest[:end])
		l.seen += end + 1
		if line == harden.Line && !l.is {
			l.is = true
			close(l.hardened)
		}
		if line, ok := strings.CutPrefix(line, NoticePrefix); ok {
			l.notice(line)
		}
	}
}
