package session

import (
	"errors"
	"fmt"
	"sync"

	"broker/internal/profiles"
)

// untagged holds the roles that refused session tags or a source identity, and whose profile lets Broker do without
// (optional_tags). It lasts until a login or logout of the source.
type untagged struct{ roles sync.Map } // untaggedRole to true

type untaggedRole struct {
	source, arn string
	program     bool // it refused the tags with that of Limit.For; it may accept those of the profile
}

func (u *untagged) has(source, arn string, program bool) bool {
	_, ok := u.roles.Load(untaggedRole{source, arn, program})
	return ok
}

// forget removes the roles of a source, or of all sources if it is empty. It reports whether there was one.
func (u *untagged) forget(source string) (found bool) {
	u.roles.Range(func(key, _ any) bool {
		if source == "" || key.(untaggedRole).source == source {
			u.roles.Delete(key)
			found = true
		}
		return true
	})
	return found
}

// attributed reports whether the call sends tags or a source identity.
func (c *Call) attributed() bool { return len(c.Tags) > 0 || c.SourceIdentity != "" }

// noteRefusal records that AWS refused the tags or the source identity of a step that can do without.
func (b *Broker) noteRefusal(plan *Plan, i int, err error) {
	step := &plan.Steps[i]
	if !errors.Is(err, ErrTagsRefused) || !step.optional || !step.attributed() {
		return
	}
	b.untagged.roles.Store(untaggedRole{plan.Source.Name, step.RoleARN, step.program}, true)
	b.plans.Store(nil) // they were made without this knowledge
}

// tagAgain forgets which roles of a source refused tags: after a login or logout, Broker sends tags again.
func (b *Broker) tagAgain(source string) bool {
	if !b.untagged.forget(source) {
		return false
	}
	b.plans.Store(nil)
	b.forgetRefusals(source)
	return true
}

// forgetRefusals removes the cached refusals of tags that Broker can do without. They are no failures that a person
// should see.
func (b *Broker) forgetRefusals(source string) {
	b.cache.drop(func(s *slot) bool {
		return (source == "" || s.plan.Source.Name == source) && s.plan.Steps[s.step].optional && s.entry == nil &&
			s.flight == nil && errors.Is(s.err, ErrTagsRefused)
	})
}

// sendsRefused reports whether a plan sends what AWS is known to refuse, because the plan is older than that
// knowledge.
func (b *Broker) sendsRefused(plan *Plan) bool {
	for i := range plan.Steps {
		step := &plan.Steps[i]
		if step.optional && step.attributed() && (b.untagged.has(plan.Source.Name, step.RoleARN, false) ||
			step.program && b.untagged.has(plan.Source.Name, step.RoleARN, true)) {
			return true
		}
	}
	return false
}

// withoutTags removes what the role refused, and returns the warning that says so.
func (s *Step) withoutTags() profiles.Warning {
	s.Tags, s.TransitiveTags, s.SourceIdentity = nil, nil, ""
	return profiles.Warning{Origin: s.Origin, Text: fmt.Sprintf("the role of %s refuses session tags or a source "+
		"identity, so its session has neither (optional_tags = true)", s.Profile)}
}
