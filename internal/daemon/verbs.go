package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/session"
	"broker/internal/socket"
	"broker/internal/wire"
)

// verbs is all that the daemon can be asked. None of them returns a
// long-lived key, a seed or a code.
var verbs = map[string]func(*Daemon, context.Context, wire.Request, caller) (wire.Response, error){
	wire.Ping:   (*Daemon).ping,
	wire.Get:    (*Daemon).get,
	wire.Login:  (*Daemon).login,
	wire.Logout: (*Daemon).logout,
	wire.Lock:   (*Daemon).lock,
	wire.Unlock: (*Daemon).unlock,
	wire.State:  (*Daemon).state,
}

// caller is who is at the other end of a connection.
type caller struct {
	socket.Peer
	// process is its name and the program that started it, as they are when
	// the first decision about it is recorded.
	process func() (name, parent string)
}

// answer does what a request asks.
func (d *Daemon) answer(ctx context.Context, req wire.Request, peer caller) wire.Response {
	verb, known := verbs[req.Verb]
	if !known {
		return wire.Response{Err: fault.New(fault.Usage, "the daemon knows no verb %q; it is version %s", req.Verb, d.Version)}
	}
	resp, err := verb(d, ctx, req, peer)
	if err != nil {
		d.refused.Add(1)
		return wire.Response{Err: fault.Of(err)}
	}
	return resp
}

func (d *Daemon) ping(context.Context, wire.Request, caller) (wire.Response, error) {
	return wire.Response{}, nil
}

func (d *Daemon) get(ctx context.Context, req wire.Request, peer caller) (wire.Response, error) {
	answer, err := d.Broker.Credentials(ctx, d.request(req))
	d.record("given", req, answer, err, peer)
	if err != nil {
		return wire.Response{}, err
	}
	d.answered.Add(1)
	return wire.Response{
		Credential: &wire.Credential{
			AccessKeyID:     answer.AccessKeyID,
			SecretAccessKey: answer.SecretAccessKey,
			SessionToken:    answer.SessionToken,
			Expiration:      answer.Expires,
			Profile:         answer.Profile,
			Region:          answer.Region,
		},
		Warnings: lines(answer.Warnings),
	}, nil
}

func (d *Daemon) login(ctx context.Context, req wire.Request, peer caller) (wire.Response, error) {
	r := d.request(req)
	r.Login = true
	answer, err := d.Broker.Credentials(ctx, r)
	d.record("login", req, answer, err, peer)
	if err != nil {
		return wire.Response{}, err
	}
	expires := answer.Expires
	// Of the session its times alone: login opens it, get hands out.
	return wire.Response{
		Status:   &wire.Status{Sessions: []wire.Session{{Source: answer.Source, Role: answer.Role, Profile: answer.Profile, Expires: &expires}}},
		Warnings: lines(answer.Warnings),
	}, nil
}

func (d *Daemon) logout(_ context.Context, req wire.Request, peer caller) (wire.Response, error) {
	n := d.Broker.Logout(req.Profile)
	d.record("logout", req, session.Answer{Source: req.Profile}, nil, peer)
	return wire.Response{Count: n}, nil
}

func (d *Daemon) lock(_ context.Context, req wire.Request, peer caller) (wire.Response, error) {
	d.Broker.Lock()
	d.Keyring.Forget()
	d.record("lock", req, session.Answer{}, nil, peer)
	return wire.Response{}, nil
}

func (d *Daemon) unlock(ctx context.Context, req wire.Request, peer caller) (wire.Response, error) {
	err := d.Keyring.Unlock(ctx, req.Passphrase)
	d.record("unlock", req, session.Answer{}, err, peer)
	if err != nil {
		return wire.Response{}, err
	}
	d.Broker.Unlock()
	return wire.Response{}, nil
}

// pageOfSessions is how many bytes of a line the sessions may take. The rest is
// for the warnings: at most 20 of 600 bytes, each of which may take two in JSON.
const pageOfSessions = wire.MaxLine / 2

func (d *Daemon) state(_ context.Context, req wire.Request, _ caller) (wire.Response, error) {
	held := d.Broker.Held()
	status := &wire.Status{
		PID:      os.Getpid(),
		Started:  d.started,
		Version:  d.Version,
		Locked:   d.Broker.Locked(),
		Answered: d.answered.Load(),
		Refused:  d.refused.Load(),
		Total:    len(held),
		Sessions: []wire.Session{},
	}
	// A broken file is told, and does not keep the rest from being told.
	if set, err := d.Store.Load(d.Files); err != nil {
		status.Warnings = []string{err.Error()}
	} else {
		status.Warnings = lines(set.Warnings())
		if settings, err := set.Settings(); err != nil {
			status.Warnings = append(status.Warnings, err.Error())
		} else {
			status.Keyring = settings.KeyringBackend
		}
	}
	from := min(max(req.Offset, 0), len(held))
	for size := 0; from < len(held); from++ {
		h := held[from]
		s := wire.Session{Source: h.Source, Role: h.Role, Profile: h.Profile, AccessKeyID: h.AccessKeyID, LastUse: h.LastUse}
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
	return wire.Response{Status: status}, nil
}

// maxWarnings bounds what is said of files in one answer.
const maxWarnings = 20

func lines(warnings []profiles.Warning) []string {
	var list []string
	for i, w := range warnings {
		if i == maxWarnings {
			return append(list, fmt.Sprintf("and %d more", len(warnings)-i))
		}
		list = append(list, fault.Line(w.String()))
	}
	return list
}

// request is what a client asks of the broker, for the files that the client means.
func (d *Daemon) request(req wire.Request) session.Request {
	files := d.Files
	if req.AWSConfig != "" {
		files.Config = req.AWSConfig
	}
	if req.AWSCredentials != "" {
		files.Credentials = req.AWSCredentials
	}
	return session.Request{Profile: req.Profile, Files: files, Code: req.Code}
}

// record writes the audit line of a decision.
func (d *Daemon) record(event string, req wire.Request, answer session.Answer, err error, peer caller) {
	e := audit.Event{
		Event:   event,
		Profile: fault.Line(req.Profile),
		Source:  answer.Source,
		Role:    answer.Role,
		KeyID:   answer.AccessKeyID,
		UID:     peer.UID,
		PID:     peer.PID,
	}
	e.Program, e.Parent = peer.process()
	if err != nil {
		f := fault.Of(err)
		e.Event, e.Kind, e.Message = "refused", f.Kind, f.Error()
	} else if !answer.Expires.IsZero() {
		expires := answer.Expires.UTC()
		e.Expires = &expires
	}
	d.Audit.Record(e)
}
