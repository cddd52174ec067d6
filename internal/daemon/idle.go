package daemon

import (
	"context"
	"errors"
	"time"
)

// errIdle ends a daemon that is not needed.
var errIdle = errors.New("the daemon is idle")

// exitWhenIdle ends the daemon once it has been locked and unused for the duration after. A client that connects
// at that moment gets no answer, and starts a new daemon.
func (d *Daemon) exitWhenIdle(ctx context.Context, after time.Duration, cancel context.CancelCauseFunc) {
	if after <= 0 {
		return
	}
	ticker := time.NewTicker(min(max(after/4, time.Millisecond), watchInterval))
	defer ticker.Stop()
	// Use the wall clock, so that sleep counts.
	since, seen := time.Now().Round(0), d.accepted.Load()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		accepted := d.accepted.Load()
		switch {
		case accepted != seen || d.needed():
			since, seen = time.Now().Round(0), accepted
		case time.Since(since) >= after:
			d.Log.Info("exit: locked and idle", "for", after)
			cancel(errIdle)
			return
		}
	}
}

// needed reports whether ending the daemon would lose state or interrupt a user.
func (d *Daemon) needed() bool {
	d.mu.Lock()
	connected := len(d.conns)
	d.mu.Unlock()
	// An unlocked daemon may hold sessions and the passphrase of the keyring.
	if connected > 0 || !d.Broker.Locked() || len(d.Broker.Held()) > 0 || len(d.Broker.Waiting()) > 0 {
		return true
	}
	// The next daemon must start locked, so the lock must be saved.
	return d.LockFile.Save() != nil || d.grants.Any()
}
