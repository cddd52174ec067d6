package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
)

const (
	// A session is refreshed renewalMargin before its end, or after two thirds of its lifetime if that is later.
	// botocore asks its helper again in the last 15 minutes and must then get a session that lasts longer than
	// that.
	renewalMargin = 20 * time.Minute
	// safetyMargin ensures that a session does not expire between our answer and its use.
	safetyMargin = 5 * time.Second
	// flightTimeout limits one step, including the wait for a person. The calls themselves have their own
	// timeouts.
	flightTimeout = 3 * time.Minute
	// failureMemory is how long a failure is cached, so that a thousand clients do not hammer AWS. A change of
	// settings ends it early, because the change may fix the failure.
	failureMemory = 5 * time.Second
	// staleWait is the longest that a caller waits for a refresh while the old session still works. The wait is
	// also at most half of the old session's remaining lifetime.
	staleWait = 5 * time.Second
	// useMemory is how long after its last use a session is still refreshed in the background.
	useMemory = time.Hour
)

// instant is one moment on two clocks. Timers and the monotonic clock stop while a laptop sleeps, and the wall
// clock can be set, so validity is checked on both.
type instant struct {
	wall time.Time
	boot time.Duration // since boot, sleep included
}

// entry is a session and when it ends.
type entry struct {
	creds   Credentials
	refresh instant // refresh from here on
	end     instant // do not hand it out from here on
}

// newEntry computes the two moments for credentials that were requested at start. It uses only the difference of
// two times reported by AWS, so that a wrong clock on this machine cannot make a session look longer than it is.
func newEntry(creds Credentials, start instant) *entry {
	life := creds.Expires.Sub(creds.Issued)
	// AWS reports whole seconds, so its clock may be up to a second ahead of what it reports.
	life -= time.Second
	life -= min(safetyMargin, life/20)
	ahead := min(renewalMargin, life/3)
	// Jitter: sessions opened together are not refreshed together.
	ahead += time.Duration(rand.Int64N(int64(max(life/30, 1))))
	return &entry{creds: creds, refresh: start.add(life - ahead), end: start.add(life)}
}

// cached returns the credentials to a caller that they were not fetched for.
func (e *entry) cached() Credentials {
	creds := e.creds
	creds.Cached = true
	return creds
}

// lastUntil turns the early refresh off if the entry is the last before elevated rights end: STS gives no session
// shorter than shortestRole, so the next one would outlast the rights even more.
func (e *entry) lastUntil(end time.Time) {
	if !end.IsZero() && e.end.wall.Add(shortestRole).After(end) {
		e.refresh = e.end
	}
}

// add returns the moment after this time.
func (now instant) add(d time.Duration) instant { return instant{now.wall.Add(d), now.boot + d} }

// before reports whether neither clock has reached that moment.
func (now instant) before(then instant) bool {
	return now.wall.Before(then.wall) && now.boot < then.boot
}

// fetch gets the credentials of a step. With spare, the old credentials still work, so no person is prompted yet.
type fetch func(ctx context.Context, spare bool) (Credentials, error)

// slot holds what the cache knows about one key.
type slot struct {
	plan *Plan
	step int

	entry    *entry
	flight   *flight
	err      error              // of the last fetch, nil after a success
	errUntil instant            // err is cached until then
	errUnder *profiles.Settings // err is cached for these settings only
	lastUse  instant
	renewal  *time.Timer
}

// flight is one fetch in flight. All callers that want the same key wait for it.
type flight struct {
	done    chan struct{}
	dropped chan struct{}      // closed by drop: nobody waits for it from then on
	under   *profiles.Settings // the settings when it began
	entry   *entry
	err     error
}

// cache holds sessions, keyed by what STS is asked for.
type cache struct {
	now   func() instant
	renew func(plan *Plan, step int) // called at the refresh point of a session that was used recently

	base  context.Context // context of every flight; ends with the daemon
	mu    sync.Mutex
	slots map[Key]*slot
}

func newCache(base context.Context, now func() instant, renew func(*Plan, int)) *cache {
	return &cache{base: base, now: now, renew: renew, slots: make(map[Key]*slot)}
}

// get returns a session that works now. Before its refresh point, that is the cached session. Later it is a newly
// fetched one; concurrent callers share one fetch. If the fetch fails, get returns the cached session until it
// ends.
//
// If insist is set or the settings have changed, get does not return a cached failure. It also retries after joining
// another caller's fetch that failed: with insist, if that fetch had no code; in any case, if that fetch ran under
// other settings.
//
// The fetch runs on its own context. It outlives the caller that started it, so that other callers do not fail
// when that one leaves.
func (c *cache) get(ctx context.Context, plan *Plan, step int, insist bool, fetch fetch) (Credentials, error) {
	key := plan.Key(step)
	for slept := false; ; {
		c.mu.Lock()
		now := c.now()
		s := c.slotLocked(key, plan, step)
		s.lastUse = now
		old := s.entry
		valid := old != nil && now.before(old.end)
		failed := s.err != nil && !insist && now.before(s.errUntil) && s.errUnder.Same(plan.settings)
		switch {
		case valid && (failed || now.before(old.refresh)):
			c.mu.Unlock()
			return old.cached(), nil
		case failed:
			err := s.err
			c.mu.Unlock()
			return Credentials{}, err
		}
		f := s.flight
		joined := f != nil
		if !joined {
			f = c.launchLocked(s, key, plan, valid, fetch)
		}
		c.mu.Unlock()

		var stale <-chan time.Time
		if valid {
			stale = time.After(min(staleWait, max(old.end.boot-now.boot, 0)/2))
		}
		select {
		case <-f.done:
		case <-f.dropped:
			return Credentials{}, dropped(plan, step)
		case <-stale:
			if c.holds(key, old) {
				return old.cached(), nil
			}
			continue
		case <-ctx.Done():
			if valid && c.holds(key, old) {
				return old.cached(), nil // the caller's patience ended before staleWait
			}
			return Credentials{}, fault.New(fault.Failed,
				"stopped waiting for %s: %w", plan.stepName(step), context.Cause(ctx))
		}
		switch {
		case f.err == nil && c.now().before(f.entry.end):
			return f.entry.creds, nil
		case f.err == nil && slept:
			return Credentials{}, fault.New(fault.Failed,
				"%s: the session ended before it could be handed out", plan.stepName(step))
		case f.err == nil:
			// The machine slept during the fetch: try again.
			slept = true
		case joined && ctx.Err() == nil && (errors.Is(f.err, ErrCancelled) ||
			insist && fault.Is(f.err, fault.LoginNeeded) || !f.under.Same(plan.settings)):
			// Another caller's prompt was canceled; or that fetch had no code, and this caller may have one; or
			// it ran under other settings.
		case valid && c.holds(key, old):
			return old.cached(), nil
		default:
			return Credentials{}, f.err
		}
	}
}

// holds reports whether an entry is still the one to serve: it was not dropped, discarded or expired while we
// waited for a newer one.
func (c *cache) holds(key Key, e *entry) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slots[key]
	return s != nil && s.entry == e && c.now().before(e.end)
}

// slotLocked returns the slot of a key. It creates the slot if it does not exist.
func (c *cache) slotLocked(key Key, plan *Plan, step int) *slot {
	s := c.slots[key]
	if s == nil {
		s = &slot{plan: plan, step: step}
		c.slots[key] = s
	}
	return s
}

// launchLocked starts the single fetch of a slot.
func (c *cache) launchLocked(s *slot, key Key, plan *Plan, spare bool, fetch fetch) *flight {
	f := &flight{done: make(chan struct{}), dropped: make(chan struct{}), under: plan.settings}
	s.flight = f
	start := c.now()
	go func() {
		ctx, cancel := context.WithTimeout(c.base, flightTimeout)
		defer cancel()
		defer close(f.done)
		var creds Credentials
		defer func() {
			// A panic fails this key only; the daemon goes on.
			if r := recover(); r != nil {
				f.err = fault.New(fault.Internal, "panic while fetching %s", s.plan.stepName(s.step))
			}
			if f.err == nil {
				f.entry = newEntry(creds, start)
				f.entry.lastUntil(s.plan.Steps[s.step].ElevatedUntil)
			}
			c.land(s, key, f)
		}()
		creds, f.err = fetch(ctx, spare)
	}()
	return f
}

// land stores the result of a flight.
func (c *cache) land(s *slot, key Key, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.slots[key] != s {
		// Dropped meanwhile: after a lock or logout, nobody may get this session.
		if f.err == nil {
			f.entry, f.err = nil, dropped(s.plan, s.step)
		}
		return
	}
	s.flight = nil
	now := c.now()
	if f.err != nil {
		s.err, s.errUnder = f.err, f.under
		s.errUntil = now
		if remembered(f.err) {
			s.errUntil = instant{now.wall.Add(failureMemory), now.boot + failureMemory}
		}
		c.sweepLocked(now)
		return
	}
	s.err = nil
	s.entry = f.entry
	if s.renewal != nil {
		s.renewal.Stop()
	}
	// A session that is already past its refresh point gets no timer: it would be refreshed in a loop.
	if wait := s.entry.refresh.boot - now.boot; wait > 0 {
		s.renewal = time.AfterFunc(wait, func() { c.renewIfUsed(key) })
	}
	c.sweepLocked(now)
}

func dropped(plan *Plan, step int) error {
	return fault.New(fault.Failed,
		"%s: dropped by a lock, login or logout while the session was being opened", plan.stepName(step))
}

// remembered reports whether a failure is cached. Refusals by AWS are, because they would come again at once.
// Failures that a person or this machine can fix are retried each time.
func remembered(err error) bool {
	switch fault.Of(err).Kind {
	case fault.Denied, fault.Throttled, fault.BadAnswer, fault.ExpiredSession:
		return true
	}
	return false
}

// renewIfUsed is called at a refresh point.
func (c *cache) renewIfUsed(key Key) {
	c.mu.Lock()
	s := c.slots[key]
	now := c.now()
	wanted := s != nil && s.entry != nil && s.flight == nil && now.boot-s.lastUse.boot < useMemory
	c.mu.Unlock()
	if wanted {
		c.renew(s.plan, s.step)
	}
}

// background starts a fetch that no caller waits for. It does not count as a use.
func (c *cache) background(plan *Plan, step int, fetch fetch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := plan.Key(step)
	if s := c.slots[key]; s != nil && s.flight == nil {
		c.launchLocked(s, key, plan, true, fetch)
	}
}

// current returns the session of a key if it is valid now.
func (c *cache) current(key Key) (Credentials, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slots[key]
	if s == nil || s.entry == nil || !c.now().before(s.entry.end) {
		return Credentials{}, false
	}
	return s.entry.cached(), true
}

// loggedOut returns why the login of a key is no longer renewed, or nil.
func (c *cache) loggedOut(key Key) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.slots[key]; s != nil && s.loggedOut() {
		return s.err
	}
	return nil
}

// discard removes a session that AWS refused, unless a newer session has replaced it.
func (c *cache) discard(key Key, refused Credentials) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.slots[key]; s != nil && s.entry != nil && s.entry.creds.AccessKeyID == refused.AccessKeyID {
		s.entry = nil
	}
}

// setAside does what discard does. putBack undoes that, unless there is a newer session or a drop removed the slot.
func (c *cache) setAside(key Key, old Credentials) (putBack func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slots[key]
	if s == nil || s.entry == nil || s.entry.creds.AccessKeyID != old.AccessKeyID {
		return func() {}
	}
	e := s.entry
	s.entry = nil
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.slots[key] == s && s.entry == nil {
			s.entry = e
		}
	}
}

// drop removes the slots that match. Callers that wait for them fail at once, and the results of their flights are
// not kept. It returns how many sessions it removed.
func (c *cache) drop(match func(*slot) bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for key, s := range c.slots {
		if !match(s) {
			continue
		}
		if s.entry != nil {
			n++
		}
		if s.flight != nil {
			close(s.flight.dropped)
		}
		c.deleteLocked(key, s)
	}
	return n
}

// outdate removes the sessions of a source but those of its first step. Flights go on.
func (c *cache) outdate(source string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.slots {
		if s.step > 0 && s.plan.Source.Name == source {
			s.entry = nil
		}
	}
}

func (c *cache) deleteLocked(key Key, s *slot) {
	if s.renewal != nil {
		s.renewal.Stop()
	}
	delete(c.slots, key)
}

// sweepLocked removes slots whose session ended and that were not used recently, so that the cache does not grow.
func (c *cache) sweepLocked(now instant) {
	for key, s := range c.slots {
		ended := s.entry == nil || !now.before(s.entry.end)
		if ended && s.flight == nil && now.boot-s.lastUse.boot >= useMemory {
			c.deleteLocked(key, s)
		}
	}
}
