package session

import (
	"context"
	"errors"
	"slices"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// Variant is how Check assumes a role.
type Variant int

const (
	WithMFA           Variant = iota + 1 // with the source's MFA session
	WithoutMFA                           // with the long-lived key itself, and without a code
	WithoutExternalID                    // like WithMFA, but without the external id
)

// of returns the chain of a variant. Its sessions last one hour at most: a longer one would need a code for each role.
func (v Variant) of(chain profiles.Chain) profiles.Chain {
	if v == 0 {
		return chain
	}
	chain.Roles = slices.Clone(chain.Roles)
	for i := range chain.Roles {
		role := &chain.Roles[i]
		role.Duration, role.FreshMFA = 0, false
		if v == WithoutMFA {
			role.MFASerial = ""
		}
	}
	if v == WithoutMFA {
		chain.Source.MFASerial, chain.Source.HasSeed = "", false
	}
	if n := len(chain.Roles); n > 0 && v == WithoutExternalID {
		chain.Roles[n-1].ExternalID = ""
	}
	return chain
}

// Check assumes the role of a request and returns its session, which must not leave the daemon. The session
// is not cached, and a cached one is not used. The plan says what was asked. The errors are those of Credentials.
func (b *Broker) Check(ctx context.Context, req Request, how Variant) (Credentials, *Plan, error) {
	if err := b.refuseLocked(); err != nil {
		return Credentials{}, nil, err
	}
	set, err := b.cfg.Profiles.Load(req.Files)
	if err != nil {
		return Credentials{}, nil, err
	}
	who := b.cfg.Who
	who.Program = func() string { return otherProgram }
	for try := 0; ; try++ {
		plan, err := PlanFor(set, req.Profile, Wish{Who: who, AdHoc: req.AdHoc, Untagged: b.untagged.has, Variant: how})
		if err != nil {
			return Credentials{}, nil, err
		}
		last := len(plan.Steps) - 1
		if plan.Steps[last].RoleARN == "" {
			return Credentials{}, nil, fault.New(fault.Usage, "%q is a source or a permission set; only a role can be checked", plan.Profile).
				WithHint("broker explain %s", plan.Profile)
		}
		creds, err := b.assumeOnce(ctx, plan, last, &req)
		if locked := b.refuseLocked(); locked != nil {
			return Credentials{}, nil, locked
		}
		if errors.Is(err, ErrTagsRefused) && try <= last && b.sendsRefused(plan) {
			continue // the tags are optional
		}
		if err != nil {
			return Credentials{}, plan, withPlanHint(err, req.Profile)
		}
		return creds, plan, nil
	}
}

// assumeOnce makes the last call of a plan without the cache. If no step has a device, it makes all calls so: a session
// without MFA must not be found in the cache.
func (b *Broker) assumeOnce(ctx context.Context, plan *Plan, last int, req *Request) (Credentials, error) {
	if first := &plan.Steps[0]; !first.LongTerm || first.MFASerial != "" || plan.Source.Kind != profiles.IAMUser {
		if last > 0 { // a person may have to give a code
			if _, err := b.wait(ctx, plan, last-1, req); err != nil {
				return Credentials{}, err
			}
		}
		return b.fetch(ctx, plan, last, req, false)
	}
	creds, err := b.cfg.Vault.Open(ctx, plan.Source, plan.Steps[0].Call, secret.String{})
	b.logStep(plan, 0, creds, err)
	b.noteRefusal(plan, 0, err)
	for i := 1; i <= last && err == nil; i++ {
		creds, err = b.cfg.STS.Assume(ctx, creds, plan.Steps[i].Call)
		b.logStep(plan, i, creds, err)
		b.noteRefusal(plan, i, err)
	}
	return creds, err
}
