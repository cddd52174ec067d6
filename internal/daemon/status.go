package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"time"

	"broker/internal/fault"
	"broker/internal/grant"
	"broker/internal/session"
	"broker/internal/wire"
)

// pageOfSessions is how many bytes of a line the sessions, published profiles and commands may take. The rest is
// for the warnings: at most 20 of 600 bytes each, and JSON may double each byte.
const pageOfSessions = wire.MaxLine / 2

func (d *Daemon) state(_ context.Context, c call) error {
	held := d.Broker.Held()
	status := &wire.Status{
		PID:       os.Getpid(),
		Started:   d.started,
		Version:   d.Version,
		StartedBy: d.StartedBy,
		Locked:    d.Broker.Locked(),
		Answered:  d.grants.Given.Load(),
		Refused:   d.grants.Refused.Load(),
		Total:     len(held),

		Goroutines: runtime.NumGoroutine(),
	}
	for _, a := range d.guard.List() {
		status.Allowed = append(status.Allowed, wire.Allowed{Profile: a.Profile, Elevated: a.Elevated,
			Where: a.Scope.String(), Here: d.guard.Holds(a, c.peer.PID), Until: a.Until, Reason: fault.Line(a.Reason),
			Answer: a.Answer})
	}
	if d.Setup != nil {
		setup := d.Setup()
		status.Setup = &setup
	}
	if d.AWSClock != nil {
		if offset, at := d.AWSClock(); !at.IsZero() {
			status.Clock = &wire.Clock{Offset: offset.Round(time.Second).Seconds(), At: at}
		}
	}
	for _, w := range d.Broker.Waiting() {
		status.Waiting = append(status.Waiting, wire.Waiting(w))
	}
	// Report a broken file, and still report everything else.
	if set, err := d.Store.Load(d.Files); err != nil {
		status.Warnings, status.KeyringUnknown = []string{err.Error()}, true
	} else {
		status.Warnings = grant.Lines(append(set.Warnings(), set.Advice()...))
		for _, old := range set.OldKeys(time.Now()) {
			status.Warnings = append(status.Warnings, old.String())
		}
		if settings, err := set.Settings(); err != nil {
			status.Warnings, status.KeyringUnknown = append(status.Warnings, err.Error()), true
		} else {
			status.Keyring = settings.KeyringBackend
		}
	}
	status.Warnings = append(status.Warnings, d.Warnings...)
	status.Warnings = append(status.Warnings, d.grants.Warnings()...)
	status.Warnings = append(status.Warnings, d.lockWarnings()...)
	d.rotationStatus(status)
	for _, e := range d.grants.Ending() {
		status.Warnings = append(status.Warnings, e.String())
	}
	if err := d.Audit.Failing(); err != nil {
		status.Warnings = append(status.Warnings, fault.Line(err.Error()))
	}
	doors := d.grants.Doors()
	for i := range doors {
		if status.Locked { // before every other reason: none of them can be changed until then
			doors[i].Error = "Broker is locked"
		}
	}
	size := 0
	status.Published = shown(status, d.grants.Published(), &size, pageOfSessions/4, "profiles are kept published")
	status.Commands = shown(status, d.grants.Commands(), &size, pageOfSessions/2, "commands have files or an endpoint")
	status.Doors = shown(status, doors, &size, pageOfSessions*3/4, "doors are open")
	sessions := []wire.Session{}
	for _, h := range held[min(max(c.req.Offset, 0), len(held)):] {
		sessions = append(sessions, sessionOf(h))
	}
	status.Sessions = fitting(sessions, &size, pageOfSessions)
	return c.reply(wire.Response{Status: status, Challenge: (*wire.Stretch)(d.LockFile.Challenge())})
}

// sessionOf returns what clients get to know about a session.
func sessionOf(h session.Held) wire.Session {
	s := wire.Session{ID: h.Key.String(), Source: h.Source, Role: h.Role, ReadOnly: h.ReadOnly,
		Device: h.Device, Profile: h.Profile,
		AccessKeyID: h.AccessKeyID, LastUse: h.LastUse, Endpoint: fault.Line(h.Endpoint),
		Kind: string(h.Kind), Login: h.Login}
	if !h.Expires.IsZero() {
		s.Expires = &h.Expires
	}
	if !h.LoginEnds.IsZero() {
		s.LoginEnds = &h.LoginEnds
	}
	if !h.Renews.IsZero() {
		s.Renews = &h.Renews
	}
	if h.Err != nil {
		s.Error = fault.Line(h.Err.Error())
	}
	return s
}

// shown is fitting with a warning that says how many of the list were left out, and what these are.
func shown[T any](status *wire.Status, list []T, size *int, most int, are string) []T {
	fit := fitting(list, size, most)
	if more := len(list) - len(fit); more > 0 {
		status.Warnings = append(status.Warnings, fmt.Sprintf("%d more %s", more, are))
	}
	return fit
}

// fitting returns the longest prefix of a list that fits: size, in bytes of JSON, must not exceed most. It adds
// the size of the prefix to size.
func fitting[T any](list []T, size *int, most int) []T {
	for i, entry := range list {
		b, err := json.Marshal(entry)
		if err != nil || *size+len(b)+1 > most {
			return list[:i]
		}
		*size += len(b) + 1
	}
	return list
}
