package daemon

import (
	"context"
	"maps"
	"sync"
	"time"

	"broker/internal/session"
)

// Notify shows a notice on the desktop. It is implemented by notice.Show.
type Notify func(ctx context.Context, title, text string) error

// notices is the state of the notices. Only watch and followSettings use its fields.
type notices struct {
	off   bool
	shown map[session.Key]time.Time // when the sessions end that a notice was shown for
	open  sync.WaitGroup
}

// noticeEnding shows a notice for each session that ends soon, once. It does not wait for the desktop.
func (d *Daemon) noticeEnding(ctx context.Context) {
	n := &d.notices
	if d.Notify == nil || n.off {
		return
	}
	for _, e := range d.grants.Ending() {
		if n.shown[e.Key].Equal(e.Expires) {
			continue
		}
		if n.shown == nil {
			n.shown = map[session.Key]time.Time{}
		}
		n.shown[e.Key] = e.Expires
		d.Log.Info("session ends soon", "session", e.Login, "ends", e.Expires)
		n.open.Go(func() {
			if err := d.Notify(ctx, "AWS session", e.String()); err != nil {
				d.Log.Debug("no notice", "err", err)
			}
		})
	}
	maps.DeleteFunc(n.shown, func(_ session.Key, end time.Time) bool { return time.Now().After(end) })
}
