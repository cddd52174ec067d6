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
	// renewalMargin and a third of the lifetime bound the refresh point from
	// below: botocore asks its helper again from 15 minutes before the end on, and must
	// then be given a session with more than that.
	renewalMargin = 20 * time.Minute
	// safetyMargin keeps a session from ending between our answer and its use.
	safetyMargin = 5 * time.Second
	// flightTimeout bounds one step, with a person in it: the calls themselves have bounds of their own.
	flightTimeout = 3 * time.Minute
	// failureMemory is how long a failure is repeated without asking AWS again, so that a thousand clients do not
	// hammer it. Other settings end it: they may be the cure.
	failureMemory = 5 * time.Second
	// staleWait is how long a caller waits at most for a renewal while the old session still
	// works, and half of what that has left.
	staleWait = 5 * time.Second
	// useMemory is how long after its last use a session is renewed in the background.
	useMemory = time.Hour
)

// instant is one moment on both clocks. Timers and the monotonic clock stop
// while a laptop sleeps and the wall clock can be set, so validity asks both.
type instant struct {
	wall time.Time
	boot time.Duration // since boot, sleep included
}

// entry is a session and when it ends.
type entry struct {
	creds   Credentials
	refresh instant // from here on a new one is wanted
	end     instant // from here on it is not handed out
}

// newEntry works out the two moments of credentials that were asked for at
// start. Only the difference of two times told by AWS is used, so a wrong
// clock on this machine makes no session look longer than it is.
func newEntry(creds Credentials, start instant) *entry {
	life := creds.Expires.Sub(creds.Issued)
	// The clock of AWS comes in whole seconds, so it may be a second later than it says.
	life -= time.Second
	life -= min(safetyMargin, life/20)
	ahead := min(renewalMargin, life/3)
	// Sessions made at once are not renewed at once.
	ahead += time.Duration(rand.Int64N(int64(max(life/30, 1))))
	at := func(d time.Duration) instant {
		return instant{start.wall.Add(d), start.boot + d}
	}
	return &entry{creds: creds, refresh: at(life - ahead), end: at(life)}
}

// before reports whether neither clock has reached that moment.
func (now instant) before(then instant) bool {
	return now.wall.Before(then.wall) && now.boot < then.boot
}

// fetch gets the credentials of a step. With spare the
// old ones still work, so that no person is to be asked yet.
type fetch func(ctx context.Context, spare bool) (Credentials, error)

// slot is what the cache knows of one key.
type slot struct {
	plan *Plan
	step int

	entry    *entry
	flight   *flight
	err      error              // of the last fetch, nil after a success
	errUntil instant            // until then err is repeated
	errUnder *profiles.Settings // err is repeated under these alone
	lastUse  instant
	renewal  *time.Timer
}

// flight is one fetch under way; all who want the same key wait for it.
type flight struct {
	done    chan struct{}
	dropped chan struct{}      // closed by drop: nobody waits for it any more
	under   *profiles.Settings // as they were when it began
	entry   *entry
	err     error
}

// cache holds sessions by what STS was asked for them.
type cache struct {
	now   func() instant
	renew func(plan *Plan, step int) // called at the refresh point of a session that was used lately

	base  context.Context // of every flight; ends with the daemon
	mu    sync.Mutex
	slots map[Key]*slot
}

func newCache(base context.Context, now func() instant, renew func(*Plan, int)) *cache {
	return &cache{base: base, now: now, renew: renew, slots: make(map[Key]*slot)}
}

// get returns a session that works now: the cached one before its refresh
// point; else one fetched now, together with all others who ask; else, where
// that fails, the cached one to its end. A remembered failure is not repeated with
// insist, or under other settings. Nor does a fetch that others began decide then: with
// insist it may lack only a code, under other settings it may fail for the old ones.
//
// The fetch runs on a context of its own: it outlives the caller that started
// it, whose going away must not fail the others.
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
			return old.creds, nil
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
				return old.creds, nil
			}
			continue
		case <-ctx.Done():
			if valid && c.holds(key, old) {
				return old.creds, nil // of less patience than that
			}
			return Credentials{}, fault.New(fault.Failed, "gave up waiting for %s: %w", plan.stepName(step), context.Cause(ctx))
		}
		switch {
		case f.err == nil && c.now().before(f.entry.end):
			return f.entry.creds, nil
		case f.err == nil && slept:
			return Credentials{}, fault.New(fault.Failed, "%s: the session had ended before it could be given out", plan.stepName(step))
		case f.err == nil:
			// The machine slept in the middle: try again.
			slept = true
		case joined && ctx.Err() == nil && (errors.Is(f.err, ErrCancelled) ||
			insist && fault.Is(f.err, fault.LoginNeeded) || !f.under.Same(plan.settings)):
			// The no was somebody else's; or it had no code, and perhaps we have; or it began under other settings.
		case valid && c.holds(key, old):
			return old.creds, nil
		default:
			return Credentials{}, f.err
		}
	}
}

// holds reports whether an entry still is the one to serve: it was neither
// dropped nor discarded nor did it end while we waited for a newer one.
func (c *cache) holds(key Key, e *entry) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slots[key]
	return s != nil && s.entry == e && c.now().before(e.end)
}

// slotLocked finds the slot of a key or makes it.
func (c *cache) slotLocked(key Key, plan *Plan, step int) *slot {
	s := c.slots[key]
	if s == nil {
		s = &slot{plan: plan, step: step}
		c.slots[key] = s
	}
	return s
}

// launchLocked starts the one fetch of a slot.
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
			// A panic is this key's failure, not the end of the daemon.
			if r := recover(); r != nil {
				f.err = fault.New(fault.Internal, "panic while fetching %s", s.plan.stepName(s.step))
			}
			if f.err == nil {
				f.entry = newEntry(creds, start)
			}
			c.land(s, key, f)
		}()
		creds, f.err = fetch(ctx, spare)
	}()
	return f
}

// land keeps what a flight brought.
func (c *cache) land(s *slot, key Key, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.slots[key] != s {
		// Dropped meanwhile: after a lock or logout nobody may be given it.
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
	// One that is to be renewed already would be renewed again and again.
	if wait := s.entry.refresh.boot - now.boot; wait > 0 {
		s.renewal = time.AfterFunc(wait, func() { c.renewIfUsed(key) })
	}
	c.sweepLocked(now)
}

func dropped(plan *Plan, step int) error {
	return fault.New(fault.Failed, "%s: dropped by lock or logout while it was being made", plan.stepName(step))
}

// remembered says which failures would come again at once: what AWS itself refuses. What a person or this machine can
// mend is tried each time.
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

// end is when the session of a key ends, by the wall clock; false if there is none.
func (c *cache) end(key Key) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.slots[key]; s != nil && s.entry != nil && c.now().before(s.entry.end) {
		return s.entry.creds.Expires, true
	}
	return time.Time{}, false
}

// background starts a fetch that nobody waits for; it does not count as a use.
func (c *cache) background(plan *Plan, step int, fetch fetch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := plan.Key(step)
	if s := c.slots[key]; s != nil && s.flight == nil {
		c.launchLocked(s, key, plan, true, fetch)
	}
}

// current returns the session of a key that is good now.
func (c *cache) current(key Key) (Credentials, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slots[key]
	if s == nil || s.entry == nil || !c.now().before(s.entry.end) {
		return Credentials{}, false
	}
	return s.entry.creds, true
}

// discard forgets a session that AWS refused, unless a newer one took its place.
func (c *cache) discard(key Key, refused Credentials) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.slots[key]; s != nil && s.entry != nil && s.entry.creds.AccessKeyID == refused.AccessKeyID {
		s.entry = nil
	}
}

// drop forgets the slots that match; what a flight brings for one of them
// later is not kept either, and who waits for it is told at once. It returns how many sessions there were.
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

func (c *cache) deleteLocked(key Key, s *slot) {
	if s.renewal != nil {
		s.renewal.Stop()
	}
	delete(c.slots, key)
}

// sweepLocked forgets what has ended and what nobody asked for lately, so
// that the cache is as large as what is in use.
func (c *cache) sweepLocked(now instant) {
	for key, s := range c.slots {
		ended := s.entry == nil || !now.before(s.entry.end)
		if ended && s.flight == nil && now.boot-s.lastUse.boot >= useMemory {
			c.deleteLocked(key, s)
		}
	}
}
