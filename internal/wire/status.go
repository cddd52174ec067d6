package wire

import (
	"fmt"
	"time"

	"broker/internal/system"
)

// Who starts daemons, as Status tells it.
const (
	OnDemand   = "on demand"         // a client, which found none
	ByPerson   = "hand"              // in the foreground
	ByService  = "service"           // a service manager
	ByActivity = "socket activation" // a service manager, for a client
)

// Status is what the daemon holds.
type Status struct {
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Version string    `json:"version"`
	// StartedBy says who started it: one of the constants. Empty of one that is too old to say.
	StartedBy string `json:"started_by,omitempty"`
	Locked    bool   `json:"locked"`
	Keyring   string `json:"keyring"` // the backend, empty if none was chosen yet
	// KeyringUnknown: the registry cannot be read, and a warning says why.
	KeyringUnknown bool `json:"keyring_unknown,omitempty"`

	Answered int64     `json:"answered"`
	Refused  int64     `json:"refused"`
	Total    int       `json:"total"`    // sessions there are
	Sessions []Session `json:"sessions"` // from the request's offset on, as many as fit
	Waiting  []Waiting `json:"waiting,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`

	Published []Published `json:"published,omitempty"`
	Commands  []Command   `json:"commands,omitempty"`

	Goroutines int `json:"goroutines,omitempty"` // of the daemon; steady, or something in it is not given back

	Setup *Setup `json:"setup,omitempty"` // nil of a daemon that is too old to say
}

// Setup is what a daemon works with: its paths, absolute, and what it has from the settings or from its service unit.
type Setup struct {
	Home       string `json:"home,omitempty"` // empty of a daemon that is too old to say
	Registry   string `json:"registry"`
	StateDir   string `json:"state_dir"`
	KeyringDir string `json:"keyring_dir"` // of the file keyring
	Socket     string `json:"socket"`
	Route
	Path    []string `json:"path,omitempty"`     // directories of the setting
	LeftOut []string `json:"left_out,omitempty"` // of the environment that started it: one sentence each
}

// Differs says in what the daemon of a setup is not the one that a request means: its registry, state, keyring or home
// is another. It is "" if it is that daemon. Empty paths say nothing.
func (s Setup) Differs(req Request) string {
	for _, row := range []struct{ what, theirs, ours string }{
		{"home", req.Home, s.Home}, // the others follow it by default
		{"registry", req.Registry, s.Registry},
		{"state directory", req.State, s.StateDir},
		{"keyring directory", req.Keyring, s.KeyringDir},
	} {
		if row.theirs != "" && row.ours != "" && !system.SameFile(row.theirs, row.ours) {
			return fmt.Sprintf("the daemon on this socket uses the %s %s, and this shell means %s", row.what, row.ours,
				row.theirs)
		}
	}
	return ""
}

// Command is a program that was started with files or an endpoint of its own.
type Command struct {
	Mode     string    `json:"mode"`     // of exec: "file" or "server"
	Profiles []string  `json:"profiles"` // whose sessions it has; the ARN of a role that no profile names
	PID      int       `json:"pid"`
	Program  string    `json:"program,omitempty"` // its name, where that can be told
	Since    time.Time `json:"since,omitzero"`
}

// Published is a profile whose session is kept in a shared credentials file, or should be.
type Published struct {
	Profile     string     `json:"profile"`
	File        string     `json:"file"`
	AccessKeyID string     `json:"access_key_id,omitempty"` // empty while it is not in the file
	Expires     *time.Time `json:"expires,omitempty"`       // of the session in the file, which is renewed before
	Until       *time.Time `json:"until,omitempty"`         // nil for as long as the daemon runs unlocked
	Error       string     `json:"error,omitempty"`         // why it is not there, or not renewed
}

// Waiting is a device whose code a person is being asked for.
type Waiting struct {
	Source   string `json:"source"`
	Device   string `json:"mfa_serial"`
	Requests int    `json:"requests"` // that wait for it
}

// Session is one session that the daemon holds, or failed to get.
type Session struct {
	ID          string     `json:"id,omitempty"` // the same for all who ask STS the same
	Source      string     `json:"source"`
	Role        string     `json:"role,omitempty"`       // ARN; empty for the MFA session
	Device      string     `json:"mfa_serial,omitempty"` // whose code it took
	Profile     string     `json:"profile"`              // that asked for it first
	AccessKeyID string     `json:"access_key_id,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
	Renews      *time.Time `json:"renews,omitempty"`
	LastUse     time.Time  `json:"last_use"`
	Endpoint    string     `json:"endpoint,omitempty"` // of STS, where that is not AWS's own of the region
	Error       string     `json:"error,omitempty"`
}
