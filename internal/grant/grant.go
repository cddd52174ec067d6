// Package grant manages everything that Broker handed out and still answers for. A Grant is an endpoint, the files
// of a command, a section of a shared credentials file, or a door. A Keeper holds all grants in one record and one
// loop. It adopts them after a restart, refreshes them, and ends them. Give is the only function through which a
// session leaves. The package does not know how sessions are made; session.Broker does.
package grant

import (
	"context"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/guard"
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/session"
	"broker/internal/wire"
)

// Kind is the delivery of a grant.
type Kind string

// The kinds of grants. The user of an Endpoint or a Door fetches its session; for the other kinds, Broker writes the
// session where tools read it.
const (
	Endpoint Kind = "endpoint" // over HTTP, for one process
	Files    Kind = "files"    // private AWS files, for one process
	Section  Kind = "section"  // a section of the shared credentials file, for all processes
	Door     Kind = "door"     // a socket that hands out the sessions of named profiles, and nothing else
)

// Grant is one thing that Broker handed out, in the form of the record. It holds no secret.
type Grant struct {
	ID       string       `json:"id"` // 32 hex digits
	Kind     Kind         `json:"kind"`
	Owner    peer.Process `json:"owner,omitzero"` // the grant ends with this process; zero for none
	Profiles []string     `json:"profiles"`       // exact names; for an endpoint, the one name as it was asked for
	Role     *wire.Role   `json:"role,omitempty"` // overrides of the profile, or a role that no profile defines
	Sources  []string     `json:"sources,omitempty"`
	Program  string       `json:"program,omitempty"` // for {program}: what asked for the grant
	Agent    string       `json:"agent,omitempty"`   // the coding agent that asked for the grant
	// The absolute paths of the AWS files that define the profiles; empty for the daemon's own.
	AWSConfig      string    `json:"aws_config_file,omitempty"`
	AWSCredentials string    `json:"aws_shared_credentials_file,omitempty"`
	Since          time.Time `json:"since"`
	Until          time.Time `json:"until,omitzero"`

	Standing  bool     `json:"standing,omitempty"`   // the registry keeps it published (publish = true)
	Off       bool     `json:"off,omitempty"`        // unpublished, although Standing
	LoggedOut []string `json:"logged_out,omitempty"` // the sources that need a login before the grant continues
	Ended     bool     `json:"ended,omitempty"`      // its delivery could not be removed yet

	Port  int    `json:"port,omitempty"`         // of an endpoint, on 127.0.0.1
	Token string `json:"token_sha256,omitempty"` // of an endpoint: SHA-256 in hex
	Dir   string `json:"dir,omitempty"`          // of files and doors: their directory
	Masks bool   `json:"masks,omitempty"`        // of files: they hide [default] and hold no session
	Door  *Terms `json:"door,omitempty"`         // of a door
	// Keys are the access key ids that may be in the section, the latest first. Earlier ids are kept, because an
	// editor may write back what it read before a refresh.
	Keys []string `json:"keys,omitempty"`
	// At is the file that holds the section. The path of the credentials file may be a link that changes.
	At string `json:"at,omitempty"`
	// Expires is when the first of the delivered sessions ends. It is zero if none is delivered.
	Expires time.Time `json:"expires,omitzero"`
}

// held is a grant with its state in this daemon. Keeper.mu protects all fields that change. Those of the Grant are
// Sources and the fields from Until on, except the ones that identify an endpoint or the directory of files.
type held struct {
	Grant
	sessions []session.Answer // delivered by this daemon
	err      error            // the last failure to refresh or remove it
	waits    bool             // a person must act first
	gone     bool             // Standing, but no longer in the registry
	next     time.Time        // when to refresh it; zero means now
	renewing bool
	unwatch  context.CancelFunc // stops waiting for the end of the owner; nil without an owner
	retry    time.Time          // do not retry a failed removal before this time
	revision int                // counts what shuts it: a session requested earlier is then refused
	wrong    int                // number of wrong tokens
	over     chan struct{}      // of a door: closed when it has ended
	closed   bool               // end was called
	given    int64              // of a door: number of sessions that it handed out
	broken   error              // of a door: why its socket does not work
	said     *refusals          // of a door
}

// abandoned reports whether the owner has ended.
func (g *Grant) abandoned() bool { return g.Owner.PID != 0 && !g.Owner.Running() }

// open reports whether the grant should have a session now.
func (h *held) open(now time.Time) bool {
	return !h.Ended && !h.Off && !h.gone && len(h.LoggedOut) == 0 && (h.Until.IsZero() || now.Before(h.Until))
}

// files returns the AWS files that define the profiles of the grant.
func (g *Grant) files(own profiles.Files) profiles.Files {
	if g.AWSConfig != "" {
		own.Config = g.AWSConfig
	}
	if g.AWSCredentials != "" {
		own.Credentials = g.AWSCredentials
	}
	return own
}

// Config configures a Keeper. All fields must be set.
type Config struct {
	Broker *session.Broker
	Store  *profiles.Store
	Files  profiles.Files // the daemon's own
	Audit  Recorder
	Guard  *guard.Guard
	Log    *slog.Logger
	// Locked reports whether nothing may leave. It checks all lock files too.
	Locked func() bool

	Socket      string // path of the daemon's socket, absolute
	StateDir    string // directory of the record
	CommandsDir string // directory for the files of commands
	DoorsDir    string // directory for the directories of doors

	Doorman Doorman
	Helper  func() (string, error) // returns the absolute path of the installed credproc
	// BootTime returns the time since boot, sleep included.
	BootTime func() time.Duration
}

// Recorder records audit events. It is implemented by audit.Log.
// It writes all events of a call, or none.
type Recorder interface {
	Record(events ...audit.Event) error
}

// Keeper manages the grants of one daemon.
type Keeper struct {
	Config
	Given, Refused atomic.Int64 // numbers of requests
	LastUse        atomic.Int64 // Unix seconds; a refresh does not count as a use

	gate     sync.RWMutex    // read-locked while something is handed out
	life     context.Context // ends after the last request
	wake     chan struct{}
	renewals sync.WaitGroup

	endpoints endpoints
	commands  commands
	sections  sections
	doors     doors

	mu      sync.Mutex
	grants  map[string]*held
	unsaved bool             // the record must be written again
	ending  bool             // nothing is handed out any more
	over    bool             // the next daemon owns the record now
	logouts int64            // number of logouts so far
	last    map[string]int64 // number of the last logout, by source; "" for all sources
}

// delivery writes the sessions of grants where their users read them. Endpoints and doors have no delivery of this
// type: their users fetch the session.
type delivery interface {
	// put delivers these sessions for a grant. It returns errShut if the grant was shut after it had this
	// revision.
	put(h *held, revision int, sessions []session.Answer) error
	// clear removes the delivered sessions of these grants. The error says where a session is left.
	clear(list []*held) error
}

var errShut = fault.New(fault.LoginNeeded, "interrupted by a lock, a logout or the end of the grant; try again")

// New returns a Keeper.
func New(cfg Config) *Keeper {
	k := &Keeper{Config: cfg, wake: make(chan struct{}, 1), grants: map[string]*held{}, last: map[string]int64{}}
	k.LastUse.Store(time.Now().Unix())
	k.endpoints.init(k)
	k.commands.k = k
	k.sections.k = k
	k.doors.init(k)
	return k
}

func (k *Keeper) delivery(kind Kind) delivery {
	if kind == Files {
		return &k.commands
	}
	return &k.sections
}

// Sockets are the listening sockets that one daemon leaves to the next.
type Sockets struct {
	Ports map[int]net.Listener         // of endpoints, by port
	Doors map[string]*net.UnixListener // by the id of the door
}

// Begin adopts the grants of the previous daemon, with its sockets, if it left any. Everything handed out from now on
// uses the context life.
func (k *Keeper) Begin(life context.Context, inherited Sockets) {
	k.life = life
	k.adopt()
	k.endpoints.begin(inherited.Ports)
	k.doors.begin(inherited.Doors)
	if k.Locked() {
		if err := k.Shut(); err != nil {
			k.Log.Error("cannot lock completely", "err", err)
		}
	}
}

// all returns the grants that match, in no particular order.
func (k *Keeper) all(match func(*held) bool) (list []*held) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.grants {
		if match(h) {
			list = append(list, h)
		}
	}
	return list
}

// Any reports whether ending the daemon now would interrupt a grant.
func (k *Keeper) Any() bool {
	if len(k.all(func(h *held) bool { return !h.gone })) > 0 || len(k.Guard.List()) > 0 {
		return true
	}
	set, err := k.Store.Load(k.Files)
	return err != nil || len(set.Standing()) > 0
}

// watchLocked ends a grant as soon as its owner ends.
func (k *Keeper) watchLocked(h *held) {
	if h.Owner.PID == 0 {
		return
	}
	ctx, cancel := context.WithCancel(k.life)
	h.unwatch = cancel
	owner := h.Owner
	go func() {
		defer cancel()
		if owner.Ended(ctx) == nil {
			_ = k.end(h) // the loop retries
		} // otherwise the loop notices
	}()
}

// end ends a grant. If its delivery cannot be removed now, the loop retries.
func (k *Keeper) end(h *held) error {
	k.mu.Lock()
	first := !h.closed
	h.Ended, h.closed = true, true
	h.revision++
	k.mu.Unlock()
	if first && h.Kind == Door {
		k.recordClosed(h)
	}
	var err error
	switch h.Kind {
	case Door:
		err = k.doors.remove(h)
	case Endpoint:
		err = k.endpoints.remove(h)
	case Files:
		err = k.commands.remove(h)
	default:
		err = k.sections.clear([]*held{h})
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		h.err, h.retry = err, time.Now().Add(writePause)
		k.grants[h.ID] = h
	} else {
		if h.unwatch != nil {
			h.unwatch()
		}
		delete(k.grants, h.ID)
	}
	_ = k.saveLocked()
	return err
}

// add adds a new grant. The grant is in the record before its user gets anything.
func (k *Keeper) add(h *held) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.grants[h.ID] = h
	if err := k.saveLocked(); err != nil {
		delete(k.grants, h.ID)
		return fault.New(fault.Failed, "save the record of grants: %w", err).WithHint("%s", fault.Of(err).Hint)
	}
	k.watchLocked(h)
	return nil
}

// self is the Caller of a refresh: this daemon.
func self() Caller {
	return Caller{Peer: peer.Peer{UID: os.Getuid(), Process: peer.Process{PID: os.Getpid()}}}
}

// programOf returns the tool that asks for a grant. The grant keeps its name, so that a refresh is for the same
// session.
func programOf(r session.Request) string {
	if r.Program != nil {
		return r.Program()
	}
	return ""
}
