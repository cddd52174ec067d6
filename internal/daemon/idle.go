package daemon

import (
	"context"
	"errors"
	"time"
)

// errIdle ends a daemon that nobody needs.
var errIdle = errors.New("nobody needs the daemon")

// exitWhenIdle ends the daemon once it was locked and unused for as long as after says. A client that connects at that
// moment gets no answer, and starts a daemon.
func (d *Daemon) exitWhenIdle(ctx context.Context, after time.Duration, cancel context.CancelCauseFunc) {
	if after <= 0 {
		return
	}
	ticker := time.NewTicker(min(max(after/4, time.Millisecond), watchInterval))
	defer ticker.Stop()
	// By the wall clock, so that the time in which the machine sleeps counts.
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
			d.Log.Info("ends: locked, and nobody asks", "for", after)
			cancel(errIdle)
			return
		}
	}
}

// needed reports whether there is something that would be lost or missed.
func (d *Daemon) needed() bool {
	d.mu.Lock()
	connected := len(d.conns)
	d.mu.Unlock()
	// Unlocked it may hold sessions, and the passphrase of the keyring.
	if connected > 0 || !d.Broker.Locked() || len(d.Broker.Held()) > 0 || len(d.Broker.Waiting()) > 0 {
		return true
	}
	// The next one is to come up locked.
	return d.Latch.Save() != nil || d.grants.Any()
}
