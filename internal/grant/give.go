package grant

import (
	"context"
	"fmt"
	"slices"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/session"
	"broker/internal/wire"
)

// Caller is who asks for a session.
type Caller struct {
	peer.Peer
	// Program is Program of the Peer, read once, when a decision about it is recorded first.
	Program func() (name, parent string)
}

// An Ask is what somebody asks for.
type Ask struct {
	Event    string // of the audit log, if it is given
	By       Caller
	Endpoint string            // id of the endpoint that is asked, or that is asked for
	Requests []session.Request // one for each session: all are given, or none
	// Get is how each session is had; nil for Credentials of the Broker.
	Get func(context.Context, session.Request) (session.Answer, error)

	renews bool     // a grant asks: that is no use
	have   []string // the access key ids that it has; if they are still the right ones, nothing leaves
	failed string   // why its last renewal failed; that is not recorded again
}

// Give is the only function through which a session is handed out. It gets what is asked for, which may ask a person.
// Then it takes the gate, looks at the lock, writes the audit line, and calls deliver before it lets go of the gate:
// when Shut has returned, nothing more leaves. What a logout has overtaken does not leave either. Errors are recorded.
func (k *Keeper) Give(ctx context.Context, a Ask, deliver func([]session.Answer) error) error {
	k.mu.Lock()
	began := k.logouts
	k.mu.Unlock()
	answers, err := k.authorize(ctx, &a)
	if err != nil {
		return err
	}
	if a.have != nil && slices.Equal(a.have, keyIDs(answers)) {
		return nil
	}
	k.gate.RLock()
	defer k.gate.RUnlock()
	if err := k.overtaken(began, answers); err != nil {
		return k.refuse(&a, 0, &answers[0], err)
	}
	if err := k.recordGiven(&a, answers); err != nil {
		return err
	}
	if !a.renews { // before its user has it, and looks
		k.Given.Add(1)
		for i := range answers {
			k.Used(answers[i].Source)
		}
	}
	if err := deliver(answers); err != nil {
		return k.refuse(&a, 0, &answers[0], err)
	}
	return nil
}

// recordGiven writes the audit lines. The error is why nothing may leave without them.
func (k *Keeper) recordGiven(a *Ask, answers []session.Answer) error {
	for i := range answers {
		err := k.Audit.Record(a.Line(a.Event, i, &answers[i], nil))
		if err != nil && k.auditRequired() {
			return fault.New(fault.Failed, "nothing is handed out: audit = required, and the audit log cannot be written: %w",
				err).WithHint("broker status")
		}
	}
	return nil
}

// overtaken is why sessions do not leave although they could be had: it was locked meanwhile, their source was logged
// out since that many logouts, or the daemon ends.
func (k *Keeper) overtaken(began int64, answers []session.Answer) error {
	if k.Locked() {
		return LockedFault()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ending {
		return fault.New(fault.Failed, "the daemon is about to end; try again")
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

// authorize gets the sessions, one after the other: what a person is asked for the first serves the rest, if they share
// the device.
func (k *Keeper) authorize(ctx context.Context, a *Ask) (answers []session.Answer, err error) {
	answers = make([]session.Answer, len(a.Requests))
	for i, r := range a.Requests {
		if a.Get != nil {
			answers[i], err = a.Get(ctx, r)
		} else {
			answers[i], err = k.Broker.Credentials(ctx, r)
		}
		if err != nil {
			if err := k.refuse(a, i, &answers[i], err); len(a.Requests) > 1 {
				return nil, fmt.Errorf("%s: %w", fault.Line(r.Profile), err)
			}
			return nil, err
		}
	}
	return answers, nil
}

// refuse records why nothing was given, and returns it.
func (k *Keeper) refuse(a *Ask, i int, answer *session.Answer, err error) error {
	if !a.renews || err.Error() != a.failed {
		refused := *answer
		refused.Credentials = session.Credentials{} // it was not given
		_ = k.Audit.Record(a.Line(a.Event, i, &refused, err))
	}
	return err
}

// Line is the audit line about the request i: that it was refused, if err says why.
func (a *Ask) Line(event string, i int, answer *session.Answer, err error) audit.Event {
	r := a.Requests[i]
	e := audit.Event{
		Event: event, Profile: r.Profile, Source: answer.Source, Role: answer.Role, KeyID: answer.AccessKeyID,
		UID: a.By.UID, PID: a.By.PID, Endpoint: a.Endpoint, STSEndpoint: fault.Line(answer.Endpoints),
	}
	if r.AdHoc != nil && e.Role == "" {
		e.Role = r.AdHoc.ARN // what was asked for and refused
	}
	e.Program, e.Parent = a.By.Program()
	if err != nil {
		f := fault.Of(err)
		e.Event, e.Kind, e.Message = "refused", f.Kind, f.Error()
	} else if !answer.Expires.IsZero() {
		expires := answer.Expires.UTC()
		e.Expires = &expires
	}
	return e
}

// auditRequired reports whether the settings say so, or cannot be read.
func (k *Keeper) auditRequired() bool {
	set, err := k.Store.Load(k.Files)
	if err != nil {
		return true
	}
	settings, err := set.Settings()
	return err != nil || settings.AuditRequired
}

// LockedFault is the error of all that is refused while it is locked.
func LockedFault() error {
	return fault.New(fault.Locked, "the broker is locked").WithHint("broker unlock")
}

func keyIDs(answers []session.Answer) []string {
	ids := []string{}
	for _, a := range answers {
		ids = append(ids, a.AccessKeyID)
	}
	return ids
}

// AdHoc is what a client asks for beside a profile; what it says is checked where it is planned.
func AdHoc(role *wire.Role) *session.AdHoc {
	if role == nil {
		return nil
	}
	a := &session.AdHoc{
		Role: profiles.Role{
			ARN: role.ARN, ExternalID: role.ExternalID, SessionName: role.SessionName,
			Duration: time.Duration(role.Seconds) * time.Second, MFASerial: role.MFASerial,
			Endpoint: profiles.Endpoint{Region: role.Region},
		},
		Policy:   role.Policy,
		Federate: role.Federate,
	}
	for _, t := range role.Tags {
		a.Tags = append(a.Tags, session.Tag(t))
	}
	return a
}
