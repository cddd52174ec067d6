package grant

import (
	"sync"
	"syscall"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/session"
	"broker/internal/wire"
)

// Caller is the process that asks for a session.
type Caller struct {
	peer.Peer
	// Details returns what the audit log says about the process. It is read once, when the first decision about
	// the caller is recorded; nil if it is left out.
	Details func() *audit.Caller
	// Conn is the unix connection of the process, or nil.
	Conn syscall.Conn
}

// CallerOf returns the Caller for a process.
func CallerOf(p peer.Peer) Caller {
	return Caller{Peer: p, Details: sync.OnceValue(func() *audit.Caller { return audit.CallerOf(p.Process) })}
}

// Gone returns an error if the process has ended. If it has not, all that was read about its PID is about this process.
func (c Caller) Gone() error {
	ended, known := false, false
	if c.Conn != nil {
		ended, known = peer.Left(c.Conn)
	}
	if !known {
		ended = c.Start != "" && !c.Running()
	}
	if ended {
		return fault.New(fault.Failed, "the program that asked has ended")
	}
	return nil
}

// forAgents lets a profile see whether a coding agent asks: the client says so, or its parents do. A published session
// is for agents too, because every program can read it.
func (k *Keeper) forAgents(a *Request) {
	for i := range a.Requests {
		a.Requests[i].Everyone = a.Delivery == audit.Published
		a.Requests[i].FindAgent = func() string { return k.Guard.Agent(a.By.PID) }
	}
}

// AdHoc converts the role of a client's request. Its fields are checked when the plan is made.
func AdHoc(role *wire.Role) *session.AdHoc {
	if role == nil {
		return nil
	}
	a := &session.AdHoc{
		Role: profiles.Role{
			ARN: role.ARN, ExternalID: role.ExternalID, SessionName: role.SessionName,
			Duration: time.Duration(role.Seconds) * time.Second, MFASerial: role.MFASerial,
			Endpoint: profiles.Endpoint{Region: role.Region},
		},
		Policy:   role.Policy,
		Federate: role.Federate,
	}
	for _, t := range role.Tags {
		a.Tags = append(a.Tags, session.Tag(t))
	}
	return a
}
