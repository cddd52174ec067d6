// Package grant owns everything that is handed out and still answered for. A Grant is an endpoint, the files of a
// command, or a section of a shared credentials file. A Keeper has them all, in one record and one loop: it adopts them
// after a restart, renews them, and ends them. Give is the only function through which a session leaves. The package
// refuses to know how a session is made; that is session.Broker's.
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
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/session"
	"broker/internal/wire"
)

// Kind is how a grant reaches its user.
type Kind string

// The kinds. The session of an Endpoint is fetched by its user; the others are put where tools read them.
const (
	Endpoint Kind = "endpoint" // over HTTP, for one process
	Files    Kind = "files"    // AWS files of its own, for one process
	Section  Kind = "section"  // in the shared credentials file, for all
)

// A Grant is one thing that Broker handed out, as the record has it. It holds no secret.
type Grant struct {
	ID       string       `json:"id"` // 32 hex digits
	Kind     Kind         `json:"kind"`
	Owner    peer.Process `json:"owner,omitzero"` // it ends with that process; zero for none
	Profiles []string     `json:"profiles"`       // as they were asked for, one for an endpoint; else by their exact names
	Role     *wire.Role   `json:"role,omitempty"` // what was asked for beside the profile
	Sources  []string     `json:"sources,omitempty"`
	// The AWS files that the profiles are read from, absolute; empty for the daemon's own.
	AWSConfig      string    `json:"aws_config_file,omitempty"`
	AWSCredentials string    `json:"aws_shared_credentials_file,omitempty"`
	Since          time.Time `json:"since"`
	Until          time.Time `json:"until,omitzero"`

	Standing  bool     `json:"standing,omitempty"`   // the registry names it (publish = true)
	Off       bool     `json:"off,omitempty"`        // a standing one that was unpublished
	LoggedOut []string `json:"logged_out,omitempty"` // the sources that have to be logged in to before it goes on
	Ended     bool     `json:"ended,omitempty"`      // what it put somewhere could not be removed yet

	Port  int    `json:"port,omitempty"`         // of an endpoint, on 127.0.0.1
	Token string `json:"token_sha256,omitempty"` // of an endpoint, in hex
	Dir   string `json:"dir,omitempty"`          // of files: the directory that was made for them
	Masks bool   `json:"masks,omitempty"`        // of files: they hide [default], and hold no session
	// Keys are the access key ids that may be in the section, the latest first. Earlier ones are kept because an
	// editor may write back what it read before a renewal.
	Keys []string `json:"keys,omitempty"`
	// At is the file in which the section stands: the path of the credentials file may be a link that changes.
	At string `json:"at,omitempty"`
	// Expires is when the first of the sessions ends that may be where tools read them; zero without a session.
	Expires time.Time `json:"expires,omitzero"`
}

// held is a grant with what is known of it while the daemon runs. All that changes is protected by Keeper.mu: of the
// Grant, that is Sources and all from Until on but what tells an endpoint or the directory of files.
type held struct {
	Grant
	sessions []session.Answer // that this daemon put where tools read them
	err      error            // the last failure to renew or remove it
	waits    bool             // for a person
	gone     bool             // a standing one that the registry does not name now
	next     time.Time        // when it is renewed; zero for at once
	renewing bool
	unwatch  context.CancelFunc // ends the wait for the end of its owner; nil without an owner
	retry    time.Time          // it is not taken out before, because that failed a moment ago
	revision int                // counts what shuts it: a session that was asked for before is not put there after
	wrong    int                // tokens
}

// open reports whether the grant should have a session now.
func (h *held) open(now time.Time) bool {
	return !h.Ended && !h.Off && !h.gone && len(h.LoggedOut) == 0 && (h.Until.IsZero() || now.Before(h.Until))
}

// files are the AWS files that its profiles are read from.
func (g *Grant) files(own profiles.Files) profiles.Files {
	if g.AWSConfig != "" {
		own.Config = g.AWSConfig
	}
	if g.AWSCredentials != "" {
		own.Credentials = g.AWSCredentials
	}
	return own
}

// Config is what a Keeper is made of. All fields must be set.
type Config struct {
	Broker *session.Broker
	Store  *profiles.Store
	Files  profiles.Files // the daemon's own
	Audit  Recorder
	Log    *slog.Logger
	// Locked reports whether nothing may leave, by every file that can say so.
	Locked func() bool

	Socket      string // of the daemon, absolute
	StateDir    string // where the record is
	CommandsDir string // where the files of commands are made
}

// Recorder takes the audit events: audit.Log.
type Recorder interface{ Record(audit.Event) error }

// Keeper has the grants of one daemon.
type Keeper struct {
	Config
	Given, Refused atomic.Int64 // requests
	LastUse        atomic.Int64 // Unix seconds; a renewal is no use

	gate     sync.RWMutex    // held for reading while something leaves
	life     context.Context // ends after the last request
	wake     chan struct{}
	renewals sync.WaitGroup

	endpoints endpoints
	commands  commands
	sections  sections

	mu      sync.Mutex
	grants  map[string]*held
	unsaved bool             // the record is not as the grants are
	ending  bool             // nothing is handed out any more
	over    bool             // the record is the next daemon's
	logouts int64            // how many there were
	last    map[string]int64 // the number of the last one, by source; "" for all sources
}

// A delivery puts the sessions of grants where their users read them. An endpoint has none: its user fetches the
// session.
type delivery interface {
	// put makes these the sessions of a grant. The error is errShut if it was shut since it had this revision.
	put(h *held, revision int, sessions []session.Answer) error
	// clear takes the sessions out of those grants that have one. The error says where one is left.
	clear(list []*held) error
}

var errShut = fault.New(fault.LoginNeeded, "it was locked, logged out or ended meanwhile; try again")

// New makes a Keeper.
func New(cfg Config) *Keeper {
	k := &Keeper{Config: cfg, wake: make(chan struct{}, 1), grants: map[string]*held{}, last: map[string]int64{}}
	k.LastUse.Store(time.Now().Unix())
	k.endpoints.init(k)
	k.commands.k = k
	k.sections.k = k
	return k
}

func (k *Keeper) delivery(kind Kind) delivery {
	if kind == Files {
		return &k.commands
	}
	return &k.sections
}

// Begin adopts what the daemon before left, with the listening sockets of its endpoints by their port; nil for none.
// What is given from now on is given under life.
func (k *Keeper) Begin(life context.Context, inherited map[int]net.Listener) {
	k.life = life
	k.adopt()
	k.endpoints.begin(inherited)
	if k.Locked() {
		if err := k.Shut(); err != nil {
			k.Log.Error("locked", "err", err)
		}
	}
}

// all are the grants that match, in no order.
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

// Any reports whether a grant would be missed if the daemon ended now.
func (k *Keeper) Any() bool {
	if len(k.all(func(h *held) bool { return !h.gone })) > 0 {
		return true
	}
	set, err := k.Store.Load(k.Files)
	return err != nil || len(set.Standing()) > 0
}

// watchLocked ends a grant as soon as its owner does.
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
			_ = k.end(h) // the loop tries again
		} // else the loop notices
	}()
}

// end ends a grant. What cannot be removed now is tried again by the loop.
func (k *Keeper) end(h *held) error {
	k.mu.Lock()
	h.Ended = true
	h.revision++
	k.mu.Unlock()
	var err error
	switch h.Kind {
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

// add begins to answer for a new grant. It is in the record before its user has anything.
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

// self is who asks for a renewal.
func self() Caller {
	p := peer.Peer{UID: os.Getuid(), Process: peer.Process{PID: os.Getpid()}}
	return Caller{p, p.Program}
}
