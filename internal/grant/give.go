package grant

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/guard"
	"broker/internal/partition"
	"broker/internal/profiles"
	"broker/internal/session"
)

// Request is a request for sessions.
type Request struct {
	Event    string // name of the audit event if the request is granted
	By       Caller
	Delivery audit.Delivery
	Purpose  string            // what the session is used for in the daemon, for the audit log; empty if it leaves
	Endpoint string            // id of the endpoint that is used or asked for
	Door     string            // name of the door that is used or asked for
	Requests []session.Request // one for each session: all are handed out, or none
	// Get fetches each session; nil means Credentials of the Broker.
	Get func(context.Context, session.Request) (session.Answer, error)

	// Use does with each session what must happen before it is handed out, such as a call to AWS; nil for nothing. It
	// runs once the session is confirmed.
	Use func(context.Context, session.Request, session.Answer) error

	Person guard.Person // who can confirm a guarded session; nil for nobody

	door      *held    // the door over which the request came; nil for none
	confirmed bool     // the grant was confirmed, if it had to be
	renews    bool     // a grant asks for a refresh, which does not count as a use
	have      []string // the access key ids that it has; if they are still current, nothing leaves
	failed    string   // why its last refresh failed; the same failure is not recorded again
}

// Give is the only function through which a session is handed out. It first fetches the sessions, which may prompt
// for a code. Then it holds the gate while it checks the lock, writes the audit lines and calls deliver. So when
// Shut has returned, nothing leaves any more. A session whose source was logged out meanwhile does not leave
// either. Errors are recorded.
func (k *Keeper) Give(ctx context.Context, a Request, deliver func([]session.Answer) error) error {
	k.mu.Lock()
	began := k.logouts
	k.mu.Unlock()
	k.elevate(&a)
	k.forAgents(&a)
	answers, err := k.authorize(ctx, &a)
	if err != nil {
		return err
	}
	asked, err := k.confirm(ctx, &a, answers)
	if err != nil {
		return err
	}
	if asked { // the sessions may have expired meanwhile, and what they are for may have changed
		k.elevate(&a)
		confirmed := answers
		if answers, err = k.authorize(ctx, &a); err != nil {
			return err
		}
		for i := range answers {
			if !sameSession(&answers[i], &confirmed[i]) || a.outside(i, &answers[i]) != a.outside(i, &confirmed[i]) {
				return k.refuse(&a, i, &answers[i], fault.New(fault.NotConfirmed,
					"%s changed while it was being confirmed; try again", fault.Line(answers[i].Profile)))
			}
		}
	}
	for i := range answers {
		if a.Use == nil {
			break
		}
		if err := a.Use(ctx, a.Requests[i], answers[i]); err != nil {
			return k.refuse(&a, i, &answers[i], err)
		}
	}
	if a.have != nil && slices.Equal(a.have, keyIDs(answers)) {
		return nil
	}
	if a.By.Details != nil {
		a.By.Details() // not while a lock waits for us
	}
	if err := a.By.Gone(); err != nil {
		return k.refuse(&a, 0, &answers[0], err)
	}
	k.gate.RLock()
	defer k.gate.RUnlock()
	err = k.overtaken(began, answers)
	if err == nil {
		err = k.closed(a.door)
	}
	if err != nil {
		return k.refuse(&a, 0, &answers[0], err)
	}
	if err := k.recordGiven(&a, answers); err != nil {
		return err
	}
	k.handsOut(a.door, answers)
	if !a.renews { // before deliver: the user may ask status as soon as it has the session
		k.Given.Add(1)
		for i := range answers {
			if a.door == nil { // a far side must not keep lock_after from locking
				k.LastUse.Store(time.Now().Unix())
			}
			k.served(answers[i].Source)
		}
	}
	if err := deliver(answers); err != nil {
		return k.refuse(&a, 0, &answers[0], err)
	}
	return nil
}

// sameSession reports whether two answers are for the same profile, role and guard.
func sameSession(a, b *session.Answer) bool {
	return a.Profile == b.Profile && a.Source == b.Source && a.Role == b.Role && a.Account == b.Account &&
		a.Guard == b.Guard
}

// elevate asks for the full role of the read-only profiles that are elevated for the process. A published session never
// has it, because every program can read it. A refresh counts for the process that has the grant.
func (k *Keeper) elevate(a *Request) {
	if a.Delivery == audit.Published || a.door != nil && a.door.Door.ReadOnly {
		return
	}
	pid := a.By.PID
	if a.isFar() {
		pid = 0 // only what is elevated everywhere
	}
	for i := range a.Requests {
		r := &a.Requests[i]
		if r.AdHoc != nil && r.AdHoc.ARN != "" {
			continue // another role
		}
		until, reason, err := k.Guard.Elevated(pid, func() (profile, role string, err error) {
			set, err := k.Store.Load(r.Files)
			if err != nil {
				return "", "", err
			}
			chain, err := set.Resolve(r.Profile)
			if err != nil || len(chain.Roles) == 0 {
				return "", "", err
			}
			return chain.Profile, chain.Roles[len(chain.Roles)-1].ARN, nil
		})
		if err == nil { // otherwise authorize says what is wrong
			r.ElevatedUntil, r.Reason = until, reason
		}
	}
}

// isFar reports whether the process that asks only carries the request of another host.
func (a *Request) isFar() bool { return a.door != nil && a.door.Owner.PID == 0 }

// confirm lets a person confirm the guarded sessions. asked means that the person was asked, which takes time.
func (k *Keeper) confirm(ctx context.Context, a *Request, answers []session.Answer) (asked bool, err error) {
	if a.confirmed {
		return false, nil
	}
	for i := range answers {
		answer := &answers[i]
		outside := a.outside(i, answer)
		if answer.Guard.IsZero() && outside == "" {
			continue
		}
		how, did, err := k.Guard.Check(ctx, guard.Handout{
			Profile: answer.Profile, Role: answer.Role, Account: answer.Account, Guard: answer.Guard, PID: a.By.PID,
			Outside: outside, Published: a.Delivery == audit.Published, Commands: k.guardCommands, Agent: answer.Agent,
			Far: a.isFar(),
		}, a.Person)
		asked = asked || did
		if err != nil {
			if k.Locked() {
				err = LockedFault()
			}
			return asked, k.refuse(a, i, answer, err)
		}
		if how != "" {
			line := a.Line("confirmed", i, answer, nil)
			line.KeyID, line.Expires, line.Reason = "", nil, how // nothing was handed out yet
			_ = k.Audit.Record(line)
		}
	}
	return asked, nil
}

// outside returns why session i does not belong to the trusted directory in which the caller works, or "".
func (a *Request) outside(i int, answer *session.Answer) string {
	if answer.Directories == nil || a.By.Details == nil {
		return ""
	}
	caller := a.By.Details()
	if caller == nil {
		return ""
	}
	profile := answer.Profile
	if role := a.Requests[i].AdHoc; role != nil && role.Role.ARN != "" {
		profile = "" // its role is in no profile
	}
	return answer.Directories.Outside(caller.Directory, profile, answer.Account)
}

func (k *Keeper) guardCommands() ([]profiles.CommandPattern, error) {
	set, err := k.Store.Load(k.Files)
	if err != nil {
		return nil, err
	}
	return set.GuardCommands()
}

// recordGiven writes the audit lines of sessions that are about to leave.
func (k *Keeper) recordGiven(a *Request, answers []session.Answer) error {
	lines := make([]audit.Event, len(answers))
	for i := range answers {
		lines[i] = a.Line(a.Event, i, &answers[i], nil)
	}
	return k.Record(lines...)
}

// Record writes audit lines: all, or none. It returns an error only if they cannot be written and audit = required is
// set: what the lines say must not happen then.
func (k *Keeper) Record(lines ...audit.Event) error {
	if err := k.Audit.Record(lines...); err != nil && k.auditRequired() {
		return fault.New(fault.Failed, "nothing is handed out or allowed: audit = required, and %w", err).
			WithHint("broker status")
	}
	return nil
}

// overtaken returns why sessions that were fetched must not leave: Broker was locked, their source was logged out
// after logout number began, or the daemon is ending.
func (k *Keeper) overtaken(began int64, answers []session.Answer) error {
	if k.Locked() {
		return LockedFault()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ending {
		return fault.New(fault.Failed, "the daemon is stopping; try again")
	}
	for _, answer := range answers {
		if max(k.last[answer.Source], k.last[""]) > began {
			return loggedOut(answer.Source)
		}
	}
	return nil
}

func loggedOut(source string) error {
	return fault.New(fault.LoginNeeded, "%s was logged out; log in again", source).WithHint("broker login %s", source)
}

// authorize fetches the sessions one after the other: a code that a person gives for the first serves the others
// too, if they share the device.
func (k *Keeper) authorize(ctx context.Context, a *Request) (answers []session.Answer, err error) {
	answers = make([]session.Answer, len(a.Requests))
	for i, r := range a.Requests {
		if a.Get != nil {
			answers[i], err = a.Get(ctx, r)
		} else {
			answers[i], err = k.Broker.Credentials(ctx, r)
		}
		if err != nil {
			_ = k.refuse(a, i, &answers[i], err)
			if len(a.Requests) > 1 {
				err = fmt.Errorf("%s: %w", fault.Line(r.Profile), err)
			}
			return nil, err
		}
	}
	return answers, nil
}

// refuse records a failed request, and returns err.
func (k *Keeper) refuse(a *Request, i int, answer *session.Answer, err error) error {
	repeats := a.renews && err.Error() == a.failed ||
		a.door != nil && !a.door.sayable(a.Requests[i].Profile, fault.Of(err).Kind)
	if !repeats {
		refused := *answer
		refused.Credentials = session.Credentials{} // they were not handed out
		_ = k.Audit.Record(a.Line(a.Event, i, &refused, err))
	}
	return err
}

// Line returns the audit line of request i. If err is not nil, the line says that the request was refused and why.
func (a *Request) Line(event string, i int, answer *session.Answer, err error) audit.Event {
	r := a.Requests[i]
	e := audit.Event{
		Event: event, Profile: r.Profile, Account: answer.Account, Source: answer.Source, Role: answer.Role,
		SessionName: answer.SessionName(), KeyID: answer.AccessKeyID, Cached: answer.Cached, Delivery: a.Delivery,
		Reason: a.Purpose, UID: a.By.UID, PID: a.By.PID, Endpoint: a.Endpoint, Door: a.Door,
		STSEndpoint: fault.Line(answer.Endpoints), Agent: cmp.Or(answer.Agent, r.Agent),
	}
	if r.AdHoc != nil && e.Role == "" {
		e.Role = r.AdHoc.ARN // the role that was refused
	}
	e.Account = cmp.Or(e.Account, partition.AccountOfARN(e.Role))
	if a.By.Details != nil {
		e.Caller = a.By.Details()
		e.Agent = cmp.Or(e.Agent, e.Caller.Agent())
	}
	if err != nil {
		f := fault.Of(err)
		e.Event, e.Kind, e.Message = "refused", f.Kind, f.Error()
		return e
	}
	switch {
	case answer.ReadOnly:
		e.Rights = audit.ReadOnly
	case !r.ElevatedUntil.IsZero():
		e.Rights = audit.Elevated
	}
	if !answer.Expires.IsZero() {
		expires := answer.Expires.UTC()
		e.Expires = &expires
	}
	return e
}

// auditRequired reports whether audit = required is set, or the settings cannot be read.
func (k *Keeper) auditRequired() bool {
	set, err := k.Store.Load(k.Files)
	if err != nil {
		return true
	}
	settings, err := set.Settings()
	return err != nil || settings.AuditRequired
}

// LockedFault returns the error for requests that are refused because Broker is locked.
func LockedFault() error {
	return fault.New(fault.Locked, "Broker is locked").WithHint("broker unlock")
}

func keyIDs(answers []session.Answer) []string {
	ids := []string{}
	for _, a := range answers {
		ids = append(ids, a.AccessKeyID)
	}
	return ids
}
