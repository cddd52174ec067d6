package session

import (
	"context"
	"time"
)

// remindBefore is how long before its end a person is reminded of a session that only a code can renew.
const remindBefore = 10 * time.Minute

// renew refreshes a session before it expires, so that no request waits for it. It never asks a person for a code: if a
// code is needed, the person is reminded once, if the session is still in use.
func (b *Broker) renew(plan *Plan, i int) {
	// A federated session opened a console: it is not used again. Elevated rights are for those who ask for them.
	if b.locked.Load() || plan.Steps[i].Operation == GetFederationToken || !plan.Steps[i].ElevatedUntil.IsZero() {
		return
	}
	if step := plan.Steps[i]; step.LongTerm && step.NeedsPerson() && plan.MFAProcess == "" {
		if end, ok := b.cache.end(plan.Key(i)); ok && b.cfg.Remind != nil {
			time.AfterFunc(time.Until(end)-remindBefore, func() {
				if now, ok := b.cache.end(plan.Key(i)); ok && now.Equal(end) && !b.locked.Load() {
					b.cfg.Remind(plan.Source.Name, end)
				}
			})
		}
		return
	}
	b.cache.background(plan, i, func(ctx context.Context, _ bool) (Credentials, error) {
		return b.fetch(ctx, plan, i, &Request{background: true}, true)
	})
}
