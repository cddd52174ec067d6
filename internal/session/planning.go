package session

import (
	"sync"
	"time"

	"broker/internal/profiles"
)

// plans are those of one state of the files; they must not be changed.
type plans struct {
	set    *profiles.Set
	byName sync.Map // string → *Plan
}

// plan is the Plan of a request, empty with an error.
func (b *Broker) plan(req *Request) (*Plan, []profiles.Warning, error) {
	set, err := b.cfg.Profiles.Load(req.Files)
	if err != nil {
		return new(Plan), nil, err
	}
	// A warm request would spend most of its time on planning the same again.
	p := b.plans.Load()
	if p == nil || p.set != set {
		p = &plans{set: set}
		b.plans.Store(p)
	}
	plain := req.MinTTL == 0 && req.AdHoc == nil
	if known, ok := p.byName.Load(req.Profile); ok && plain {
		plan := known.(*Plan)
		return plan, append(set.Warnings(), plan.Warnings...), nil
	}
	plan, err := PlanFor(set, req.Profile, Wish{
		SessionName: b.cfg.SessionName, MinTTL: req.MinTTL, Short: b.isShort, AdHoc: req.AdHoc,
	})
	if err != nil {
		return new(Plan), set.Warnings(), err
	}
	if plain {
		p.byName.Store(req.Profile, plan)
	}
	return plan, append(set.Warnings(), plan.Warnings...), nil
}

// shorten remembers that AWS gives the role of a step for one hour at most.
func (b *Broker) shorten(step *Step) {
	if _, known := b.short.Swap(step.RoleARN, true); !known {
		b.cfg.Log.Warn("the role allows less than its profile asks for; from now on it is assumed for one hour",
			"role", step.RoleARN, "asked", step.Duration)
	}
	b.plans.Store(nil) // they were made without knowing it
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
	// Short reports whether AWS is known to give a role one hour at most; nil if no role is known.
	Short func(roleARN string) bool
	// AdHoc is a role that no profile names; nil for the profile as it is.
	AdHoc *AdHoc
}

// PlanFor resolves a name in a set and plans its chain. Where no plan can last as
// long as is wished, the error says why.
func PlanFor(set *profiles.Set, name string, wish Wish) (*Plan, error) {
	settings, err := set.Settings()
	if err != nil {
		return nil, err
	}
	chain, err := set.Resolve(name)
	if err != nil {
		return nil, err
	}
	if chain, err = wish.AdHoc.extend(chain); err != nil {
		return nil, err
	}
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
