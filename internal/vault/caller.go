// Package vault is the way to the keyring for all programs: the Caller, which starts a vault process for each call, and
// the request and answer that cross to it (package process, in brokerd). It links neither the keyring library nor the
// AWS SDK. It refuses to send a secret to a process that is not hardened, and to call while the broker is locked.
package vault

import (
	"bytes"
	"context"
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
	// DefaultTimeout is the deadline of one vault process: a whole step of waiting for an unused code, and the calls.
	DefaultTimeout = 45 * time.Second

	probeTimeout = 8 * time.Second
	// MaxProcesses is how many vault processes of this program run at a time; the others wait for their turn.
	MaxProcesses = 4
	maxStderr    = 4 << 10
	// OuterBus tells the vault of the backend pass the address of the session bus, for the prompts of gpg's agent, while
	// the library is shown none.
	OuterBus = "BROKER_OUTER_BUS"
	// NoticePrefix begins a line of a vault process that is for Notice.
	NoticePrefix = "notice: "

	busSilent = 71          // nodbus.BusSilent: how a vault process ends whose session bus says nothing
	noBus     = "disabled:" // nodbus.Disabled: an address of the session bus that nothing is dialled at
)

var slots = make(chan struct{}, MaxProcesses)

// Caller starts vault processes, one for each call, and is the only way to the keyring for the rest of
// the program. It is safe for concurrent use; the fields are not to be changed after the first call.
//
// While the broker is locked, all calls but Drop, Check and Probe fail with a fault of the kind Locked, before a
// process starts. All its errors are faults. Beyond those that a method names: Keyring, KeyringLocked (see
// ErrNoPassphrase, ErrWrongPassphrase), NotFound (see ErrNotCreated), Config, Usage, and Internal.
type Caller struct {
	// Exe is the program that is the vault process for the argument "vault": brokerd. Empty is what Find finds, or this
	// very program if Find is nil, even if its file was replaced since.
	Exe string
	// Find is asked for that program at each call.
	Find func() (string, error)
	// Backend says which keyring was chosen: one of Backends, or "" for the first that works,
	// which is then kept. Nil is "". See InUse.
	Backend func() string
	// Dir is the directory of the file keyring, absolute.
	Dir string
	// StateDir is where the ledger of used codes is, absolute.
	StateDir string
	// Registry is the registry that decides where calls go, absolute and without symbolic links; Open goes by that of
	// its source. A key of another registry can only be used if that one names this one in its setting registry.
	Registry string
	// Timeout bounds each call; 0 means DefaultTimeout.
	Timeout time.Duration
	// Route is asked at each call for the way to AWS; nil: directly, with the system's CAs.
	Route func() profiles.Route
	// Env is the environment from which vault processes get what they need; nil is our own.
	Env func() []string
	// Notice, if not nil, is told in one line why a call of a source takes long, or what it could not do beside
	// its answer.
	Notice func(source, line string)

	mu    sync.Mutex
	opens secret.String // the file keyring: its passphrase, or the key that an answer gave for it
	// generation counts the calls of SetPassphrase, see run.
	generation int
	probed     string
	offset     time.Duration // AWS's clock minus ours, as the last answer told
}

var _ session.Opener = (*Caller)(nil)

// Key is a long-lived access key to store.
type Key struct {
	Name        string // of the source
	AccessKeyID string
	Secret      secret.String
	Seed        secret.String // of the MFA device; may be empty
	// Replace allows another key to take the place of one of that name; otherwise that is ErrExists.
	// The same key can be stored again without it.
	Replace  bool
	KeepSeed bool // a replaced item's seed stays where Seed is empty
}

// Info is what may be known of a stored key.
type Info struct {
	AccessKeyID string    `json:"access_key_id"`
	HasSeed     bool      `json:"has_seed"`
	Created     time.Time `json:"created"` // when it was stored, UTC
}

// Identity is whose a long-lived key is, as GetCallerIdentity tells.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
type Identity struct {
	Account string `json:"account"` // twelve digits
	ARN     string `json:"arn"`
	UserID  string `json:"user_id"`
}

// Trial is what Probe found out about one backend.
type Trial struct {
	Backend string
	Err     error // nil: it can be used. Of kind KeyringLocked: it is there, and locked. ErrNotCreated: it can be made
	ByName  bool  // it is used only where the settings name it
}

// Works reports whether the backend can be used, be it locked or not made yet.
func (t Trial) Works() bool {
	return t.Err == nil || fault.Is(t.Err, fault.KeyringLocked) || errors.Is(t.Err, ErrNotCreated)
}

// SetPassphrase keeps the passphrase of the file keyring, or what Key returned, for the calls that follow. The first
// call that a passphrase opens the keyring for replaces it by the key.
func (c *Caller) SetPassphrase(p secret.String) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opens = p
	c.generation++
}

// Key is what opens the file keyring for SetPassphrase of another Caller, in this version or an older one: once a call
// has opened the keyring its key; the passphrase of an old keyring that could not be given a key; empty if neither is
// known.
func (c *Caller) Key() secret.String {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opens
}

// Forget forgets the passphrase and the key.
func (c *Caller) Forget() { c.SetPassphrase(secret.String{}) }

// Open fulfils session.Opener. Sessions of a source with an MFA device are kept in the keyring; without a code, a
// kept one that was asked the same with the same key is the answer while enough of it is left, as issued now.
func (c *Caller) Open(ctx context.Context, source profiles.Source, call session.Call, code secret.String) (session.Credentials, error) {
	a, err := c.run(ctx, openRequest(source, call, code))
	if err != nil {
		return session.Credentials{}, err
	}
	if a.Credentials == nil {
		return session.Credentials{}, fault.New(fault.Internal, "the vault process answered without credentials")
	}
	return a.Credentials.Sealed(), nil
}

// Put stores a key. With verify, GetCallerIdentity is asked first: the identity is returned, and anything but
// an IAM user is Failed. Further faults: Denied, Network and the others of an STS call.
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

// SetSeed stores the TOTP seed of a source, in a form that mfa.ParseSeed takes. NotFound if the source is not there.
func (c *Caller) SetSeed(ctx context.Context, source string, seed secret.String) error {
	_, err := c.run(ctx, seedRequest(source, seed))
	return err
}

// RemoveSeed forgets the seed of a source, if it has one.
func (c *Caller) RemoveSeed(ctx context.Context, source string) error {
	_, err := c.run(ctx, &Request{Op: OpRemoveSeed, Source: source})
	return err
}

// Drop fulfils session.Opener: it deletes the kept session of a source. None is fine.
func (c *Caller) Drop(ctx context.Context, source string) error {
	_, err := c.run(ctx, &Request{Op: OpDrop, Source: source})
	return err
}

// Remove deletes the key, the seed and the kept session of a source. NotFound if it is not there.
func (c *Caller) Remove(ctx context.Context, source string) error {
	_, err := c.run(ctx, &Request{Op: OpRemove, Source: source})
	return err
}

// Describe tells what is stored for a source. NotFound if it is not there.
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

// Devices asks AWS for the serials of the MFA devices of the user whose key a source is. Where the user may not
// ask that without a code, as AWS's example policies have it, the fault is Denied. NotFound if the source is not there;
// further faults: Network and the others of a call. The endpoint's URL, if it has one, is asked for IAM.
func (c *Caller) Devices(ctx context.Context, source string, endpoint profiles.Endpoint) ([]string, error) {
	a, err := c.run(ctx, &Request{Op: OpDevices, Source: source, Endpoint: endpoint})
	if err != nil {
		return nil, err
	}
	return a.Serials, nil
}

// Check proves that the chosen keyring can be used now: reachable, unlocked, the passphrase right. It asks nobody.
func (c *Caller) Check(ctx context.Context) error {
	_, err := c.run(ctx, &Request{Op: OpCheck})
	return err
}

// Create makes the file keyring with its first passphrase and keeps the key. Notice is told if the passphrase is weak.
// ErrExists if it was made before.
func (c *Caller) Create(ctx context.Context, passphrase secret.String) error {
	q := &Request{Op: OpCreate, Backend: File}
	q.withPassphrase(passphrase)
	_, err := c.run(ctx, q)
	return err
}

// Probe tries each backend, and says of each whether it can be used or why not. It writes nothing and asks nobody.
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

// InUse is the backend that the calls use: the chosen one, or the first of Backends that works and may be taken unasked, which stays
// the one until this Caller is gone. The command that stores the first key should write it to the settings.
// Keyring with all reasons if none works.
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
		reason, _, _ := strings.Cut(t.Err.Error(), "; ") // what else to do is the same for all
		reasons = append(reasons, t.Backend+": "+reason)
	}
	return "", fault.New(fault.Keyring, "no keyring can be used (%s); mend one, or choose one with keyring_backend in [settings]", strings.Join(reasons, "; ")).
		WithHint("broker keyring list")
}

// run is one vault process.
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
		return nil, fault.New(fault.Keyring, "gave up while %d other calls waited for the keyring: %w", MaxProcesses, ctx.Err())
	}
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	if timeout < time.Millisecond {
		return nil, fault.New(fault.Keyring, "no time is left to ask the keyring: %w", context.DeadlineExceeded)
	}
	c.mu.Lock()
	if q.Op != OpCreate { // that one brings the new passphrase
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
	if c.Find != nil { // else it is this very program, or what took its place on disk since
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
		c.offset = time.Duration(a.OffsetMS) * time.Millisecond
	}
	if a.Key != "" && c.generation == generation { // else it was forgotten meanwhile, or another passphrase given
		c.opens = a.key()
	}
	c.mu.Unlock()
	if a.Fault != nil {
		return nil, a.Fault.Unpack()
	}
	return a, nil
}

// exchange starts the process, gives it the request once it is hardened, and takes its answer.
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
		Stderr: stderr, Timeout: timeout + time.Second, Limit: MaxMessage + 2, // ctx ends it, and not this Timeout
	}.Converse(ctx, func(process *child.Lines) error {
		select {
		case <-stderr.hardened:
			if open = harden.Verify(process.PID()); open != nil {
				return open
			}
			_ = process.Send(append(data, '\n')) // its failure shows as one of the answer
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
		return nil, fault.New(fault.Keyring, "the vault process is sent nothing: %w", open)
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

// endOf says how a vault process ended that gave no answer. Of its stderr only a line of the Go runtime that cannot
// hold a value is shown.
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

// Unpack makes the error that the vault process had.
func (f *Fault) Unpack() error {
	e := &fault.Error{Kind: f.Kind, Message: f.Message, Hint: fault.Hint(f.Hint), Err: reasons[f.Reason]}
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
		return "/proc/self/exe", nil // the running program, though its file may be another by now
	}
	exe, err := os.Executable()
	if err != nil {
		return "", fault.New(fault.Internal, "find this program: %w", err)
	}
	return exe, nil
}

// Environment is what a vault process needs to find the user's keyring. The way to AWS comes with the request;
// nothing that AWS tools read is in it.
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
		case "SYSTEMROOT", "USERPROFILE", "APPDATA", "LOCALAPPDATA": // of Windows
			keep = true
		}
		switch name {
		case "PATH", "Path", "HOME", "LANG", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY":
			keep = true
		case "GNUPGHOME":
			keep = pass
		case "GPG_TTY":
			// A daemon has no terminal of its own, and must not ask on somebody's.
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
		// The library dials the bus when the process starts; a bus in trouble must not touch another backend.
		env = append(env, "DBUS_SESSION_BUS_ADDRESS="+noBus)
	}
	return env
}

// lines is the stderr of a vault process: its first bytes, and its notices passed on as they come.
type lines struct {
	data     bytes.Buffer
	seen     int // of data, as far as it was looked through for lines
	notice   func(string)
	hardened chan struct{} // closed at harden.Line
	is       bool          // hardened is closed
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
