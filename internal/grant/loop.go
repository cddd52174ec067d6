package grant

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/session"
)

const (
	// lookInterval is the longest delay until an ended session or process, an expired grant or a changed registry
	// is noticed.
	lookInterval = time.Second
	// renewInterval is the longest time between two requests for the session of a grant. It is shorter than the
	// time after which package session drops unused sessions, so a session is refreshed while a grant needs it.
	renewInterval = 30 * time.Second
	// renewTimeout limits one refresh.
	renewTimeout = time.Minute
	// writePause is the delay before a failed write is retried.
	writePause = 5 * time.Second
)

// Run maintains the grants until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	defer k.renewals.Wait()
	for {
		wait := k.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-time.After(wait):
		}
	}
}

// rouse wakes Run.
func (k *Keeper) rouse() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// look ends expired grants and refreshes due ones. It returns how long to wait until the next look.
func (k *Keeper) look(ctx context.Context) time.Duration {
	k.followRegistry()
	k.takeOut(time.Now())
	k.commands.look()
	k.endpoints.look()
	k.doors.look()
	locked := k.Locked()
	if !locked {
		k.renew(ctx)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := os.Lstat(k.record()); k.unsaved || len(k.grants) > 0 && errors.Is(err, fs.ErrNotExist) {
		_ = k.saveLocked()
	}
	wait := lookInterval
	for _, h := range k.grants {
		if h.open(time.Now()) && !h.renewing && !locked {
			wait = min(wait, time.Until(h.next))
		}
	}
	return max(wait, 50*time.Millisecond)
}

// followRegistry makes a grant for each profile that the registry keeps published, and ends the grants of profiles
// that it no longer names. It keeps a grant that was logged out or unpublished, because an editor may empty the
// registry before it writes it again.
func (k *Keeper) followRegistry() {
	set, err := k.Store.Load(k.Files)
	if err != nil {
		return
	}
	names := set.Standing()
	k.mu.Lock()
	for _, h := range k.grants {
		h.gone = h.Standing && !slices.Contains(names, h.Profiles[0])
	}
	k.mu.Unlock()
	for _, h := range k.all(func(h *held) bool { return h.gone && !h.Ended && !h.Off && len(h.LoggedOut) == 0 }) {
		_ = k.end(h) // takeOut retries
	}
	for _, name := range names {
		at := k.Files
		if h := k.section(at.Credentials, name); h != nil {
			k.mu.Lock()
			if !h.Standing { // it was published by hand before
				h.Standing, h.Until = true, time.Time{}
				_ = k.saveLocked()
			}
			k.mu.Unlock()
			continue
		}
		h := &held{Grant: Grant{ID: randomHex(16), Kind: Section, Profiles: []string{name}, Since: wholeSeconds(),
			Standing: true, Program: "broker", AWSConfig: at.Config, AWSCredentials: at.Credentials}}
		if chain, err := set.Resolve(name); err == nil {
			h.Sources = []string{chain.Source.Name}
		}
		k.mu.Lock()
		k.grants[h.ID] = h
		_ = k.saveLocked() // put needs a saved record
		k.mu.Unlock()
	}
}

// takeOut ends expired grants. It removes sessions that have ended, or whose removal failed earlier.
func (k *Keeper) takeOut(now time.Time) {
	locked := k.Locked()
	over := k.all(func(h *held) bool {
		over := h.Ended || h.abandoned() || k.isOver(h, now)
		return over && !now.Before(h.retry)
	})
	for _, h := range over {
		_ = k.end(h) // the next look retries
	}
	_ = k.clear(k.all(func(h *held) bool {
		is := !h.Ended && !h.Expires.IsZero() && !now.Before(h.retry) && (locked || !h.open(now) || !now.Before(h.Expires))
		if is { // otherwise the session of a concurrent refresh would be cleared too
			h.revision++
			h.next = time.Time{}
		}
		return is
	}))
}

// clear removes the delivered sessions of grants. The error says which could not be removed.
func (k *Keeper) clear(list []*held) error {
	var failed error
	for _, kind := range []Kind{Files, Section} {
		of := slices.DeleteFunc(slices.Clone(list), func(h *held) bool { return h.Kind != kind })
		if len(of) > 0 {
			failed = errors.Join(failed, k.delivery(kind).clear(of))
		}
	}
	return failed
}

// renew starts to deliver the newest session of each grant that is due.
func (k *Keeper) renew(ctx context.Context) {
	now := time.Now()
	due := k.all(func(h *held) bool {
		is := h.open(now) && !now.Before(h.next) && !h.renewing
		if is {
			h.renewing, h.next = true, now.Add(renewTimeout) // again sets it to zero
		}
		return is
	})
	for _, h := range due {
		k.renewals.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, renewTimeout)
			defer cancel()
			k.renewOne(ctx, h)
			k.rouse()
		})
	}
}

func (k *Keeper) renewOne(ctx context.Context, h *held) {
	k.mu.Lock()
	if !h.open(time.Now()) { // it was shut after it was due
		h.renewing = false
		k.mu.Unlock()
		return
	}
	revision, ask := h.revision, k.renewal(&h.Grant)
	if h.sessions != nil {
		ask.have = keyIDs(h.sessions)
	}
	if h.err != nil {
		ask.failed = h.err.Error()
	}
	k.mu.Unlock()
	var got []session.Answer
	get := ask.Get
	ask.Get = func(ctx context.Context, r session.Request) (session.Answer, error) {
		answer, err := get(ctx, r)
		got = append(got, answer)
		return answer, err
	}
	var err error
	if h.Kind == Endpoint || h.Kind == Door {
		_, err = k.authorize(ctx, &ask) // its user fetches the session
	} else {
		err = k.Give(ctx, ask, func(answers []session.Answer) error {
			k.serves(h, answers)
			return k.delivery(h.Kind).put(h, revision, answers)
		})
	}
	k.mu.Lock()
	h.renewing = false
	wanted := h.next.IsZero() // a login or an unlock asked for a refresh meanwhile
	k.mu.Unlock()
	if errors.Is(ctx.Err(), context.Canceled) {
		return // the daemon is ending
	}
	k.took(h, revision, got, err)
	if wanted && err != nil {
		k.again(func(o *held) bool { return o == h })
	}
}

// renewal returns the Request for the refresh of a grant. It prompts nobody.
func (k *Keeper) renewal(g *Grant) Request {
	a := Request{Event: "given", By: self(), Get: k.Broker.Credentials, renews: true, confirmed: true}
	switch g.Kind {
	case Section:
		a.Event, a.Get, a.Delivery = "published", k.sections.get, audit.Published
	case Endpoint:
		a.Endpoint, a.Delivery = g.ID, audit.Endpoint
	case Files:
		a.By, a.Delivery = CallerOf(peer.Peer{UID: os.Getuid(), Process: g.Owner}), audit.PrivateFile
	case Door:
		a.Door, a.Delivery = g.Door.Name, audit.Door
	}
	for _, profile := range g.Profiles {
		r := session.Request{Profile: profile, Files: g.files(k.Files), AdHoc: AdHoc(g.Role),
			Program: func() string { return g.Program }, Agent: g.Agent}
		if g.Kind == Door {
			g.narrow(&r)
		}
		a.Requests = append(a.Requests, r)
	}
	return a
}

// took records the result of a refresh.
func (k *Keeper) took(h *held, revision int, got []session.Answer, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h.revision != revision {
		return
	}
	h.err, h.waits = err, false
	if err == nil && len(got) == len(h.Profiles) {
		k.sourcesLocked(h, sources(nil, got))
	} else {
		k.sourcesLocked(h, sources(h.Sources, got)) // the old session may still be delivered
	}
	h.next = time.Now().Add(renewInterval)
	if err == nil {
		for _, answer := range got {
			h.next = earlier(h.next, time.Now().Add(max(time.Until(answer.Expires)/10, 100*time.Millisecond)))
		}
		return
	}
	switch fault.Of(err).Kind {
	case fault.LoginNeeded, fault.CodeRejected, fault.KeyringLocked, fault.NotConfirmed:
		// A person must act. Used or Resume is called then.
		h.waits, h.next = true, time.Now().Add(24*time.Hour)
	case fault.Config, fault.NotFound:
		h.next = time.Now().Add(lookInterval) // a file may be fixed at any moment
	case fault.Failed:
		h.next = time.Now().Add(writePause)
	}
}

// serves records the sources of the sessions that a grant is about to get, because the registry may have changed.
// It is called in deliver of Give, so that a later logout finds the grant.
func (k *Keeper) serves(h *held, answers []session.Answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sourcesLocked(h, sources(h.Sources, answers))
}

func (k *Keeper) sourcesLocked(h *held, list []string) {
	if !slices.Equal(list, h.Sources) {
		h.Sources = list
		_ = k.saveLocked()
	}
}

// sources adds the sources of answers to before, each once.
func sources(before []string, answers []session.Answer) []string {
	list := slices.Clone(before)
	for _, answer := range answers {
		if answer.Source != "" && !slices.Contains(list, answer.Source) {
			list = append(list, answer.Source)
		}
	}
	return list
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
