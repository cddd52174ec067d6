// Package logind watches systemd-logind on the system bus: it reports when the machine is about to sleep, and when
// a screen of our user is locked. It asks logind for nothing else than a short delay before sleep. It keeps
// running if there is no bus.
package logind

import (
	"context"
	"time"
)

// The events that can be watched. They are also the reasons that Watch reports.
const (
	Suspend = "suspend" // the machine is about to sleep
	Screen  = "screen"  // a session of our uid is locked
)

const (
	// A failed connection is retried after firstPause, then after twice as long each time, up to lastPause.
	firstPause = time.Second
	lastPause  = 30 * time.Second
	// callTimeout limits each call: a stopped bus accepts calls and never answers.
	callTimeout = 10 * time.Second
)

// Watch calls lock, with the reason, for each event in on, until ctx ends. The machine sleeps once lock has
// returned, or once the delay that logind allows has passed (five seconds by default). Watch calls trouble with an
// error while it cannot receive events, and with nil once it can.
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
