package session

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"broker/internal/profiles"
	"broker/internal/secret"
)

// Config configures a Broker. BootTime, Log and the functions that may be nil are optional; set all other fields.
type Config struct {
	Profiles *profiles.Store
	Vault    Opener
	Logins   Logins // nil if nobody can log in on a page
	STS      Assumer
	Who      Who // fills the placeholders of a profile; its Program is that of each Request
	// Check says why a call to an endpoint cannot be sent. It runs before a person is asked for a code. If nil,
	// nothing is checked.
	Check func(profiles.Endpoint) error
	// Process runs the mfa_process of a source. If nil, no mfa_process runs.
	Process func(ctx context.Context, command string) (secret.String, error)
	// Run runs the command of a source of the kind OtherProgram and returns what it prints. If nil, no such command
	// runs.
	Run func(ctx context.Context, command string) (secret.String, error)
	// BootTime returns the time since boot, including sleep. If nil, the monotonic clock is used, which on most
	// systems stops during sleep.
	BootTime func() time.Duration
	Log      *slog.Logger
}

// Broker returns credentials for profiles. All code that hands out a credential calls Credentials: there is no
// other path to STS.
type Broker struct {
	cfg      Config
	cache    *cache
	prompts  prompts
	short    sync.Map // ARNs of roles that AWS gives for at most one hour
	logout   logouts
	untagged untagged
	programs programs
	looked   sync.Map // calls for which the vault has no seed and no session to use: Key to *profiles.Settings
	locked   atomic.Bool
	asking   atomic.Pointer[asking]
	forget   chan struct{} // holds one token while discard runs
	plans    atomic.Pointer[plans]
}

// New returns a Broker. Its calls in flight are canceled when ctx ends.
func New(ctx context.Context, cfg Config) *Broker {
	if cfg.BootTime == nil {
		start := time.Now()
		cfg.BootTime = func() time.Duration { return time.Since(start) }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{cfg: cfg, forget: make(chan struct{}, 1)}
	b.asking.Store(newAsking())
	b.cache = newCache(ctx, func() instant {
		// Round(0) drops the monotonic reading, so that the wall clock is compared on its own.
		return instant{time.Now().Round(0), cfg.BootTime()}
	}, b.renew)
	return b
}

// Request asks for the credentials of one profile.
type Request struct {
	Profile string // exact name of a profile or source, or an alias
	Files   profiles.Files
	Code    secret.String // an MFA code that the request brings; may be empty
	// Terminal and Window are where a person can be prompted for a code. Either may be nil.
	Terminal Terminal
	Window   Prompter
	// Tell sends the waiting client one line that explains the delay. It is nil if no client listens. It must not
	// block.
	Tell func(line string)
	// Client is the client that waits for the answer. It is nil if Broker cannot see that client disconnect.
	Client Client
	// MinTTL is the least remaining lifetime of the credentials; 0 accepts any.
	MinTTL time.Duration
	// Login opens only the session of the source, whatever roles the profile has. It asks AWS again even if a recent
	// failure is cached. If a person logged in on a page, the answer holds no credentials and no Expires.
	Login bool
	// AdHoc is a role for this request that no profile defines; nil uses the profile unchanged.
	AdHoc *AdHoc

	// Program names the tool that asks, for {program}. It is called only if the profile needs it. If nil, the tool
	// is not known.
	Program func() string
	// ElevatedUntil asks for the full rights of a profile with read_only = true until that moment. It has no effect
	// on other profiles, and none once it is past.
	ElevatedUntil time.Time
	Reason        string // why it is elevated, for {reason}; empty if it is not

	Limit Limit // narrows the session; the zero Limit does not
	// Agent is the coding agent that asks; empty for none. The profile may narrow what it gets (agents).
	Agent string
	// FindAgent looks for an agent among the process that asks and its parents. It is called only if Agent is empty and
	// the profile has agents. It may be nil.
	FindAgent func() string
	// Everyone means that every program can read the session, so agents can too.
	Everyone bool

	Quiet bool // nobody is prompted for a code, and no mfa_process runs
}

// Answer is the result of a request, by the profile's current definition.
type Answer struct {
	Credentials
	Profile string // exact name
	Source  string
	Region  string
	// Role is the ARN of the last role or of the federated user, or a permission set as ACCOUNT/NAME. It is empty for a
	// source.
	Role  string
	Guard profiles.Guard // who must confirm that the session is handed out
	// Agent is the coding agent that asks: that of the Request or, if the profile has agents, the one that was found.
	Agent string
	// Directories are the trusted directories; nil if there are none.
	Directories *profiles.Directories
	Direct      bool               // the role was assumed with the long-lived key
	ReadOnly    bool               // AWS's own policy limits the session to reading
	Account     string             // twelve digits; empty if the plan does not contain it
	Warnings    []profiles.Warning // about the files and the plan; says which files were read from their last valid state
	// Endpoints are the endpoints of the plan that are not AWS's own, see Plan.Endpoints. It is set also if there is an
	// error, and so are Role and Account if there is a plan.
	Endpoints string
}
