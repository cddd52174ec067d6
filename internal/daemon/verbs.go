package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"broker/internal/agent"
	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/grant"
	"broker/internal/profiles"
	"broker/internal/session"
	"broker/internal/wire"
)

// verbs lists all requests that the daemon serves. None of them returns a long-lived key, a seed or a code.
var verbs = map[string]verb{
	wire.Ping:   {anywhere, (*Daemon).ping},
	wire.Get:    {anywhere, (*Daemon).get},
	wire.Serve:  {here, verbOf((*grant.Keeper).Endpoint)},
	wire.Login:  {here, (*Daemon).login},
	wire.Logout: {here, (*Daemon).logout},
	wire.Lock:   {here, (*Daemon).lock},
	wire.Unlock: {here, (*Daemon).unlock},
	wire.State:  {here, (*Daemon).state},

	wire.BeginLogin:  {here, (*Daemon).beginLogin},
	wire.FinishLogin: {here, (*Daemon).finishLogin},

	wire.Passphrase: {here, (*Daemon).passphrase},

	wire.PrivateFiles: {here, verbOf((*grant.Keeper).Command)},
	wire.Publish:      {here, verbOf((*grant.Keeper).Publish)},
	wire.Unpublish:    {here, (*Daemon).unpublish},

	wire.Console:   {here, (*Daemon).signIn},
	wire.MakeToken: {here, (*Daemon).makeToken},
	wire.Accounts:  {here, (*Daemon).accounts},
	wire.Assigned:  {here, (*Daemon).assigned},
	wire.Check:     {here, (*Daemon).check},

	wire.Rotate: {here, (*Daemon).rotate},

	wire.OpenDoor:  {here, verbOf((*grant.Keeper).OpenDoor)},
	wire.CloseDoor: {here, (*Daemon).closeDoor},
	wire.Attend:    {here, (*Daemon).attendDoor},

	wire.Allow: {here, (*Daemon).allow},
	wire.Deny:  {here, (*Daemon).deny},

	wire.Replace: {here, (*Daemon).handover},
}

// verb says who may send a request, and what it does.
type verb struct {
	class class
	do    func(*Daemon, context.Context, call) error
}

// class says from where a verb may be called. Its zero value means nowhere, so that a verb without a class is
// refused.
type class int

const (
	anywhere class = 1 + iota // also over a door
	here                      // only on the daemon's own socket, which admits only processes of our uid
)

// admits reports whether a verb of this class may be called over a door; nil is the daemon's own socket.
func (k class) admits(door *doorway) bool { return k == anywhere || k == here && door == nil }

// call is one request: its contents, its sender, its connection for prompts, and its reply function.
type call struct {
	req  *wire.Request
	peer grant.Caller
	talk *conversation
	// reply sends the answer. Every verb calls reply once or returns an error. reply itself fails with errGone, or
	// because the answer does not fit.
	reply func(wire.Response) error
	door  *doorway // over which the request came; nil for the daemon's own socket

	program string     // for which the session is, if that is not the process that asks
	attends *attendant // at whose terminal a person can be asked, if that is not the client's
}

// answer runs a request. If it returns an error, no answer has been sent yet.
func (d *Daemon) answer(ctx context.Context, c call) error {
	if c.door != nil {
		c.req = overDoor(c.req)
	}
	verb, known := verbs[c.req.Verb]
	if admitted := known && verb.class.admits(c.door); !admitted && c.door != nil {
		d.grants.Refused.Add(1)
		return d.grants.Refuse(c.door.id, "", c.peer, errVerb)
	} else if !admitted {
		return fault.New(fault.Usage, "the daemon of version %s does not know the verb %q", d.Version, c.req.Verb).
			WithHint("broker service restart")
	}
	if c.req.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.req.Timeout)
		defer cancel()
	}
	err := d.meant(c.req)
	if err == nil {
		err = verb.do(d, ctx, c)
	}
	if err != nil {
		d.grants.Refused.Add(1)
	}
	return err
}

// failure returns the response for an error. The request is nil if it could not be read.
func (d *Daemon) failure(err error, req *wire.Request, door *doorway) wire.Response {
	if door != nil {
		profile := ""
		if req != nil {
			profile = req.Profile
		}
		return wire.Response{Err: grant.Outside(err, profile)}
	}
	failed := wire.Response{Err: fault.Of(err)}
	if r, ok := errors.AsType[*refusal](err); ok {
		failed.Challenge, failed.Setup = r.challenge, r.setup
	}
	called := failed.Err.Kind == fault.Network || failed.Err.Kind == fault.BadAnswer && !errors.Is(err, session.ErrProgram)
	if d.Setup != nil && called {
		setup := d.Setup()
		failed.Route = &setup.Route
	}
	return failed
}

// meant refuses a request if the client uses another registry, state directory or keyring than this daemon,
// because the answer would come from the wrong one. Verbs that only read status, or that lock, are always served.
// Clients of version 0.1 send no paths and are served too. The client makes the hint: it knows which of its
// variables lead here.
func (d *Daemon) meant(req *wire.Request) error {
	if req.Verb == wire.Ping || req.Verb == wire.State || req.Verb == wire.Lock {
		return nil
	}
	ours := wire.Setup{Home: d.Home, Registry: d.Files.Registry, StateDir: d.StateDir, KeyringDir: d.KeyringDir}
	if differs := ours.Differs(req); differs != "" {
		setup := ours // most requests match and so need no copy on the heap
		return &refusal{error: fault.New(fault.Failed, "%s", differs), setup: &setup}
	}
	return nil
}

// refusal is an error with details for the client.
type refusal struct {
	error
	challenge *wire.Stretch // how to make the proof for a retry
	setup     *wire.Setup   // the paths of this daemon
}

func (r *refusal) Unwrap() error { return r.error }

func (d *Daemon) ping(_ context.Context, c call) error { return c.reply(wire.Response{}) }

// verbOf returns a verb that calls a method of the keeper.
func verbOf(hand func(*grant.Keeper, context.Context, grant.Request, *wire.Request, func(wire.Response) error) error) (
	do func(*Daemon, context.Context, call) error,
) {
	return func(d *Daemon, ctx context.Context, c call) error {
		return hand(d.grants, ctx, d.grantRequest(c), c.req, c.reply)
	}
}

// grantRequest returns the grant.Request of a call.
func (d *Daemon) grantRequest(c call) grant.Request {
	a := grant.Request{Event: "given", By: c.peer, Delivery: audit.Reply, Person: person{c, d}}
	a.Requests = append(a.Requests, d.request(c))
	for _, profile := range c.req.Also {
		also := a.Requests[0]
		also.Profile = profile
		a.Requests = append(a.Requests, also)
	}
	return a
}

func (d *Daemon) get(ctx context.Context, c call) error {
	if c.door != nil {
		return d.lend(ctx, c)
	}
	return d.give(ctx, c, d.grantRequest(c))
}

// give answers with the session of a request.
func (d *Daemon) give(ctx context.Context, c call, a grant.Request) error {
	return d.grants.Give(ctx, a, func(answers []session.Answer) error {
		answer, role := answers[0], ""
		if c.req.Role != nil {
			role = answer.Role
		}
		resp := wire.Response{
			Credential: &wire.Credential{
				AccessKeyID:     answer.AccessKeyID,
				SecretAccessKey: answer.SecretAccessKey,
				SessionToken:    answer.SessionToken,
				Expiration:      answer.Expires,
				Profile:         answer.Profile,
				Region:          answer.Region,
				Role:            role,
				Direct:          answer.Direct,
				Account:         answer.Account,
			},
		}
		if c.door == nil { // they hold paths
			resp.Warnings = grant.Lines(answer.Warnings)
		}
		return c.reply(resp)
	})
}

func (d *Daemon) login(ctx context.Context, c call) error {
	r := d.request(c)
	r.Login = true
	answer, err := d.Broker.Credentials(ctx, r)
	d.record("login", "", c, answer, err)
	if err != nil {
		return err
	}
	return d.loggedIn(c, answer)
}

// loggedIn answers a login. It sends only the times of the session: login opens a session, get hands it out.
func (d *Daemon) loggedIn(c call, answer session.Answer) error {
	d.grants.Login(answer.Source)
	opened := wire.Session{Source: answer.Source, Role: answer.Role, Profile: answer.Profile}
	if !answer.Expires.IsZero() {
		opened.Expires = &answer.Expires
	}
	return c.reply(wire.Response{Status: &wire.Status{Sessions: []wire.Session{opened}},
		Warnings: grant.Lines(answer.Warnings)})
}

func (d *Daemon) logout(ctx context.Context, c call) error {
	left := d.grants.Logout(c.req.Profile)
	ended, err := d.Broker.Logout(ctx, c.req.Profile, d.Files, d.request(c).Files)
	err = errors.Join(err, left)
	d.record("logout", "", c, session.Answer{Source: c.req.Profile}, err)
	if err != nil {
		return err
	}
	resp := wire.Response{Count: ended.Sessions + len(ended.Lost)}
	if ended.Unseen {
		resp.Warnings = append(resp.Warnings, "the keyring is locked; it may keep logins that your files do not name")
	}
	for _, name := range ended.Lost {
		if name != c.req.Profile { // the line of a logout of all names none
			d.record("logout", "", c, session.Answer{Source: name}, nil)
		}
		resp.Warnings = append(resp.Warnings, "ended the login of "+fault.Line(name)+", which your files do not name")
	}
	return c.reply(resp)
}

// request converts a client's request to a session.Request for the files that the client names. It also checks
// lock_after, because this may be the first request after a long sleep.
func (d *Daemon) request(c call) session.Request {
	d.lockIfUnused()
	files := d.Files
	if c.req.AWSConfig != "" {
		files.Config = c.req.AWSConfig
	}
	if c.req.AWSCredentials != "" {
		files.Credentials = c.req.AWSCredentials
	}
	r := session.Request{Profile: c.req.Profile, Files: profiles.Original(d.CommandsDir, files), Code: c.req.Code,
		MinTTL: c.req.MinTTL, AdHoc: grant.AdHoc(c.req.Role), Program: c.asker, Agent: agent.Named(c.req.Agent)}
	d.askFor(c, &r)
	if c.req.CanAsk {
		r.Tell = c.talk.tell
	}
	return r
}

// askFor sets where a person can be asked for a code of a request.
func (d *Daemon) askFor(c call, r *session.Request) {
	r.Client = c.talk
	if c.req.CanAsk || c.attends != nil {
		r.Terminal = &recordedTerminal{newTerminal(c), d}
	}
	if d.Window != nil {
		r.Window = &recordedWindow{&window{c, d.Window}, d}
	}
}

// record writes the audit line of a decision. An empty reason is left out.
func (d *Daemon) record(event, reason string, c call, answer session.Answer, err error) {
	e := d.line(event, c, answer, err)
	e.Reason = reason
	_ = d.Audit.Record(e)
}

// line returns the audit line of a decision about a call.
func (d *Daemon) line(event string, c call, answer session.Answer, err error) audit.Event {
	r := session.Request{Profile: c.req.Profile, AdHoc: grant.AdHoc(c.req.Role), Agent: agent.Named(c.req.Agent)}
	asked := grant.Request{By: c.peer, Requests: []session.Request{r}}
	if c.door != nil {
		asked.Door, asked.Delivery = c.door.name, audit.Door
	}
	return asked.Line(event, 0, &answer, err)
}

// maxNamed is how many profiles the answer to Unpublish names.
const maxNamed = 20

// unpublish removes sections from the shared credentials files.
func (d *Daemon) unpublish(_ context.Context, c call) error {
	n, withdrawn, standing, err := d.grants.Withdraw(c.req.Profile)
	recorded := withdrawn
	if len(recorded) == 0 {
		recorded = []string{c.req.Profile}
	}
	for _, profile := range recorded {
		e := d.line("unpublished", c, session.Answer{}, err)
		e.Profile = profile
		_ = d.Audit.Record(e)
	}
	var warnings []string
	if len(standing) > 0 {
		warnings = []string{"publish = true in the registry has no effect until you publish again, or restart the " +
			"machine, for " + fault.Line(strings.Join(standing, ", "))}
	}
	if err != nil {
		return err
	}
	if more := len(withdrawn) - maxNamed; more > 0 { // an answer is one line of limited length
		withdrawn = append(withdrawn[:maxNamed:maxNamed], fmt.Sprintf("%d more", more))
	}
	return c.reply(wire.Response{Count: n, Lines: withdrawn, Warnings: warnings})
}
