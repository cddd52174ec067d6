package wire

import "time"

// Rotation says what Rotate does.
type Rotation struct {
	Step  string `json:"step"`                    // one of the constants below
	Grace int    `json:"grace_seconds,omitempty"` // how long the old key stays, deactivated
	Yes   bool   `json:"yes,omitempty"`           // deactivate the old key even if something else uses it
	Again bool   `json:"again,omitempty"`         // the daemon that had the request has ended
}

// The steps of Rotate.
const (
	RotateStart  = "start"
	RotateResume = "resume"
	RotateGrace  = "grace" // resumes, with another Grace
	RotateUndo   = "undo"
	RotatePlan   = "plan" // changes nothing
	RotateLook   = "look" // is RotatePlan, but asks nobody for a code
)

// The limits of times that are asked for.
const (
	MinRole     = 15 * time.Minute    // of the session of a role; AWS's own limit
	MaxRole     = 12 * time.Hour      // likewise
	MaxAllowFor = 12 * time.Hour      // of Allow
	MaxDoorFor  = 7 * 24 * time.Hour  // of OpenDoor
	MaxGrace    = 90 * 24 * time.Hour // of Rotate
)

// DoorTerms says what a door hands out, and to whom.
type DoorTerms struct {
	// Name is the name of the door, for people and CloseDoor: letters, digits and "_.-". Empty means that the door belongs
	// to the calling process: it ends with it, and the daemon chooses the name.
	Name     string `json:"name,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`       // AWS's ReadOnlyAccess limits its sessions
	MaxTTL   int    `json:"max_ttl_seconds,omitempty"` // the longest lifetime of its sessions; 0 for that of the profile
	// Container means that processes of any uid may use the door, as soon as its directory is mounted where they see it.
	// The directory then also holds the helper, and AWS files for a mount at /run/broker.
	Container bool `json:"container,omitempty"`
}

// TokenTerms says which token is needed.
type TokenTerms struct {
	Service string `json:"service"`           // one of the constants below
	Region  string `json:"region,omitempty"`  // empty for that of the profile
	Cluster string `json:"cluster,omitempty"` // of EKS: the name or id of the cluster
	Host    string `json:"host,omitempty"`    // of RDS: HOST:PORT
	User    string `json:"user,omitempty"`    // of RDS: the user of the database
	Domain  string `json:"domain,omitempty"`  // of CodeArtifact
	Account string `json:"account,omitempty"` // of CodeArtifact: the owner of the domain; empty for that of the session
}

// The services of TokenTerms.
const (
	TokenEKS          = "eks"
	TokenRDS          = "rds"
	TokenCodeArtifact = "codeartifact"
	TokenECR          = "ecr"
)
