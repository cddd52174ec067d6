package session

import (
	"sync"
	"time"

	"broker/internal/profiles"
)

// plans caches the plans of one state of the files. The plans must not be changed.
type plans struct {
	set    *profiles.Set
	byName sync.Map // planKey → *Plan
}

// planKey is what a plan depends on besides the files, for requests that ask for nothing more.
type planKey struct {
	profile string
	limit   Limit
}

// plan returns the Plan of a request. With an error, the Plan is empty but not nil. If the profile has agents, it
// sets the Agent of the request.
func (b *Broker) plan(req *Request) (*Plan, []profiles.Warning, error) {
	asked := req
	set, err := b.cfg.Profiles.Load(req.Files)
	if err != nil {
		return new(Plan), nil, err
	}
	// Cache the plans: otherwise planning would take most of the time of a request whose session is cached.
	p := b.plans.Load()
	if p == nil || p.set != set {
		p = &plans{set: set}
		b.plans.Store(p)
	}
	if !req.ElevatedUntil.IsZero() && !b.cache.now().wall.Before(req.ElevatedUntil) {
		past := *req
		past.ElevatedUntil, past.Reason = time.Time{}, ""
		req = &past
	}
	limit := req.Limit
	if req.Login {
		limit = Limit{}
	}
	if limit.For != "" {
		limit.For = b.programs.admit(req.Profile, limit.For, b.cache.now().boot)
	}
	plan, err := b.planWithin(p, req, limit)
	if err == nil && !req.Login && plan.Guard.Agents != (profiles.Agents{}) {
		if asked.Agent == "" && asked.FindAgent != nil {
			asked.Agent = asked.FindAgent()
		}
		var narrowed Limit
		if narrowed, err = asked.forAgent(plan, limit); err == nil && narrowed != limit {
			plan, err = b.planWithin(p, req, narrowed)
		}
	}
	if err != nil {
		return new(Plan), set.Warnings(), err
	}
	return plan, append(set.Warnings(), plan.Warnings...), nil
}

// planWithin returns the plan of a request within a limit.
func (b *Broker) planWithin(p *plans, req *Request, limit Limit) (*Plan, error) {
	elevated, reason := req.ElevatedUntil, req.Reason
	if limit.ReadOnly {
		elevated, reason = time.Time{}, ""
	}
	key := planKey{req.Profile, limit}
	plain := req.MinTTL == 0 && req.AdHoc == nil && elevated.IsZero()
	if known, ok := p.byName.Load(key); ok && plain {
		return known.(*Plan), nil
	}
	who := b.cfg.Who
	who.Reason = reason
	who.Program = func() string {
		if limit.For != "" {
			return limit.For
		}
		plain = false // the next program needs another plan
		if req.Program == nil {
			return ""
		}
		return b.programs.admit(req.Profile, req.Program(), b.cache.now().boot)
	}
	plan, err := PlanFor(p.set, req.Profile, Wish{Who: who, MinTTL: req.MinTTL, Short: b.isShort,
		Untagged: b.untagged.has, AdHoc: req.AdHoc, ElevatedUntil: elevated, Login: req.Login, Limit: limit})
	if err != nil {
		return nil, err
	}
	if plain && plan.Steps[len(plan.Steps)-1].Operation != CreateToken { // only a login has such a plan
		p.byName.Store(key, plan)
	}
	return plan, nil
}

// shorten records that AWS gives the role of a step for at most one hour.
func (b *Broker) shorten(step *Step) {
	if _, known := b.short.Swap(step.RoleARN, true); !known {
		b.cfg.Log.Warn("the role allows a shorter session than its profile asks for; it is now assumed for one hour",
			"role", step.RoleARN, "asked", step.Duration)
	}
	b.plans.Store(nil) // they were made without this knowledge
}

// isShort reports whether AWS refused to give this role more than an hour.
func (b *Broker) isShort(roleARN string) bool {
	_, short := b.short.Load(roleARN)
	return short
}

// Wish is what the caller wants of a plan, in addition to the profile.
type Wish struct {
	Who    Who           // fills the placeholders of the profile
	MinTTL time.Duration // least remaining lifetime of the credentials; 0 accepts any
	// Short reports whether AWS is known to give a role for at most one hour; nil if no such role is known.
	Short func(roleARN string) bool
	// Untagged reports whether a role of a source is known to refuse session tags or a source identity; with program,
	// whether it is known to refuse the tags with that of Limit.For. It is nil if no such role is known.
	Untagged func(source, roleARN string, program bool) bool
	// AdHoc is a role for this request that no profile defines; nil uses the profile unchanged.
	AdHoc *AdHoc
	// ElevatedUntil is when the full rights of a profile with read_only = true end. Zero asks for no such rights.
	ElevatedUntil time.Time
	// Login accepts also the name of a source that has no profile of its own, such as an [sso-session].
	Login bool
	Limit Limit // narrows the chain; the zero Limit does not
	// Variant changes the chain for Broker.Check; zero changes nothing.
	Variant Variant
}

// PlanFor resolves a name in a set and plans its chain. If no plan can last as long as was asked for, the error
// says why.
func PlanFor(set *profiles.Set, name string, wish Wish) (*Plan, error) {
	settings, err := set.Settings()
	if err != nil {
		return nil, err
	}
	chain, err := set.Resolve(name)
	if err != nil && wish.Login {
		if source, ok, _ := set.LoginSource(name); ok {
			chain, err = profiles.Chain{Profile: name, Source: source}, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if chain, err = wish.AdHoc.extend(chain); err != nil {
		return nil, err
	}
	if chain, err = wish.Limit.narrow(chain, wish.MinTTL); err != nil {
		return nil, err
	}
	chain = wish.Variant.of(chain)
	plan, err := NewPlan(chain, Defaults{
		SessionDuration: settings.SessionDuration,
		STSEndpoint:     settings.STSEndpoint,
		MFAPrompt:       settings.MFAPrompt,
		Wish:            wish,
	})
	if err != nil {
		return nil, err
	}
	plan.settings = &settings
	return plan, nil
}
