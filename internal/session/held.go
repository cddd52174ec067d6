package session

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"broker/internal/profiles"
)

// Tell sends one line that explains the delay to all clients that wait for a source.
func (b *Broker) Tell(source, line string) {
	for _, tell := range b.prompts.listeners(source) {
		tell(line)
	}
}

// Waiting describes a device whose code a person is being asked for.
type Waiting struct {
	Source   string
	Device   string // MFA serial
	Requests int    // number of requests that wait for the code
}

// Waiting lists the open prompts.
func (b *Broker) Waiting() []Waiting { return b.prompts.waiting() }

// Held describes one session that Broker holds, or failed to get.
type Held struct {
	Key         Key
	Source      string
	Role        string // as in Answer; empty for the session of the source itself
	Kind        profiles.Kind
	Login       bool      // a person logged in on a page for it
	LoginEnds   time.Time // when a person has to log in again; zero if it is not known
	ReadOnly    bool      // AWS's own policy limits it to reading
	Device      string    // the MFA device whose code the call took; empty if none
	Profile     string    // the profile that asked for it first
	AccessKeyID string
	Expires     time.Time // zero if there is no session
	Renews      time.Time // zero if only a person can renew it
	LastUse     time.Time
	Endpoint    string // where the session came from, unless that is AWS's own endpoint of the region
	Err         error  // the last failure, if no call has succeeded since
}

// Held lists the sessions of this Broker, sorted by source and role.
func (b *Broker) Held() []Held {
	c := b.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	var list []Held
	for key, s := range c.slots {
		h := Held{
			Key:      key,
			Source:   s.plan.Source.Name,
			Role:     s.plan.Steps[s.step].subject(Credentials{}),
			Kind:     s.plan.Source.Kind,
			Login:    s.step == 0 && s.plan.Source.Kind.ByPage(),
			ReadOnly: s.plan.Steps[s.step].ReadOnly(),
			Device:   s.plan.Steps[s.step].MFASerial,
			Profile:  s.plan.Steps[s.step].Profile,
			LastUse:  s.lastUse.wall,
			Err:      s.err,
			Endpoint: s.plan.Steps[s.step].Endpoint.URL,
		}
		if s.entry != nil && now.before(s.entry.end) {
			h.Role = s.plan.Steps[s.step].subject(s.entry.creds)
			if s.plan.Steps[s.step].Operation != CreateToken { // a token has none
				h.AccessKeyID = s.entry.creds.AccessKeyID
			}
			h.Expires, h.Renews = s.entry.creds.Expires, s.entry.refresh.wall
			h.LoginEnds = s.entry.creds.LoginEnds
			if s.loggedOut() {
				h.Renews = time.Time{}
			}
		} else if s.err == nil {
			continue
		}
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b Held) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), strings.Compare(a.Role, b.Role),
			strings.Compare(a.Profile, b.Profile))
	})
	return list
}
