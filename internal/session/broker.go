package session

import (
	"cmp"
	"context"
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
	locked atomic.Bool
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
	b := &Broker{cfg: cfg}
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
	Code    secret.String // an MFA code from a person; may be empty
	// Login opens the MFA session alone, whatever roles the profile has, and
	// asks AWS again where it failed a moment ago.
	Login bool
}

// Answer is what a profile's definition says now.
type Answer struct {
	Credentials
	Profile  string // exact name
	Source   string
	Region   string
	Role     string             // ARN of the last role; empty for a source
	Warnings []profiles.Warning // about the files, and what was served from their last good state
}

// Credentials returns working credentials for a profile: of the account and
// role that its definition says now. The faults are those of profiles, Opener
// and Assumer, and Locked.
func (b *Broker) Credentials(ctx context.Context, req Request) (Answer, error) {
	if err := b.refuseLocked(); err != nil {
		return Answer{}, err
	}
	plan, warnings, err := b.Plan(req.Profile, req.Files)
	if err != nil {
		return Answer{}, err
	}
	last := len(plan.Steps) - 1
	if req.Login {
		last = 0
	}
	creds, err := b.step(ctx, plan, last, req)
	// Asked again: it may have been locked while we waited.
	if err := b.refuseLocked(); err != nil {
		return Answer{}, err
	}
	if err != nil {
		return Answer{}, err
	}
	return Answer{
		Credentials: creds,
		Profile:     plan.Profile,
		Source:      plan.Source.Name,
		Region:      plan.Region,
		Role:        plan.Steps[last].RoleARN,
		Warnings:    warnings,
	}, nil
}

// Plan returns what would be done for a profile, without doing any of it, and
// what is wrong with the files that it was read from.
func (b *Broker) Plan(name string, files profiles.Files) (Plan, []profiles.Warning, error) {
	set, err := b.cfg.Profiles.Load(files)
	if err != nil {
		return Plan{}, nil, err
	}
	// A warm request would spend most of its time on planning the same again.
	p := b.plans.Load()
	if p == nil || p.set != set {
		p = &plans{set: set}
		b.plans.Store(p)
	}
	if plan, ok := p.byName.Load(name); ok {
		return plan.(Plan), set.Warnings(), nil
	}
	plan, err := PlanFor(set, name, b.cfg.SessionName)
	if err == nil {
		p.byName.Store(name, plan)
	}
	return plan, set.Warnings(), err
}

// PlanFor resolves a name in a set and plans its chain.
func PlanFor(set *profiles.Set, name, sessionName string) (Plan, error) {
	settings, err := set.Settings()
	if err != nil {
		return Plan{}, err
	}
	chain, err := set.Resolve(name)
	if err != nil {
		return Plan{}, err
	}
	return NewPlan(chain, Defaults{
		SessionDuration: settings.SessionDuration,
		SessionName:     sessionName,
		STSEndpoint:     settings.STSEndpoint,
	}), nil
}

// step returns the session of one step, which it gets from the cache or from the step before.
func (b *Broker) step(ctx context.Context, plan Plan, i int, req Request) (Credentials, error) {
	return b.cache.get(ctx, plan, i, req.Login || !req.Code.IsZero(), func(ctx context.Context) (Credentials, error) {
		return b.fetch(ctx, plan, i, req)
	})
}

// fetch makes the call of one step.
func (b *Broker) fetch(ctx context.Context, plan Plan, i int, req Request) (Credentials, error) {
	// Asked in the fetch itself: a lock that came after the request drops the
	// slots, and nothing may fill them again.
	if err := b.refuseLocked(); err != nil {
		return Credentials{}, err
	}
	step := plan.Steps[i]
	if step.LongTerm {
		if step.NeedsPerson() && req.Code.IsZero() {
			return Credentials{}, fault.New(fault.LoginNeeded, "%s wants a code of the MFA device %s", plan.Source.Name, step.MFASerial).
				WithHint("broker login %s --code 123456", plan.Source.Name)
		}
		creds, err := b.cfg.Vault.Open(ctx, plan.Source, step.Call, req.Code)
		b.logStep(plan, i, creds, err)
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
		b.cache.discard(plan.Key(i-1), parent)
	}
}

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
	return "open the session of " + p.Source.Name
}

// renew fetches a session anew before its end, so that nobody waits for it.
// It never asks a person: a step that needs one fails at once, and is tried
// again when somebody asks for it.
func (b *Broker) renew(plan Plan, i int) {
	if b.locked.Load() {
		return
	}
	b.cache.background(plan, i, func(ctx context.Context) (Credentials, error) {
		return b.fetch(ctx, plan, i, Request{})
	})
}

// Lock drops every session and refuses everything until Unlock.
func (b *Broker) Lock() {
	b.locked.Store(true)
	b.cache.drop(func(*slot) bool { return true })
}

// Unlock ends Lock.
func (b *Broker) Unlock() { b.locked.Store(false) }

// Locked reports whether it is locked.
func (b *Broker) Locked() bool { return b.locked.Load() }

func (b *Broker) refuseLocked() error {
	if b.locked.Load() {
		return fault.New(fault.Locked, "the broker is locked").WithHint("broker unlock")
	}
	return nil
}

// Logout forgets the sessions of a source, or of all where source is empty,
// and returns how many there were.
func (b *Broker) Logout(source string) int {
	return b.cache.drop(func(s *slot) bool { return source == "" || s.plan.Source.Name == source })
}

// Held describes one session that the broker holds, or failed to get.
type Held struct {
	Source      string
	Role        string // ARN; empty for the MFA session of the source itself
	Profile     string // the profile that asked for it first
	AccessKeyID string
	Expires     time.Time // zero if there is no session
	Renews      time.Time
	LastUse     time.Time
	Err         error // the last failure, if nothing succeeded since
}

// Held lists what the broker holds, sorted by source and role.
func (b *Broker) Held() []Held {
	c := b.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	var list []Held
	for _, s := range c.slots {
		h := Held{
			Source:  s.plan.Source.Name,
			Role:    s.plan.Steps[s.step].RoleARN,
			Profile: s.plan.Steps[s.step].Profile,
			LastUse: s.lastUse.wall,
			Err:     s.err,
		}
		if s.entry != nil && now.before(s.entry.end) {
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
