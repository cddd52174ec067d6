package session

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"broker/internal/fault"
)

// renew refreshes a session before it expires, so that no request waits for it. It never asks a person for a code:
// see Ending.
func (b *Broker) renew(plan *Plan, i int) {
	if b.locked.Load() || !plan.renews(i) || plan.byPerson(i) {
		return
	}
	b.cache.background(plan, i, func(ctx context.Context, _ bool) (Credentials, error) {
		return b.fetch(ctx, plan, i, &Request{Quiet: true}, true)
	})
}

// renews reports whether a session of step i is renewed at all. A federated session opened a console: it is not used
// again. Elevated rights are for those who ask for them.
func (p *Plan) renews(i int) bool {
	return p.Steps[i].Operation != GetFederationToken && p.Steps[i].ElevatedUntil.IsZero()
}

// byPerson reports whether only a person can give the code of step i.
func (p *Plan) byPerson(i int) bool {
	return p.Steps[i].LongTerm && p.Steps[i].NeedsPerson() && p.MFAProcess == ""
}

// soon is how long before its end Ending lists a session.
const soon = 10 * time.Minute

// Ending is a session or a login that ends soon, and that only a person can renew.
type Ending struct {
	Key     Key    // see KeyOfCode
	Login   string // what to log in to: the source, or the profile whose role takes the code
	Expires time.Time
	Used    bool // in the last hour
}

// loggedOut reports whether AWS no longer renews a login on a page without a person. The session may work for a while.
func (s *slot) loggedOut() bool {
	return s.step == 0 && s.plan.Source.Kind.ByPage() && fault.Is(s.err, fault.LoginNeeded)
}

// Ending lists the sessions that end soon, the first to end first.
func (b *Broker) Ending() (list []Ending) {
	c := b.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	later := now.add(soon)
	for key, s := range c.slots {
		e := s.entry
		if e == nil || !now.before(e.end) || !s.plan.renews(s.step) {
			continue
		}
		end, expires := e.end, e.creds.Expires
		switch ends := e.creds.LoginEnds; {
		case s.plan.byPerson(s.step), s.loggedOut():
			if now.before(e.refresh) {
				continue
			}
		case !ends.IsZero(): // it is renewed until then
			end, expires = end.add(ends.Sub(expires)), ends
		default:
			continue
		}
		if later.before(end) {
			continue
		}
		list = append(list, Ending{Key: key, Login: s.plan.login(), Expires: expires,
			Used: now.boot-s.lastUse.boot < useMemory})
	}
	slices.SortFunc(list, func(a, b Ending) int {
		return cmp.Or(a.Expires.Compare(b.Expires), strings.Compare(a.Login, b.Login))
	})
	return list
}

// KeyOfCode returns the key of the session for which a request would need a code or a login, if it would need one.
func (b *Broker) KeyOfCode(req Request) (Key, bool) {
	plan, _, err := b.plan(&req)
	if err != nil || plan.Steps[0].MFASerial == "" && !plan.Source.Kind.ByPage() {
		return Key{}, false
	}
	return plan.Key(0), true
}
