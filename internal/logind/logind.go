// Package logind owns the way to systemd-logind on the system bus: it tells when the machine is about to sleep and when
// a screen of ours is locked. It refuses to ask logind for anything but a moment before the sleep, and to end
// because there is no bus.
package logind

import (
	"context"
	"time"
)

// What can be watched, and the reasons that Watch gives.
const (
	Suspend = "suspend" // the machine is about to sleep
	Screen  = "screen"  // a session of our uid is locked
)

const (
	// The bus is tried again after firstPause, then after twice as long each time up to lastPause.
	firstPause = time.Second
	lastPause  = 30 * time.Second
	// callTimeout bounds each call: a bus that is stopped takes them and answers none.
	callTimeout = 10 * time.Second
)

// Watch calls lock with the reason for each of the events in on, until ctx ends. The machine sleeps once lock has
// returned, as far as logind grants that: five seconds by default. trouble is told why nothing can be told now, and nil once it can.
func Watch(ctx context.Context, on []string, lock func(reason string), trouble func(error)) {
	pause := firstPause
	for {
		err := listen(ctx, on, lock, func() {
			pause = firstPause
			trouble(nil)
		})
		if ctx.Err() != nil {
			return
		}
		trouble(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}
