package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"broker/internal/fault"
	"broker/internal/partition"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// Credentials returns working credentials for a profile, for the account and role of its current definition. The
// errors are the faults of package profiles, Opener and Assumer, and fault.Locked.
func (b *Broker) Credentials(ctx context.Context, req Request) (Answer, error) {
	if err := b.refuseLocked(); err != nil {
		return Answer{}, err
	}
	if req.AdHoc != nil && req.AdHoc.Federate {
		// GetFederationToken takes no code, so a person must have given one for the MFA session first.
		user := req
		user.AdHoc, user.MinTTL = nil, 0
		if _, err := b.serve(ctx, &user); err != nil {
			return Answer{}, withPlanHint(err, req.Profile)
		}
		req.Code = secret.String{}
	}
	got, err := b.serve(ctx, &req)
	// A lock may have come while we waited.
	if err := b.refuseLocked(); err != nil {
		return Answer{}, err
	}
	if err != nil {
		if fault.Is(err, fault.LoginNeeded) && got.plan.Steps[0].Operation == AssumeRole &&
			(req.AdHoc != nil || req.MinTTL > 0) {
			// broker login cannot ask for this exact session.
			err = fault.Of(err).WithHint("broker mfa set %s", got.plan.Source.Name)
		}
		if fault.Is(err, fault.LoginNeeded) && !errors.Is(err, ErrCancelled) && got.plan != nil &&
			slices.Contains(got.plan.Notes, longNeedsKey) {
			err = fault.Of(fmt.Errorf("%w; %s", err, longNeedsKey))
		}
		if fault.Is(err, fault.LoginNeeded) && len(got.plan.Warnings) > 0 {
			err = fault.Of(fmt.Errorf("%w; %s", err, got.plan.Warnings[0]))
		}
		failed := Answer{Endpoints: got.plan.Endpoints(), Agent: req.Agent}
		if got.plan != nil && len(got.plan.Steps) > got.last {
			failed.Role = got.plan.Steps[got.last].subject(Credentials{})
			failed.Account = got.plan.account(got.last)
		}
		return failed, withPlanHint(err, req.Profile)
	}
	step := &got.plan.Steps[got.last]
	if req.Login && got.plan.Source.Kind.ByPage() { // nobody gets the access token
		got.creds = Credentials{Cached: got.creds.Cached, Expires: got.creds.LoginEnds}
	}
	return Answer{
		Credentials: got.creds,
		Profile:     got.plan.Profile,
		Source:      got.plan.Source.Name,
		Region:      got.plan.Region,
		Role:        step.subject(got.creds),
		Guard:       got.plan.Guard,
		Agent:       req.Agent,
		Directories: got.plan.Directories,
		Direct:      step.LongTerm && step.Operation == AssumeRole,
		ReadOnly:    step.ReadOnly(),
		Account:     got.plan.account(got.last),
		Warnings:    got.warnings,
		Endpoints:   got.plan.Endpoints(),
	}, nil
}

// subject returns whose credentials a step gave: the ARN of a role or of a federated user, the account and name of a
// permission set, or "" for the source itself.
func (s Step) subject(creds Credentials) string {
	switch s.Operation {
	case GetFederationToken:
		return creds.Subject
	case GetRoleCredentials:
		return s.AccountID + "/" + s.RoleName
	}
	return s.RoleARN
}

// account returns the account of a step's session if the plan contains it, or "".
func (p *Plan) account(i int) string {
	arn := cmp.Or(p.Steps[i].RoleARN, p.Source.ARN, p.Source.MFASerial)
	return cmp.Or(p.Steps[i].AccountID, partition.AccountOfARN(arn))
}

// withPlanHint adds a hint to a failure of AWS or of the network that has none. `broker explain` shows the device,
// role and endpoint, with the lines in which they are set.
func withPlanHint(err error, profile string) error {
	f := fault.Of(err)
	if f.Hint != "" {
		return err
	}
	if f.Kind == fault.CodeRejected && !errors.Is(err, ErrWrongDevice) {
		return f.WithHint("broker login %s", profile) // to try again
	}
	switch f.Kind {
	case fault.Denied, fault.CodeRejected, fault.ExpiredSession, fault.Failed, fault.BadAnswer, fault.Network,
		fault.Throttled:
		return f.WithHint("broker explain %s", profile)
	case fault.NotConfirmed: // the endpoint's listener runs under another uid
		return f.WithHint("broker profiles trust %s", profile)
	}
	return err
}

// served is the result of a request.
type served struct {
	creds    Credentials
	plan     *Plan
	last     int                // the step whose credentials they are
	warnings []profiles.Warning // about the files and the plan
}

// serve makes a plan and fetches its credentials. If AWS refuses the plan's duration, serve makes a new plan with
// a duration that AWS accepts. If AWS refuses optional tags, the new plan has none.
func (b *Broker) serve(ctx context.Context, req *Request) (served, error) {
	second := false
	for try := 0; ; try++ {
		plan, warnings, err := b.plan(req)
		if req.Login && try == 0 && err == nil && b.tagAgain(plan.Source.Name) {
			plan, warnings, err = b.plan(req)
		}
		got := served{plan: plan, warnings: warnings}
		if err != nil {
			return got, err
		}
		if !req.Login {
			got.last = len(plan.Steps) - 1
		}
		if err := plan.refuse(got.last, req); err != nil {
			return got, err
		}
		got.creds, err = b.wait(ctx, plan, got.last, req)
		if err == nil && !req.Login {
			err = req.Limit.kept(plan, got.last, got.creds)
		}
		if ended := b.cache.loggedOut(plan.Key(0)); req.Login && err == nil && ended != nil {
			err = ended // the token still works, but the person wants to log in
		}
		first := &plan.Steps[0]
		if errors.Is(err, ErrDurationTooLong) && first.RoleARN != "" && !second && req.MinTTL <= hour {
			b.shorten(first)
			second = true
			continue
		}
		if errors.Is(err, ErrTagsRefused) && try <= len(plan.Steps) && b.sendsRefused(plan) {
			b.forgetRefusals(plan.Source.Name)
			continue
		}
		if err != nil && ctx.Err() == nil && try <= len(plan.Steps) && b.outdated(plan, req) {
			continue // the key was replaced meanwhile
		}
		return got, err
	}
}

// wait gets one step for a request. Meanwhile the request can be prompted for a code.
func (b *Broker) wait(ctx context.Context, plan *Plan, last int, req *Request) (Credentials, error) {
	first := &plan.Steps[0]
	dev := device{plan.Source.AccessKeyID, first.MFASerial, first.Endpoint.URL}
	told := req.Tell != nil && (first.MFASerial != "" || plan.Source.Kind.ByPage())
	if first.NeedsPerson() || !req.Code.IsZero() || told {
		g := &waiter{terminal: req.Terminal, window: req.Window, code: req.Code,
			first: req.Login, source: plan.Source.Name, tell: req.Tell, client: req.Client}
		var leave func()
		ctx, leave = b.prompts.wait(ctx, dev, g)
		defer leave()
	}
	creds, err := b.step(ctx, plan, last, req)
	// Allow for the time that the call took: the session has lost a little of its lifetime when it arrives.
	tooShort := func() bool { return err == nil && time.Until(creds.Expires) < req.MinTTL-time.Minute }
	if req.MinTTL > 0 && tooShort() {
		// The cached session ends too soon; a new one may last long enough.
		putBack := b.setAside(ctx, plan, last, creds)
		if creds, err = b.step(ctx, plan, last, req); err != nil {
			putBack()
		}
		if tooShort() {
			err = fault.New(fault.Failed, "%s: AWS gives %v, less than the %v that you asked for",
				plan.stepName(last), time.Until(creds.Expires).Round(time.Second), req.MinTTL)
		}
	}
	switch {
	case err == nil:
	case errors.Is(context.Cause(ctx), ErrCancelled):
		err = noCode(plan, first)
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && b.prompts.open(dev):
		err = needCode(plan, "nobody gave a code of the MFA device %s in time", first.MFASerial)
	}
	return creds, err
}

// step returns the session of one step, from the cache or by a call with the session of the step before.
func (b *Broker) step(ctx context.Context, plan *Plan, i int, req *Request) (Credentials, error) {
	fetch := func(ctx context.Context, spare bool) (Credentials, error) {
		// In the background, nobody waits for the earlier steps either.
		return b.fetch(ctx, plan, i, req, req.Quiet || spare && !req.Login)
	}
	return b.cache.get(ctx, plan, i, req.Login || !req.Code.IsZero(), fetch)
}

// fetch makes the call of one step. If quiet, it asks no person for a code.
func (b *Broker) fetch(ctx context.Context, plan *Plan, i int, req *Request, quiet bool) (Credentials, error) {
	// Check in the fetch itself: a lock after the request drops the slots, and nothing may fill them again.
	if err := b.refuseLocked(); err != nil {
		return Credentials{}, err
	}
	step := plan.Steps[i]
	if step.LongTerm {
		before := b.logout.of(plan.Source.Name)
		creds, err := b.kindOf(plan.Source).open(ctx, plan, i, quiet)
		b.logStep(plan, i, creds, err)
		b.noteRefusal(plan, i, err)
		if step.keeps() && b.logout.of(plan.Source.Name) != before {
			// The vault may have kept the session after Logout cleared the keyring.
			b.drop(ctx, plan.Source.Name, "")
		}
		return creds, err
	}
	for attempt := 1; ; attempt++ {
		parent, err := b.step(ctx, plan, i-1, req)
		if err != nil {
			return Credentials{}, err
		}
		creds, err := b.cfg.STS.Assume(ctx, parent, step.at(b.cache.now().wall))
		b.logStep(plan, i, creds, err)
		b.noteRefusal(plan, i, err)
		if err == nil || !fault.Is(err, fault.ExpiredSession) || attempt == 2 {
			return creds, err
		}
		// The parent session was revoked or ended early: get a new one and retry once.
		b.discard(ctx, plan, i-1, parent)
	}
}

// discard removes a session that AWS refused. It first removes the session that the vault kept, because the next
// request would get that one again. One caller does this for all callers that were refused.
func (b *Broker) discard(ctx context.Context, plan *Plan, i int, refused Credentials) {
	if plan.Steps[i].keeps() {
		select {
		case b.forget <- struct{}{}:
			defer func() { <-b.forget }()
		case <-ctx.Done():
			return
		}
		if now, ok := b.cache.current(plan.Key(i)); ok && now.AccessKeyID == refused.AccessKeyID {
			b.drop(ctx, plan.Source.Name, refused.AccessKeyID)
		}
	}
	b.cache.discard(plan.Key(i), refused)
}

// setAside takes a session that ends too soon for one request out of the cache, so that the next step opens a new one.
// If nobody gives a code for that, putBack puts it back, because other requests can use it until its end. The vault
// replaces the session that it kept when it has the new one.
func (b *Broker) setAside(ctx context.Context, plan *Plan, i int, old Credentials) (putBack func()) {
	if step := plan.Steps[i]; !step.keeps() || !step.NeedsPerson() {
		b.discard(ctx, plan, i, old)
		return func() {}
	}
	b.looked.Store(plan.Key(i), plan.settings)
	return b.cache.setAside(plan.Key(i), old)
}

// dropTimeout limits the wait for the keyring to remove a session.
const dropTimeout = 5 * time.Second

// drop calls Drop for callers that cannot get an error; a failure is logged.
func (b *Broker) drop(ctx context.Context, source, refused string) {
	// The session must be removed even if the caller is gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
	defer cancel()
	if err := b.cfg.Vault.Drop(ctx, source, refused); err != nil {
		b.cfg.Log.Warn("cannot delete the kept session", "source", source, "err", err)
	}
}

// keeps reports whether the vault keeps the session of this step.
func (s Step) keeps() bool {
	switch s.Operation {
	case GetSessionToken:
		return s.LongTerm && s.MFASerial != ""
	case CreateToken, CreateOAuth2Token:
		return true
	}
	return false
}

func (b *Broker) logStep(plan *Plan, i int, creds Credentials, err error) {
	if err != nil {
		b.cfg.Log.Warn("step failed", "step", plan.stepName(i), "source", plan.Source.Name, "err", err)
		return
	}
	b.cfg.Log.Info("step done", "step", plan.stepName(i), "source", plan.Source.Name,
		"key", secret.Tail(creds.AccessKeyID), "expires", creds.Expires)
}

// stepName names a step in messages: the role or source, not the profile that asked.
func (p *Plan) stepName(i int) string {
	if arn := p.Steps[i].RoleARN; arn != "" {
		return "assume " + arn
	}
	switch step := &p.Steps[i]; step.Operation {
	case GetFederationToken:
		return "federate " + p.Source.Name
	case GetRoleCredentials:
		return fmt.Sprintf("get the permission set %s of account %s", step.RoleName, step.AccountID)
	case RunProgram:
		return "run the credential_process of " + p.Source.Name
	}
	return "open the session of " + p.Source.Name
}
