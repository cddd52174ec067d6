package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/profiles"
	"broker/internal/session"
	"broker/internal/system"
	"broker/internal/wire"
)

// verbs is all that the daemon can be asked. None of them returns a
// long-lived key, a seed or a code.
var verbs = map[string]verb{
	wire.Ping:   {anywhere, (*Daemon).ping},
	wire.Get:    {anywhere, (*Daemon).get},
	wire.Serve:  {here, (*Daemon).lease},
	wire.Login:  {here, (*Daemon).login},
	wire.Logout: {here, (*Daemon).logout},
	wire.Lock:   {here, (*Daemon).lock},
	wire.Unlock: {here, (*Daemon).unlock},
	wire.State:  {here, (*Daemon).state},

	wire.Passphrase: {here, (*Daemon).passphrase},

	wire.Overlay:   {here, (*Daemon).overlay},
	wire.Publish:   {here, (*Daemon).publish},
	wire.Unpublish: {here, (*Daemon).unpublish},

	wire.Console:  {here, (*Daemon).signIn},
	wire.Accounts: {here, (*Daemon).accounts},

	wire.Handover: {here, (*Daemon).handover},
}

// A verb is who may ask for it, and what it does.
type verb struct {
	class class
	do    func(*Daemon, context.Context, call) (wire.Response, error)
}

// class says from where a verb may be asked for. Its zero value is nowhere, so
// that a verb without a class is refused.
type class int

const (
	anywhere class = 1 + iota // also on behalf of somebody who is not on this machine
	here                      // by a process of our uid on this machine alone
)

// admits reports whether a caller may ask for a verb of this class.
func (k class) admits(c caller) bool {
	return k == anywhere || k == here && c.UID == os.Getuid() && c.PID > 0
}

// caller is who is at the other end of a connection.
type caller struct {
	peer.Peer
	// program is what Program says of it when the first decision about it is recorded.
	program func() (name, parent string)
}

// call is one request: what is asked, by whom, and how to ask back.
type call struct {
	req  wire.Request
	peer caller
	talk *conversation
	// endpoint is the id of the lease where it is asked, or that it was given; empty for all else.
	endpoint string
}

// answer does what a request asks.
func (d *Daemon) answer(ctx context.Context, c call) wire.Response {
	verb, known := verbs[c.req.Verb]
	if !known || !verb.class.admits(c.peer) {
		return wire.Response{Err: fault.New(fault.Usage, "the daemon knows no verb %q; it is version %s", c.req.Verb, d.Version).WithHint("broker service restart")}
	}
	if c.req.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.req.Timeout)
		defer cancel()
	}
	err := d.meant(c.req)
	var resp wire.Response
	if err == nil {
		resp, err = verb.do(d, ctx, c)
	}
	if err != nil {
		d.refused.Add(1)
		failed := wire.Response{Err: fault.Of(err), Challenge: resp.Challenge}
		if d.Setup != nil && (failed.Err.Kind == fault.Network || failed.Err.Kind == fault.BadAnswer) {
			setup := d.Setup()
			failed.Route = &setup.Route
		}
		return failed
	}
	return resp
}

// meant refuses a request of a client whose registry, state or keyring is another than this daemon's: it would be
// answered from the wrong one. What only looks, or locks, is for everybody. Clients of 0.1 name no paths, and are
// served.
func (d *Daemon) meant(req wire.Request) error {
	if req.Verb == wire.Ping || req.Verb == wire.State || req.Verb == wire.Lock {
		return nil
	}
	for _, row := range []struct{ what, theirs, ours string }{
		{"registry", req.Registry, d.Files.Registry}, {"state directory", req.State, d.StateDir},
		{"keyring directory", req.Keyring, d.KeyringDir},
		{"home", req.Home, d.Home},
	} {
		if row.theirs != "" && row.ours != "" && !system.SameFile(row.theirs, row.ours) {
			return fault.New(fault.Failed, "the daemon on this socket uses the %s %s, and this shell means %s", row.what,
				row.ours, row.theirs).
				WithHint("unset BROKER_SOCKET BROKER_RUNTIME_DIR; kill %d", os.Getpid())
		}
	}
	return nil
}

func (d *Daemon) ping(context.Context, call) (wire.Response, error) {
	return wire.Response{}, nil
}

func (d *Daemon) get(ctx context.Context, c call) (wire.Response, error) {
	r := d.request(c)
	r.AdHoc = adHoc(c.req.Role)
	answer, err := d.Broker.Credentials(ctx, r)
	if err := d.giving("given", c, answer, err); err != nil {
		return wire.Response{}, err
	}
	d.used(answer)
	role := ""
	if c.req.Role != nil {
		role = answer.Role
	}
	return wire.Response{
		Credential: &wire.Credential{
			AccessKeyID:     answer.AccessKeyID,
			SecretAccessKey: answer.SecretAccessKey,
			SessionToken:    answer.SessionToken,
			Expiration:      answer.Expires,
			Profile:         answer.Profile,
			Region:          answer.Region,
			Role:            role,
			Direct:          answer.Direct,
		},
		Warnings: lines(answer.Warnings),
	}, nil
}

func (d *Daemon) login(ctx context.Context, c call) (wire.Response, error) {
	r := d.request(c)
	r.Login = true
	answer, err := d.Broker.Credentials(ctx, r)
	_ = d.record("login", c, answer, err)
	if err != nil {
		return wire.Response{}, err
	}
	d.endpoints.loggedIn(answer.Source)
	d.lastUse.Store(time.Now().Unix())
	d.publishing.used(answer.Source)
	expires := answer.Expires
	// Of the session its times alone: login opens it, get hands out.
	return wire.Response{
		Status:   &wire.Status{Sessions: []wire.Session{{Source: answer.Source, Role: answer.Role, Profile: answer.Profile, Expires: &expires}}},
		Warnings: lines(answer.Warnings),
	}, nil
}

func (d *Daemon) logout(ctx context.Context, c call) (wire.Response, error) {
	d.endpoints.loggedOut(c.req.Profile)
	still := d.publishing.logout(c.req.Profile)
	n, err := d.Broker.Logout(ctx, c.req.Profile, d.Files)
	err = errors.Join(err, still)
	_ = d.record("logout", c, session.Answer{Source: c.req.Profile}, err)
	return wire.Response{Count: n}, err
}

// pageOfSessions is how many bytes of a line the sessions may take. The rest is
// for the warnings: at most 20 of 600 bytes, each of which may take two in JSON.
const pageOfSessions = wire.MaxLine / 2

func (d *Daemon) state(_ context.Context, c call) (wire.Response, error) {
	held := d.Broker.Held()
	status := &wire.Status{
		PID:       os.Getpid(),
		Started:   d.started,
		Version:   d.Version,
		StartedBy: d.StartedBy,
		Locked:    d.Broker.Locked(),
		Answered:  d.answered.Load(),
		Refused:   d.refused.Load(),
		Total:     len(held),
		Sessions:  []wire.Session{},

		Published: d.publishing.state(),

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
		status.Warnings = lines(set.Warnings())
		if settings, err := set.Settings(); err != nil {
			status.Warnings = append(status.Warnings, err.Error())
		} else {
			status.Keyring = settings.KeyringBackend
		}
	}
	status.Warnings = append(status.Warnings, d.Warnings...)
	status.Warnings = append(status.Warnings, d.endpoints.warnings()...)
	status.Warnings = append(status.Warnings, d.lockWarnings()...)
	if err := d.Audit.Failing(); err != nil {
		status.Warnings = append(status.Warnings, fault.Line(err.Error()))
	}
	var left int
	if status.Commands, left = d.commands(pageOfSessions / 2); left > 0 {
		status.Warnings = append(status.Warnings, fmt.Sprintf("%d more commands have files or an endpoint of their own", left))
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

// request is what a client asks of the broker, for the files that the client means. It may be the first after a
// long sleep, so the time without use is looked at here too.
func (d *Daemon) request(c call) session.Request {
	d.lockIfUnused()
	d.lockAsOthers()
	files := d.Files
	if c.req.AWSConfig != "" {
		files.Config = c.req.AWSConfig
	}
	if c.req.AWSCredentials != "" {
		files.Credentials = c.req.AWSCredentials
	}
	files = d.overlays.original(files)
	r := session.Request{Profile: c.req.Profile, Files: files, Code: c.req.Code, MinTTL: c.req.MinTTL}
	if c.req.CanAsk {
		r.Terminal, r.Tell = &terminal{c}, c.talk.tell
	}
	if d.Window != nil {
		r.Window = &window{c, d.Window}
	}
	return r
}

// adHoc is a role that no profile names, as a client asks for it; what it says
// is checked where it is planned.
func adHoc(role *wire.Role) *session.AdHoc {
	if role == nil {
		return nil
	}
	a := &session.AdHoc{
		Role: profiles.Role{
			ARN: role.ARN, ExternalID: role.ExternalID, SessionName: role.SessionName, Duration: time.Duration(role.Seconds) * time.Second,
			MFASerial: role.MFASerial, Endpoint: profiles.Endpoint{Region: role.Region},
		},
		Policy:   role.Policy,
		Federate: role.Federate,
	}
	for _, t := range role.Tags {
		a.Tags = append(a.Tags, session.Tag(t))
	}
	return a
}

// record writes the audit line of a decision.
func (d *Daemon) record(event string, c call, answer session.Answer, err error) error {
	return d.Audit.Record(d.event(event, c, answer, err))
}

func (d *Daemon) event(event string, c call, answer session.Answer, err error) audit.Event {
	e := audit.Event{
		Event:   event,
		Profile: c.req.Profile,
		Source:  answer.Source,
		Role:    answer.Role,
		KeyID:   answer.AccessKeyID,
		UID:     c.peer.UID,
		PID:     c.peer.PID,

		Endpoint:    c.endpoint,
		STSEndpoint: fault.Line(answer.Endpoints),
	}
	if r := c.req.Role; r != nil && e.Role == "" {
		e.Role = r.ARN // what was asked for and refused
	}
	e.Program, e.Parent = c.peer.program()
	if err != nil {
		f := fault.Of(err)
		e.Event, e.Kind, e.Message = "refused", f.Kind, f.Error()
	} else if !answer.Expires.IsZero() {
		expires := answer.Expires.UTC()
		e.Expires = &expires
	}
	return e
}

// giving writes the line of a session that is about to be given out, unless err is why it is not. Where the line
// cannot be written and the settings say `audit = required`, that is a reason not to.
func (d *Daemon) giving(event string, c call, answer session.Answer, err error) error {
	unwritten := d.record(event, c, answer, err)
	if err != nil || unwritten == nil || !d.auditRequired() {
		return err
	}
	return fault.New(fault.Failed, "nothing is given out without its line in the audit log (audit = required), and %w", unwritten).
		WithHint("broker status")
}

// auditRequired reports whether the settings say so, or cannot be read.
func (d *Daemon) auditRequired() bool {
	set, err := d.Store.Load(d.Files)
	if err != nil {
		return true
	}
	settings, err := set.Settings()
	return err != nil || settings.AuditRequired
}
