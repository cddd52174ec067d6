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

// Config is what a Broker is made of. All but BootTime and Log must be set.
type Config struct {
	Profiles    *profiles.Store
	Vault       Opener
	STS         Assumer
	SessionName string // role session name where a profile has none
	// Remind tells the person that a session ends soon which only a code can renew; nil for nobody.
	Remind func(source string, end time.Time)
	// Check says why a call to an endpoint cannot be sent, before a person is asked for its code; nil for no check.
	Check func(profiles.Endpoint) error
	// Process runs the mfa_process of a source; nil where there is none.
	Process func(ctx context.Context, command string) (secret.String, error)
	// BootTime is the time since boot, sleep included; nil means the
	// monotonic clock, which on most systems stops in sleep.
	BootTime func() time.Duration
	Log      *slog.Logger
}

// Broker answers for profiles. Everything that hands out a credential is a
// user of Credentials; there is no second path to STS.
type Broker struct {
	cfg    Config
	cache  *cache
	desk   desk
	short  sync.Map // ARNs of roles that AWS gives for one hour at most
	logout logouts
	looked sync.Map // calls for which the vault had neither session nor seed: Key to profiles.Settings
	locked atomic.Bool
	asking atomic.Pointer[asking]
	forget chan struct{} // holds one while discard is at work
	plans  atomic.Pointer[plans]
}

// New makes a Broker whose work under way ends with ctx.
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
		// Round(0) drops the monotonic part: the wall clock is asked on its own.
		return instant{time.Now().Round(0), cfg.BootTime()}
	}, b.renew)
	return b
}

// Request asks for the credentials of one profile.
type Request struct {
	Profile string // exact name of a profile or source, or an alias
	Files   profiles.Files
	Code    secret.String // an MFA code that the request brings; may be empty
	// Terminal and Window are where somebody can be asked for a code; nil for nowhere.
	Terminal Terminal
	Window   Asker
	// Tell says in one line to the waiting client why it takes so long; nil if nobody listens. It must not block.
	Tell func(line string)
	// Client is who waits for the answer; nil if it cannot be seen to go away.
	Client Client
	// MinTTL is how long the credentials have to last at least; 0 for any time.
	MinTTL time.Duration
	// Login opens the MFA session alone, whatever roles the profile has, and
	// asks AWS again where it failed a moment ago.
	Login bool
	// AdHoc is a role that no profile names; nil for the profile as it is.
	AdHoc *AdHoc

	background bool // nobody waits, so nobody may be asked
}

// Answer is what a profile's definition says now.
type Answer struct {
	Credentials
	Profile  string // exact name
	Source   string
	Region   string
	Role     string             // ARN of the last role, or of the federated user; empty for a source
	Direct   bool               // the role was assumed with the long-lived key itself
	Account  string             // twelve digits; empty if the ARNs of the plan do not tell it
	Warnings []profiles.Warning // about the files, and what was served from their last good state
	// Endpoints are where calls go that is not AWS's own; set with an error too. See Plan.Endpoints.
	Endpoints string
}
