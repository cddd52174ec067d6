package grant

import (
	"sync"

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
}

// CallerOf returns the Caller for a process.
func CallerOf(p peer.Peer) Caller {
	return Caller{p, sync.OnceValue(func() *audit.Caller { return audit.CallerOf(p.Process) })}
}

// Gone returns an error if the process has ended. If it has not, all that was read about its PID is about this process.
func (c Caller) Gone() error {
	if c.Start != "" && !c.Running() {
		return fault.New(fault.Failed, "the program that asked has ended")
	}
	return nil
}
