package grant

import (
	"sync"
	"syscall"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/peer"
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
