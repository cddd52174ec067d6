package session

import (
	"context"
	"time"

	"broker/internal/fault"
)

// drainInterval is how often Rekey looks for calls in flight.
const drainInterval = 50 * time.Millisecond

// Rekey calls swap, which makes the registry name another key of a source. The sessions that were made with the first
// key go on under the other one: they are the same user's, and AWS honors them whatever becomes of the key. So no
// request notices the swap, or needs a code because of it. Rekey returns when no call for the first key is in flight.
func (b *Broker) Rekey(ctx context.Context, source, from, to string, swap func() error) error {
	b.cache.rekey(source, from, to, false) // before the swap: the first request after it must find the sessions
	if err := swap(); err != nil {
		b.cache.drop(func(s *slot) bool { return s.plan.Source.Name == source && s.plan.Source.AccessKeyID == to })
		return err
	}
	ticker := time.NewTicker(drainInterval)
	defer ticker.Stop()
	for end := time.Now().Add(flightTimeout); b.cache.rekey(source, from, to, true) && time.Now().Before(end); {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fault.New(fault.Failed, "stopped waiting for the calls with the old key: %w", context.Cause(ctx))
		}
	}
	return nil
}

// rekey copies the sessions of a source under one key id to another one. It reports whether a fetch for the first is in
// flight. With drop, it removes the sessions of the first if not.
func (c *cache) rekey(source, from, to string, drop bool) (flies bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	var old []Key
	for key, s := range c.slots {
		if s.plan.Source.Name != source || s.plan.Source.AccessKeyID != from {
			continue
		}
		old = append(old, key)
		flies = flies || s.flight != nil
		if s.entry == nil || !now.before(s.entry.end) {
			continue
		}
		plan := *s.plan
		plan.Source.AccessKeyID = to
		plan.keys = keysOf(&plan)
		under := plan.Key(s.step)
		copied := c.slotLocked(under, &plan, s.step)
		if copied.entry != nil && copied.entry.end.boot >= s.entry.end.boot {
			continue
		}
		copied.entry, copied.lastUse = s.entry, s.lastUse
		if copied.renewal != nil {
			copied.renewal.Stop()
		}
		if wait := s.entry.refresh.boot - now.boot; wait > 0 {
			copied.renewal = time.AfterFunc(wait, func() { c.renewIfUsed(under) })
		}
	}
	for _, key := range old {
		if drop && !flies {
			c.deleteLocked(key, c.slots[key])
		}
	}
	return flies
}

// outdated reports whether the registry names another key for the source than when a plan was made.
func (b *Broker) outdated(plan *Plan, req *Request) bool {
	now, _, err := b.plan(req)
	return err == nil && now.Source.Name == plan.Source.Name && now.Source.AccessKeyID != plan.Source.AccessKeyID
}
