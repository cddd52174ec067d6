package daemon

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"broker/internal/agent"
	"broker/internal/fault"
	"broker/internal/grant"
	"broker/internal/guard"
	"broker/internal/mfa"
	"broker/internal/profiles"
	"broker/internal/session"
	"broker/internal/wire"
)

// person is who can confirm the request of a call: at the client's terminal or in a window.
type person struct {
	call
	d *Daemon
}

// Confirm implements guard.Person. It tries the places of mfa_prompt in their order.
func (p person) Confirm(ctx context.Context, prompt guard.Prompt) (guard.Choice, error) {
	if p.door != nil && p.door.isQuiet() { // a person said no while this request waited for its turn
		return guard.No, guard.ErrNobody
	}
	set, err := p.d.Store.Load(p.d.Files)
	if err != nil {
		return guard.No, err
	}
	settings, err := set.Settings()
	if err != nil {
		return guard.No, err
	}
	for _, place := range settings.MFAPrompt {
		choice, err := guard.No, guard.ErrNobody
		switch {
		case place == "tty" && !prompt.Agent && (p.req.CanAsk || p.attends != nil):
			choice, err = p.atTerminal(ctx, prompt)
		case place == "gui" && p.d.Confirm != nil && !p.talk.gone():
			choice, err = p.inWindow(ctx, prompt)
		}
		if !errors.Is(err, guard.ErrNobody) {
			switch {
			case p.door == nil || choice != guard.No:
			case err == nil || errors.Is(err, guard.ErrInterrupted):
				p.door.hush(doorQuiet)
			default:
				p.door.hush(doorLull)
			}
			return choice, err
		}
	}
	return guard.No, guard.ErrNobody
}

func (p person) atTerminal(ctx context.Context, prompt guard.Prompt) (guard.Choice, error) {
	typed, err := p.ask(ctx, wire.Prompt{Lines: prompt.Lines(), Text: prompt.Text(), Choice: true})
	switch {
	case errors.Is(err, session.ErrCancelled):
		return guard.No, guard.ErrInterrupted
	case errors.Is(err, session.ErrGone):
		return guard.No, guard.ErrNobody
	case err != nil:
		return guard.No, err
	}
	return prompt.Parse(typed.Reveal()), nil
}

// inWindow asks for a yes or a no. A yes is for this once: a window belongs to no terminal.
func (p person) inWindow(ctx context.Context, prompt guard.Prompt) (guard.Choice, error) {
	shown := mfa.Confirmation{Lines: prompt.Lines()}
	if p.req.CanAsk && !prompt.Agent { // a window program may use the terminal
		shown.TTY = p.peer.Terminal()
	}
	if p.req.Desktop != "" {
		shown.Env = strings.Split(p.req.Desktop, "\n")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.talk.Watch(ctx, cancel) // close the window if nobody waits any more
	switch err := p.d.Confirm(ctx, shown); {
	case err == nil:
		return guard.Once, nil
	case errors.Is(err, mfa.ErrCancelled):
		return guard.No, nil
	case errors.Is(err, mfa.ErrNobody):
		return guard.No, guard.ErrNobody
	default:
		return guard.No, err
	}
}

// maxReason is the longest reason in bytes.
const maxReason = 200

// allow adds an allowance for the terminal or the process tree of the client, or for the whole machine.
func (d *Daemon) allow(_ context.Context, c call) error {
	a := guard.Allowance{Elevated: c.req.Elevate, Until: time.Now().Add(c.req.For), Reason: c.req.Reason}
	err := d.refuseAgent(c)
	if err == nil {
		err = checkAllow(c.req)
	}
	if err == nil && d.Broker.Locked() {
		err = grant.LockedFault()
	}
	if err == nil {
		err = d.fillAllowance(c, &a)
	}
	if err == nil && !c.req.Everywhere {
		a.Scope, err = d.guard.ScopeOf(c.peer.PID)
	}
	if err == nil {
		err = c.peer.Gone()
	}
	event := "allowed"
	if a.Elevated {
		event = "elevated"
	}
	how := a.Reason
	if err == nil {
		how = profiles.FormatDuration(c.req.For) + " " + a.Scope.String() + ": " + how
	}
	line := d.line(event, c, session.Answer{}, err)
	line.Reason = how
	if unrecorded := d.grants.Record(line); err == nil {
		err = unrecorded
	}
	if err != nil {
		return err
	}
	d.guard.Allow(a)
	return c.reply(wire.Response{Status: &wire.Status{Allowed: []wire.Allowed{
		{Profile: a.Profile, Elevated: a.Elevated, Where: a.Scope.String(), Until: a.Until, Reason: a.Reason},
	}}})
}

// refuseAgent returns an error if a coding agent asks for an allowance.
func (d *Daemon) refuseAgent(c call) error {
	who := cmp.Or(agent.Named(c.req.Agent), d.guard.AgentAbove(c.peer.PID))
	if who == "" {
		return nil
	}
	what := "allow"
	if c.req.Elevate {
		what = "elevate"
	}
	return fault.New(fault.NotConfirmed, "a coding agent cannot %s %s, and this command runs under %s; ask the person "+
		"to type the command in another terminal", what, fault.Line(c.req.Profile), who).
		WithHint("broker %s %s --for 15m --reason WHY --everywhere", what, c.req.Profile)
}

// checkAllow checks the reason and the time of a request.
func checkAllow(req *wire.Request) error {
	switch {
	case strings.TrimSpace(req.Reason) == "":
		return fault.New(fault.Usage, "the reason is empty")
	case len(req.Reason) > maxReason:
		return fault.New(fault.Usage, "the reason is longer than %d bytes", maxReason)
	case req.For <= 0 || req.For > wire.MaxAllowFor:
		return fault.New(fault.Usage, "--for must be longer than 0 and at most %s",
			profiles.FormatDuration(wire.MaxAllowFor))
	case req.Elevate && req.For < wire.MinRole:
		return fault.New(fault.Usage, "AWS gives no session for less than 15 minutes; use --for 15m or longer")
	}
	return nil
}

// fillAllowance sets the profile of an allowance with its role and account. The profile must be guarded; to be
// elevated, it must be read-only.
func (d *Daemon) fillAllowance(c call, a *guard.Allowance) error {
	set, err := d.Store.Load(d.request(c).Files)
	if err != nil {
		return err
	}
	chain, err := set.Resolve(c.req.Profile)
	if err != nil {
		return err
	}
	var last profiles.Role
	if n := len(chain.Roles); n > 0 {
		last = chain.Roles[n-1]
	}
	switch {
	case c.req.Elevate && !last.ReadOnly:
		return fault.New(fault.Usage, "%s is not read-only: it has its full role already", chain.Profile).
			WithHint("broker profiles show %s", chain.Profile)
	case !c.req.Elevate && !chain.Guard.Asks() && chain.Directories == nil:
		return fault.New(fault.Usage, "%s has no guard: nothing has to be allowed", chain.Profile).
			WithHint("broker explain %s", chain.Profile)
	}
	a.Profile, a.Role = chain.Profile, last.ARN
	_, a.Account = chain.Account()
	return nil
}

// deny removes allowances of a profile. Sessions that were handed out stay valid until they expire.
func (d *Daemon) deny(_ context.Context, c call) error {
	profile := c.req.Profile
	// A profile that is broken or gone is denied by its exact name.
	if set, err := d.Store.Load(d.request(c).Files); err == nil {
		if chain, err := set.Resolve(profile); err == nil {
			profile = chain.Profile
		}
	}
	pid := c.peer.PID
	if c.req.Everywhere {
		pid = 0
	}
	n := d.guard.Deny(profile, pid)
	if n > 0 {
		d.record("allow_ended", "", c, session.Answer{}, nil)
	}
	return c.reply(wire.Response{Count: n})
}
