package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"

	"broker/internal/fault"
	"broker/internal/grant"
	"broker/internal/wire"
)

// pageOfSessions is how many bytes of a line the sessions may take. The rest is
// for the warnings: at most 20 of 600 bytes, and each byte may take two in JSON.
const pageOfSessions = wire.MaxLine / 2

func (d *Daemon) state(_ context.Context, c call) (wire.Response, error) {
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
		Sessions:  []wire.Session{},

		Published: d.grants.Published(),

		Goroutines: runtime.NumGoroutine(),
	}
	if d.Setup != nil {
		setup := d.Setup()
		status.Setup = &setup
	}
	for _, w := range d.Broker.Waiting() {
		status.Waiting = append(status.Waiting, wire.Waiting(w))
	}
	// A broken file is told, and does not keep the rest from being told.
	if set, err := d.Store.Load(d.Files); err != nil {
		status.Warnings = []string{err.Error()}
	} else {
		status.Warnings = grant.Lines(set.Warnings())
		if settings, err := set.Settings(); err != nil {
			status.Warnings = append(status.Warnings, err.Error())
		} else {
			status.Keyring = settings.KeyringBackend
		}
	}
	status.Warnings = append(status.Warnings, d.Warnings...)
	status.Warnings = append(status.Warnings, d.grants.Warnings()...)
	status.Warnings = append(status.Warnings, d.lockWarnings()...)
	if err := d.Audit.Failing(); err != nil {
		status.Warnings = append(status.Warnings, fault.Line(err.Error()))
	}
	commands := d.grants.Commands()
	if status.Commands = fitting(commands, pageOfSessions/2); len(status.Commands) < len(commands) {
		status.Warnings = append(status.Warnings, fmt.Sprintf("%d more commands have files or an endpoint of their own",
			len(commands)-len(status.Commands)))
	}
	others, err := json.Marshal([]any{status.Published, status.Commands})
	if err != nil {
		return wire.Response{}, err
	}
	from := min(max(c.req.Offset, 0), len(held))
	for size := len(others); from < len(held); from++ {
		h := held[from]
		s := wire.Session{ID: h.Key.String(), Source: h.Source, Role: h.Role, Profile: h.Profile, AccessKeyID: h.AccessKeyID,
			LastUse: h.LastUse, Endpoint: fault.Line(h.Endpoint)}
		if !h.Expires.IsZero() {
			s.Expires, s.Renews = &h.Expires, &h.Renews
		}
		if h.Err != nil {
			s.Error = fault.Line(h.Err.Error())
		}
		b, err := json.Marshal(s)
		if err != nil {
			return wire.Response{}, err
		}
		if size += len(b) + 1; size > pageOfSessions {
			break
		}
		status.Sessions = append(status.Sessions, s)
	}
	return wire.Response{Status: status, Challenge: (*wire.Stretch)(d.Latch.Challenge())}, nil
}

// fitting are the first of a list that take at most so many bytes of JSON.
func fitting(list []wire.Command, room int) []wire.Command {
	for i, c := range list {
		b, err := json.Marshal(c)
		if room -= len(b); err != nil || room < 0 {
			return list[:i]
		}
	}
	return list
}
