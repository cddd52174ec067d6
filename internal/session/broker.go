package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// Config is what a Broker is made of. All but BootTime and Log must be set.
type Config struct {
	Profiles    *profiles.Store
	Vault       Opener
	STS         Assumer
	SessionName string // role session name where a profile has none
	// Remind tells the person that a session ends soon which only a code can renew; nil for nobody.
	Remind func(source string, end time.Time)
	// Process runs the mfa_process of a source; nil where there is none.
	Process func(ctx context.Context, command string) (secret.String, error)
	// BootTime is the time since boot, sleep included; nil means the
	// monotonic clock, which on most systems stops in sleep.
	BootTime func() time.Duration
	Log      *slog.Logger
}

// Broker answers for profiles. Everything that hands out a credential is a
// user of Credentials; there is no second path to STS.
type Broker struct {
	cfg    Config
	cache  *cache
	desk   desk
	short  sync.Map // ARNs of roles that AWS gives for one hour at most
	logout logouts
	looked sync.Map // keys of the calls for which the vault had neither session nor seed
	locked atomic.Bool
	asking atomic.Pointer[asking]
	forget chan struct{} // holds one while discard is at work
	plans  atomic.Pointer[plans]
}

// plans are those of one state of the files; they must not be changed.
type plans struct {
	set    *profiles.Set
	byName sync.Map // string → Plan
}

// New makes a Broker whose work under way ends with ctx.
func New(ctx context.Context, cfg Config) *Broker {
	if cfg.BootTime == nil {
		start := time.Now()
		cfg.BootTime = func() time.Duration { return time.Since(start) }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{cfg: cfg, forget: make(chan struct{}, 1)}
	b.asking.Store(newAsking())
	b.cache = newCache(ctx, func() instant {
		// Round(0) drops the monotonic part: the wall clock is asked on its own.
		return instant{time.Now().Round(0), cfg.BootTime()}
	}, b.renew)
	return b
}

// Request asks for the credentials of one profile.
type Request struct {
	Profile string // exact name of a profile or source, or an alias
	Files   profiles.Files
	Code    secret.String // an MFA code that the request brings; may be empty
	// Terminal and Window are where somebody can be asked for a code; nil for nowhere.
	Terminal, Window Asker
	// Tell tells whoever waits, in one line, why it takes so long; nil for nobody. It must not block.
	Tell func(line string)
	// MinTTL is how long the credentials have to last at least; 0 for any time.
	MinTTL time.Duration
	// Login opens the MFA session alone, whatever roles the profile has, and
	// asks AWS again where it failed a moment ago.
	Login bool
	// AdHoc is a role that no profile names; nil for the profile as it is.
	AdHoc *AdHoc

	background bool // nobody waits, so nobody may be asked
}

// Answer is what a profile's definition says now.
type Answer struct {
	Credentials
	Profile  string // exact name
	Source   string
	Region   string
	Role     string             // ARN of the last role, or of the federated user; empty for a source
	Direct   bool               // the role was assumed with the long-lived key itself
	Warnings []profiles.Warning // about the files, and what was served from their last good state
	// Endpoints are where calls go that is not AWS's own; set with an error too. See Plan.Endpoints.
	Endpoints string
}

// Credentials returns working credentials for a profile: of the account and
// role that its definition says now. The faults are those of profiles, Opener
// and Assumer, and Locked.
func (b *Broker) Credentials(ctx context.Context, req Request) (Answer, error) {
	if err := b.refuseLocked(); err != nil {
		return Answer{}, err
	}
	if req.AdHoc != nil && req.AdHoc.Federate {
		// AWS takes no code for it, so the person has to have given one for the session of the user.
		user := req
		user.AdHoc, user.MinTTL = nil, 0
		if _, _, _, _, err := b.credentials(ctx, user); err != nil {
			return Answer{}, withPlanHint(err, req.Profile)
		}
		req.Code = secret.String{}
	}
	creds, plan, last, warnings, err := b.credentials(ctx, req)
	// Asked again: it may have been locked while we waited.
	if err := b.refuseLocked(); err != nil {
		return Answer{}, err
	}
	if err != nil {
		if fault.Is(err, fault.LoginNeeded) && len(plan.Warnings) > 0 {
			err = fault.Of(fmt.Errorf("%w; %s", err, plan.Warnings[0]))
		}
		return Answer{Endpoints: plan.Endpoints()}, withPlanHint(err, req.Profile)
	}
	step := plan.Steps[last]
	return Answer{
		Credentials: creds,
		Profile:     plan.Profile,
		Source:      plan.Source.Name,
		Region:      plan.Region,
		Role:        step.subject(creds),
		Direct:      step.LongTerm && step.Operation == AssumeRole,
		Warnings:    warnings,
		Endpoints:   plan.Endpoints(),
	}, nil
}

// subject is whose credentials a step gave: a role's, a federated user's, or with "" the source's own.
func (s Step) subject(creds Credentials) string {
	if s.Operation == GetFederationToken {
		return creds.Subject
	}
	return s.RoleARN
}

// withPlanHint points to the plan where AWS or the way to it failed: it shows
// device, role and endpoint with the lines that they came from.
func withPlanHint(err error, profile string) error {
	f := fault.Of(err)
	if f.Hint != "" {
		return err
	}
	switch f.Kind {
	case fault.Denied, fault.CodeRejected, fault.ExpiredSession, fault.Failed, fault.BadAnswer, fault.Network, fault.Throttled:
		return f.WithHint("broker explain %s", profile)
	case fault.NotConfirmed: // an endpoint at which another uid listens
		return f.WithHint("broker profiles trust %s", profile)
	}
	return err
}

// credentials plans and fetches. A plan that AWS refuses for its length is made
// once more, of what AWS gives.
func (b *Broker) credentials(ctx context.Context, req Request) (Credentials, Plan, int, []profiles.Warning, error) {
	for second := false; ; second = true {
		plan, warnings, err := b.plan(req)
		if err != nil {
			return Credentials{}, plan, 0, warnings, err
		}
		last := len(plan.Steps) - 1
		if req.Login {
			last = 0
		}
		creds, err := b.wait(ctx, plan, last, req)
		if first := plan.Steps[0]; errors.Is(err, ErrDurationTooLong) && first.Operation == AssumeRole && !second && req.MinTTL <= hour {
			if _, known := b.short.Swap(first.RoleARN, true); !known {
				b.cfg.Log.Warn("the role allows less than its profile asks for; it is assumed for one hour from here on", "role", first.RoleARN, "asked", first.Duration)
			}
			b.plans.Store(nil) // made without knowing it
			continue
		}
		return creds, plan, last, warnings, err
	}
}

// wait gets one step for a request that stands at the desk meanwhile.
func (b *Broker) wait(ctx context.Context, plan Plan, last int, req Request) (Credentials, error) {
	first := plan.Steps[0]
	dev := device{plan.Source.AccessKeyID, first.MFASerial}
	if first.NeedsPerson() || !req.Code.IsZero() || first.MFASerial != "" && req.Tell != nil {
		g := &guest{terminal: req.Terminal, window: req.Window, code: req.Code, first: req.Login && req.Terminal != nil, source: plan.Source.Name, tell: req.Tell}
		defer b.desk.wait(dev, g)()
	}
	creds, err := b.step(ctx, plan, last, req)
	// A session that was asked for so long is a little shorter when it is here.
	tooShort := func() bool { return err == nil && time.Until(creds.Expires) < req.MinTTL-time.Minute }
	if req.MinTTL > 0 && tooShort() {
		// The one at hand ends too soon; a new one may not.
		b.discard(ctx, plan, last, creds)
		creds, err = b.step(ctx, plan, last, req)
		if tooShort() {
			err = fault.New(fault.Failed, "%s: AWS gives %v, less than the %v that are wanted", plan.stepName(last), time.Until(creds.Expires).Round(time.Second), req.MinTTL)
		}
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && b.desk.open(dev) {
		err = needCode(plan, first, "nobody gave a code of the MFA device %s in time", first.MFASerial)
	}
	return creds, err
}

// needCode says that a person has to give a code, and how.
func needCode(plan Plan, first Step, format string, args ...any) error {
	return fault.New(fault.LoginNeeded, format, args...).WithHint("broker login %s --code 123456", plan.Source.Name)
}

// plan is Plan for a request.
func (b *Broker) plan(req Request) (Plan, []profiles.Warning, error) {
	set, err := b.cfg.Profiles.Load(req.Files)
	if err != nil {
		return Plan{}, nil, err
	}
	// A warm request would spend most of its time on planning the same again.
	p := b.plans.Load()
	if p == nil || p.set != set {
		p = &plans{set: set}
		b.plans.Store(p)
	}
	plain := req.MinTTL == 0 && req.AdHoc == nil
	if plan, ok := p.byName.Load(req.Profile); ok && plain {
		return plan.(Plan), append(set.Warnings(), plan.(Plan).Warnings...), nil
	}
	plan, err := PlanFor(set, req.Profile, Wish{SessionName: b.cfg.SessionName, MinTTL: req.MinTTL, Short: b.isShort, AdHoc: req.AdHoc})
	if err == nil && plain {
		p.byName.Store(req.Profile, plan)
	}
	return plan, append(set.Warnings(), plan.Warnings...), err
}

// isShort reports whether AWS refused to give this role more than an hour.
func (b *Broker) isShort(roleARN string) bool {
	_, short := b.short.Load(roleARN)
	return short
}

// Wish is what a plan is made for, beyond the profile.
type Wish struct {
	SessionName string        // role session name where the profile has none
	MinTTL      time.Duration // how long the credentials have to last at least; 0 for any time
	// Short says of which roles AWS is known to give one hour at most; nil for none.
	Short func(roleARN string) bool
	// AdHoc is a role that no profile names; nil for the profile as it is.
	AdHoc *AdHoc
}

// PlanFor resolves a name in a set and plans its chain. Where no plan can last as
// long as is wished, the error says why.
func PlanFor(set *profiles.Set, name string, wish Wish) (Plan, error) {
	settings, err := set.Settings()
	if err != nil {
		return Plan{}, err
	}
	chain, err := set.Resolve(name)
	if err != nil {
		return Plan{}, err
	}
	if chain, err = wish.AdHoc.extend(chain); err != nil {
		return Plan{}, err
	}
	return NewPlan(chain, Defaults{
		SessionDuration: settings.SessionDuration,
		STSEndpoint:     settings.STSEndpoint,
		MFAPrompt:       settings.MFAPrompt,
		Wish:            wish,
	})
}

// step returns the session of one step, which it gets from the cache or from the step before.
func (b *Broker) step(ctx context.Context, plan Plan, i int, req Request) (Credentials, error) {
	return b.cache.get(ctx, plan, i, req.Login || !req.Code.IsZero(), func(ctx context.Context, spare bool) (Credentials, error) {
		// In the background nobody waits for the steps before either.
		return b.fetch(ctx, plan, i, req, req.background || spare && !req.Login)
	})
}

// fetch makes the call of one step; quietly, it asks no person for it.
func (b *Broker) fetch(ctx context.Context, plan Plan, i int, req Request, quiet bool) (Credentials, error) {
	// Asked in the fetch itself: a lock that came after the request drops the
	// slots, and nothing may fill them again.
	if err := b.refuseLocked(); err != nil {
		return Credentials{}, err
	}
	step := plan.Steps[i]
	if step.LongTerm {
		before := b.logout.of(plan.Source.Name)
		creds, err := b.open(ctx, plan, i, quiet)
		b.logStep(plan, i, creds, err)
		if step.keeps() && b.logout.of(plan.Source.Name) != before {
			// The vault may have kept it after Logout had cleared the keyring.
			b.drop(ctx, plan.Source.Name)
		}
		return creds, err
	}
	for attempt := 1; ; attempt++ {
		parent, err := b.step(ctx, plan, i-1, req)
		if err != nil {
			return Credentials{}, err
		}
		creds, err := b.cfg.STS.Assume(ctx, parent, step.Call)
		b.logStep(plan, i, creds, err)
		if err == nil || !fault.Is(err, fault.ExpiredSession) || attempt == 2 {
			return creds, err
		}
		// Revoked, or ended early: a new one, and one more try.
		b.discard(ctx, plan, i-1, parent)
	}
}

// discard forgets a session that is of no use any more, in the vault too: first
// there, else whoever asks next would be given it again. One does it for all who were refused with it.
func (b *Broker) discard(ctx context.Context, plan Plan, i int, refused Credentials) {
	if plan.Steps[i].keeps() {
		select {
		case b.forget <- struct{}{}:
			defer func() { <-b.forget }()
		case <-ctx.Done():
			return
		}
		if now, ok := b.cache.current(plan.Key(i)); ok && now.AccessKeyID == refused.AccessKeyID {
			b.drop(ctx, plan.Source.Name)
		}
	}
	b.cache.discard(plan.Key(i), refused)
}

// dropTimeout bounds how long the keyring is waited for to forget a session.
const dropTimeout = 5 * time.Second

// drop is Drop where nobody can be told of a failure.
func (b *Broker) drop(ctx context.Context, source string) {
	// The one who asked may be gone; the session is to go all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
	defer cancel()
	if err := b.cfg.Vault.Drop(ctx, source); err != nil {
		b.cfg.Log.Warn("the session that was kept could not be deleted", "source", source, "err", err)
	}
}

// keeps reports whether the vault keeps the session of this step.
func (s Step) keeps() bool {
	return s.LongTerm && s.Operation == GetSessionToken && s.MFASerial != ""
}

// codeTries is how often a person is asked for a code before we give up.
const codeTries = 3

// open makes a call with the long-lived key. Without a code the vault has a kept
// session or a seed, or else somebody gives a code: one that a request brought, the
// source's program, a person. A rejected code is asked for again, with the reason.
func (b *Broker) open(ctx context.Context, plan Plan, i int, quiet bool) (creds Credentials, err error) {
	step := plan.Steps[i]
	dev := device{plan.Source.AccessKeyID, step.MFASerial}
	creds, err = b.openUnasked(ctx, plan, i, dev)
	if !fault.Is(err, fault.LoginNeeded) || quiet && !b.desk.brought(dev) {
		return creds, err
	}
	question := Question{Device: step.MFASerial, Source: plan.Source.Name, Endpoint: step.Endpoint.URL}
	for _, w := range plan.Warnings { // such as an mfa_process that is not run
		b.Tell(plan.Source.Name, w.String())
	}
	for try := 1; ; try++ {
		code, askErr := b.ask(ctx, dev, question, b.order(plan))
		if err := b.refuseLocked(); err != nil {
			return Credentials{}, err // a code that was given is not spent
		}
		switch {
		case errors.Is(askErr, ErrGone):
			return Credentials{}, err
		case errors.Is(askErr, ErrCancelled):
			return Credentials{}, needCode(plan, step, "%s: no code of the MFA device %s was given: %w", plan.Source.Name, step.MFASerial, ErrCancelled)
		case ctx.Err() != nil:
			return Credentials{}, needCode(plan, step, "nobody gave a code of the MFA device %s in time", step.MFASerial)
		case askErr != nil:
			return Credentials{}, askErr
		}
		creds, err = b.cfg.Vault.Open(ctx, plan.Source, step.Call, code)
		if !fault.Is(err, fault.CodeRejected) || errors.Is(err, ErrWrongDevice) || try == codeTries {
			return creds, err
		}
		question.Reason = err.Error()
	}
}

// openUnasked opens what needs nobody: without a device, with a seed, or with a
// session that the vault kept. That last is looked for once, since later ones were all made here,
// and not while we hold it ourselves; nor where somebody brought a code, who wants a new one.
func (b *Broker) openUnasked(ctx context.Context, plan Plan, i int, dev device) (Credentials, error) {
	step := plan.Steps[i]
	if step.NeedsPerson() {
		_, looked := b.looked.Load(plan.Key(i))
		_, held := b.cache.current(plan.Key(i))
		if looked || held || b.desk.brought(dev) {
			return Credentials{}, needCode(plan, step, "%s wants a code of the MFA device %s", plan.Source.Name, step.MFASerial)
		}
	}
	creds, err := b.cfg.Vault.Open(ctx, plan.Source, step.Call, secret.String{})
	if step.NeedsPerson() && fault.Is(err, fault.LoginNeeded) {
		b.looked.Store(plan.Key(i), true)
	}
	return creds, err
}

// order is where a code of a plan's device may be had: of its program, then of
// persons as the settings say.
func (b *Broker) order(plan Plan) []place {
	var order []place
	if plan.MFAProcess != "" && b.cfg.Process != nil {
		order = append(order, place{program: &program{run: b.cfg.Process, command: plan.MFAProcess}})
	}
	for _, where := range plan.MFAPrompt {
		switch where {
		case "tty":
			order = append(order, place{of: (*guest).atTerminal})
		case "gui":
			order = append(order, place{of: (*guest).atWindow})
		}
	}
	return order
}

// program is a source's mfa_process as somebody who can be asked.
type program struct {
	run     func(ctx context.Context, command string) (secret.String, error)
	command string
}

// Ask runs the program. After a code that was rejected the next one comes with
// the next step of 30 seconds, so that is waited for.
func (p *program) Ask(ctx context.Context, q Question) (secret.String, error) {
	if q.Reason != "" {
		now := time.Now()
		select {
		case <-time.After(now.Truncate(codeStep).Add(codeStep).Sub(now)):
		case <-ctx.Done():
			return secret.String{}, ctx.Err()
		}
	}
	return p.run(ctx, p.command)
}

// codeStep is how long a device shows a code (RFC 6238).
const codeStep = 30 * time.Second

func (b *Broker) logStep(plan Plan, i int, creds Credentials, err error) {
	if err != nil {
		b.cfg.Log.Warn("step failed", "step", plan.stepName(i), "source", plan.Source.Name, "err", err)
		return
	}
	b.cfg.Log.Info("step done", "step", plan.stepName(i), "source", plan.Source.Name, "key", secret.Tail(creds.AccessKeyID), "expires", creds.Expires)
}

// stepName names a step in messages: what is asked for, not for whom.
func (p Plan) stepName(i int) string {
	if arn := p.Steps[i].RoleARN; arn != "" {
		return "assume " + arn
	}
	if p.Steps[i].Operation == GetFederationToken {
		return "federate " + p.Source.Name
	}
	return "open the session of " + p.Source.Name
}

// remindBefore is how long before its end a person is told of a session that
// only a code can renew.
const remindBefore = 10 * time.Minute

// renew fetches a session anew before its end, so that nobody waits for it. It
// never asks a person: where one is needed he is reminded, once, if the session is still in use.
func (b *Broker) renew(plan Plan, i int) {
	if b.locked.Load() || plan.Steps[i].Operation == GetFederationToken { // a console was opened with it: nobody asks again
		return
	}
	if step := plan.Steps[i]; step.LongTerm && step.NeedsPerson() && plan.MFAProcess == "" {
		if end, ok := b.cache.end(plan.Key(i)); ok && b.cfg.Remind != nil {
			time.AfterFunc(time.Until(end)-remindBefore, func() {
				if now, ok := b.cache.end(plan.Key(i)); ok && now.Equal(end) && !b.locked.Load() {
					b.cfg.Remind(plan.Source.Name, end)
				}
			})
		}
		return
	}
	b.cache.background(plan, i, func(ctx context.Context, _ bool) (Credentials, error) {
		return b.fetch(ctx, plan, i, Request{background: true}, true)
	})
}

// asking is the time from an Unlock to the next Lock, in which persons may be asked for codes.
type asking struct {
	ctx context.Context
	end context.CancelFunc
}

func newAsking() *asking {
	ctx, end := context.WithCancel(context.Background())
	return &asking{ctx, end}
}

// ask gets a code of the desk, unless it is locked before there is one. What goes on without a person goes on:
// a call that AWS has taken ends best by itself, and nobody is given what it brings.
func (b *Broker) ask(ctx context.Context, dev device, question Question, order []place) (secret.String, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.asking.Load().ctx, cancel)()
	return b.desk.code(ctx, dev, question, order)
}

// Lock drops every session, ends every question and refuses everything until Unlock. What the vault
// keeps stays in the keyring, and is looked for after Unlock.
func (b *Broker) Lock() {
	b.locked.Store(true)
	b.asking.Load().end()
	b.cache.drop(func(*slot) bool { return true })
	b.looked.Clear()
}

// Unlock ends Lock. The two must not be called at the same time.
func (b *Broker) Unlock() {
	if !b.locked.Load() {
		return // the next Lock has to end the questions that are open now
	}
	b.asking.Store(newAsking())
	b.locked.Store(false)
}

// Locked reports whether it is locked.
func (b *Broker) Locked() bool { return b.locked.Load() }

func (b *Broker) refuseLocked() error {
	if b.locked.Load() {
		return fault.New(fault.Locked, "the broker is locked").WithHint("broker unlock")
	}
	return nil
}

// Logout forgets the sessions of a source, or of all sources of the registry
// where source is empty, and returns how many were held here. Those that the vault
// keeps go too; the error says where that failed, and then nothing is held here either.
func (b *Broker) Logout(ctx context.Context, source string, files profiles.Files) (int, error) {
	// At both ends, so that a fetch that overlaps with it in any way notices.
	b.logout.count(source)
	kept := map[string]bool{}
	match := func(s *slot) bool {
		if source != "" && s.plan.Source.Name != source {
			return false
		}
		kept[s.plan.Source.Name] = true
		return true
	}
	n := b.cache.drop(match)
	var failed error
	if source != "" {
		kept[source] = true
	} else if set, err := b.cfg.Profiles.Load(files); err != nil {
		failed = err
	} else {
		for _, s := range set.Sources() {
			kept[s.Name] = true
		}
	}
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	errs := make(chan error)
	for name := range kept {
		go func() { errs <- b.cfg.Vault.Drop(ctx, name) }()
	}
	for range len(kept) {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	b.logout.count(source)
	b.cache.drop(match) // what was found in the vault meanwhile
	return n, failed
}

// logouts counts the beginnings and ends of Logout, for each source and, under the empty name, of all at once.
type logouts struct{ counts sync.Map }

func (l *logouts) count(source string) {
	n, _ := l.counts.LoadOrStore(source, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
}

// of is another number after each logout that concerned a source.
func (l *logouts) of(source string) int64 {
	var sum int64
	for _, name := range []string{source, ""} {
		if n, ok := l.counts.Load(name); ok {
			sum += n.(*atomic.Int64).Load()
		}
	}
	return sum
}

// Tell tells all who wait for a source why it takes so long, in one line.
func (b *Broker) Tell(source, line string) {
	for _, tell := range b.desk.listeners(source) {
		tell(line)
	}
}

// Waiting describes a device of which somebody is being asked for a code.
type Waiting struct {
	Source   string
	Device   string // MFA serial
	Requests int    // that wait for the code
}

// Waiting lists the questions that are open.
func (b *Broker) Waiting() []Waiting { return b.desk.waiting() }

// Held describes one session that the broker holds, or failed to get.
type Held struct {
	Key         Key
	Source      string
	Role        string // ARN; empty for the MFA session of the source itself
	Profile     string // the profile that asked for it first
	AccessKeyID string
	Expires     time.Time // zero if there is no session
	Renews      time.Time
	LastUse     time.Time
	Endpoint    string // where it came from, if that is not AWS's own of the region
	Err         error  // the last failure, if nothing succeeded since
}

// Held lists what the broker holds, sorted by source and role.
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
			Role:     s.plan.Steps[s.step].RoleARN,
			Profile:  s.plan.Steps[s.step].Profile,
			LastUse:  s.lastUse.wall,
			Err:      s.err,
			Endpoint: s.plan.Steps[s.step].Endpoint.URL,
		}
		if s.entry != nil && now.before(s.entry.end) {
			h.Role = s.plan.Steps[s.step].subject(s.entry.creds)
			h.AccessKeyID, h.Expires, h.Renews = s.entry.creds.AccessKeyID, s.entry.creds.Expires, s.entry.refresh.wall
		} else if s.err == nil {
			continue
		}
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b Held) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), strings.Compare(a.Role, b.Role), strings.Compare(a.Profile, b.Profile))
	})
	return list
}
