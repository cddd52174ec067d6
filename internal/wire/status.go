package wire

import (
	"fmt"
	"time"

	"broker/internal/fault"
	"broker/internal/system"
)

// What started a daemon, in Status.
const (
	OnDemand   = "on demand"         // a client that found no daemon
	ByPerson   = "hand"              // a person, in the foreground
	ByService  = "service"           // a service manager
	ByActivity = "socket activation" // a service manager, when a client connected
)

// Status describes the daemon and what it holds.
type Status struct {
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Version string    `json:"version"`
	// StartedBy is one of the constants above. It is empty if the daemon is too old to report it.
	StartedBy string `json:"started_by,omitempty"`
	Locked    bool   `json:"locked"`
	Keyring   string `json:"keyring"` // the backend; empty if none is chosen yet
	// KeyringUnknown means that the registry cannot be read; a warning says why.
	KeyringUnknown bool `json:"keyring_unknown,omitempty"`

	Answered int64     `json:"answered"`
	Refused  int64     `json:"refused"`
	Total    int       `json:"total"`    // total number of sessions
	Sessions []Session `json:"sessions"` // from the request's offset on, as many as fit
	Waiting  []Waiting `json:"waiting,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`

	Published []Published `json:"published,omitempty"`
	Commands  []Command   `json:"commands,omitempty"`

	Doors []Door `json:"doors,omitempty"`

	// Allowed lists what `broker allow` and `broker elevate` and answers to prompts allow.
	Allowed []Allowed `json:"allowed,omitempty"`

	Rotations []Rotating `json:"rotations,omitempty"`

	Goroutines int `json:"goroutines,omitempty"` // of the daemon; if it keeps growing, there is a leak

	Setup *Setup `json:"setup,omitempty"` // nil if the daemon is too old to report it

	Clock *Clock `json:"clock,omitempty"` // nil before the first answer of AWS
}

// Clock compares the clock of this machine with AWS's.
type Clock struct {
	Offset float64   `json:"offset_seconds"` // AWS's clock minus ours
	At     time.Time `json:"at"`             // when AWS answered
}

// Setup is the setup of a daemon: its absolute paths, and values from the settings or from its service unit.
type Setup struct { // empty if the daemon is too old to report it
	Home       string `json:"home,omitempty"` // empty of a daemon that is too old to say
	Registry   string `json:"registry"`
	StateDir   string `json:"state_dir"`
	KeyringDir string `json:"keyring_dir"` // of the file keyring
	Socket     string `json:"socket"`
	Route
	Path    []string `json:"path,omitempty"`     // directories of the setting path
	LeftOut []string `json:"left_out,omitempty"` // what it ignored of its environment: one sentence each
}

// Differs returns a sentence if a request is meant for another daemon, because its home, registry, state directory
// or keyring directory differs. It returns "" if the paths match. Empty paths match all.
func (s *Setup) Differs(req *Request) string {
	for _, row := range []struct{ what, theirs, ours string }{
		{"home", req.Home, s.Home}, // first: the others follow from it by default
		{"registry", req.Registry, s.Registry},
		{"state directory", req.State, s.StateDir},
		{"keyring directory", req.Keyring, s.KeyringDir},
	} {
		if row.theirs != "" && row.ours != "" && !system.SameFile(row.theirs, row.ours) {
			return fmt.Sprintf("the daemon on this socket uses the %s %s, but this shell uses %s", row.what, row.ours,
				row.theirs)
		}
	}
	return ""
}

// Command is a program with its own files or endpoint.
type Command struct {
	Mode     string    `json:"mode"`     // of exec: "file" or "server"
	Profiles []string  `json:"profiles"` // whose sessions it has; or the ARN of a role that no profile defines
	PID      int       `json:"pid"`
	Program  string    `json:"program,omitempty"` // its name, if known
	Since    time.Time `json:"since,omitzero"`
}

// Published is a profile whose session is, or should be, in a shared credentials file.
type Published struct {
	Profile     string     `json:"profile"`
	File        string     `json:"file"`
	AccessKeyID string     `json:"access_key_id,omitempty"` // empty while no session is in the file
	Expires     *time.Time `json:"expires,omitempty"`       // of the session in the file, which is refreshed before
	Until       *time.Time `json:"until,omitempty"`         // nil means as long as the daemon runs unlocked
	Error       string     `json:"error,omitempty"`         // why it is not in the file, or not refreshed
}

// Rotating is a source whose key is being replaced.
type Rotating struct {
	Source   string     `json:"source"`
	Old      string     `json:"old_access_key_id"`
	DeleteAt *time.Time `json:"delete_at,omitempty"` // when the old key, which is deactivated, is deleted
	Undo     bool       `json:"undo,omitempty"`
	Running  bool       `json:"running,omitempty"` // it makes steps now
	State    string     `json:"state"`             // in words
	// Error is why the last step failed that nobody waited for, and Hint the command that helps.
	Error string     `json:"error,omitempty"`
	Hint  fault.Hint `json:"hint,omitempty"`
}

// Allowed is a confirmation that was given beforehand for a guarded profile.
type Allowed struct {
	Profile  string    `json:"profile"`
	Elevated bool      `json:"elevated,omitempty"` // the full role of a profile with read_only = true
	Where    string    `json:"where"`              // such as "everywhere" or "in pts/1"
	Here     bool      `json:"here,omitempty"`     // it holds for the process that asks
	Until    time.Time `json:"until"`
	Reason   string    `json:"reason,omitempty"` // why; for the answer to a prompt, the reasons that it showed
	Answer   bool      `json:"answer,omitempty"` // it is the answer to a prompt
}

// Waiting is a device for whose code a prompt is open.
type Waiting struct {
	Source   string `json:"source"`
	Device   string `json:"mfa_serial"`
	Requests int    `json:"requests"` // number of requests that wait for the code
}

// Session is one session that the daemon holds, or failed to open.
type Session struct {
	ID       string `json:"id,omitempty"` // the same for all requests that ask STS for the same
	Source   string `json:"source"`
	Role     string `json:"role,omitempty"`      // ARN, or ACCOUNT/NAME of a permission set; empty for that of a source
	ReadOnly bool   `json:"read_only,omitempty"` // AWS's own policy limits it to reading
	// Kind is the kind of the source: portal, console, web-identity or program; empty for an IAM user.
	Kind string `json:"kind,omitempty"`
	// Login says that a person logged in on a page. If Renews is set, Broker renews the login without a person until AWS
	// ends it; Expires is then only the end of its token.
	Login bool `json:"login,omitempty"`
	// LoginEnds is when a person has to log in again, if that is known.
	LoginEnds   *time.Time `json:"login_ends,omitempty"`
	Device      string     `json:"mfa_serial,omitempty"` // the device whose code it took
	Profile     string     `json:"profile"`              // the profile that first asked for it
	AccessKeyID string     `json:"access_key_id,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
	Renews      *time.Time `json:"renews,omitempty"`
	LastUse     time.Time  `json:"last_use"`
	Endpoint    string     `json:"endpoint,omitempty"` // of STS, unless it is AWS's own of the region
	Error       string     `json:"error,omitempty"`
}
