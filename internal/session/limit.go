package session

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
)

// Limit narrows what a request gets. It never widens it. A login hands out nothing, so it has no Limit.
type Limit struct {
	ReadOnly bool          // AWS's ReadOnlyAccess limits the session, and no elevation counts
	RoleOnly bool          // only the session of a role or of a permission set, and never that of a source
	MaxTTL   time.Duration // the longest lifetime of the session, at least 15 minutes; 0 for that of the profile
	// For names the program for which the session is. It is appended to the role session name, unless the profile sets
	// one. It is what {program} says, and with optional_tags = true the session tag "program".
	For string
}

// narrow returns the chain within the Limit: its last role is read-only, and lasts no longer than MaxTTL. It does not
// change its argument. The error is a fault.Usage: the chain has no session within the Limit.
func (l *Limit) narrow(chain profiles.Chain, minTTL time.Duration) (profiles.Chain, error) {
	if *l == (Limit{}) {
		return chain, nil
	}
	n := len(chain.Roles)
	refuse := func(format string, args ...any) (profiles.Chain, error) {
		return chain, fault.New(fault.Usage, format, args...).WithHint("broker explain %s", chain.Profile)
	}
	switch set := chain.Assignment != nil; {
	case l.MaxTTL != 0 && l.MaxTTL < shortestRole:
		return refuse("AWS gives no session for less than %s, so the session of %q cannot be limited to %s",
			profiles.FormatDuration(shortestRole), chain.Profile, profiles.FormatDuration(l.MaxTTL))
	case l.MaxTTL != 0 && minTTL > l.MaxTTL:
		return refuse("the session of %q may last %s at most, which is less than the %s that you asked for",
			chain.Profile, profiles.FormatDuration(l.MaxTTL), profiles.FormatDuration(minTTL))
	case l.RoleOnly && n == 0 && !set:
		return refuse("%q has no role, and only sessions of roles and permission sets are handed out here", chain.Profile)
	case l.MaxTTL != 0 && n == 0 && !set:
		return refuse("%q has no role, and the session of a source cannot be made shorter", chain.Profile)
	case l.ReadOnly && n == 0 && set:
		return refuse("%q cannot be limited to reading: Identity Center gives the session of a permission set without a "+
			"session policy; use a permission set that only reads", chain.Profile)
	case l.ReadOnly && n == 0:
		return refuse("%q cannot be limited to reading, because it has no role", chain.Profile)
	case l.ReadOnly && chain.Roles[n-1].Endpoint.Compatible:
		return refuse("%q cannot be limited to reading: its source has sts_compatible = true, and a server that is not "+
			"AWS's may ignore the session policy", chain.Profile)
	case n == 0:
		return chain, nil
	}
	chain.Roles = slices.Clone(chain.Roles)
	last := &chain.Roles[n-1]
	last.ReadOnly = last.ReadOnly || l.ReadOnly
	if l.MaxTTL != 0 {
		last.Duration = min(cmp.Or(last.Duration, hour), l.MaxTTL)
	}
	return chain, nil
}

// sayProgram lets the last step of a plan name the program of the Limit: in its session name, unless the profile sets
// one, and in a tag, if its role may refuse tags. No later role may change a transitive tag.
func (p *Plan) sayProgram(roles []profiles.Role, d *Defaults) {
	if d.Limit.For == "" || len(roles) == 0 {
		return
	}
	role, last := &roles[len(roles)-1], &p.Steps[len(p.Steps)-1]
	if role.SessionName == "" {
		last.SessionName = d.Who.nameFor(d.Limit.For)
	}
	is := func(key string) bool { return strings.EqualFold(key, profiles.Program) }
	refused := func(program bool) bool { return d.Untagged != nil && d.Untagged(p.Source.Name, role.ARN, program) }
	if !last.optional || last.Operation != AssumeRole || len(last.Tags) >= profiles.MaxTags || refused(true) ||
		refused(false) || slices.ContainsFunc(last.Tags, func(t Tag) bool { return is(t.Key) }) ||
		slices.ContainsFunc(roles, func(r profiles.Role) bool { return slices.ContainsFunc(r.TransitiveTags, is) }) {
		return
	}
	value := d.Who.fill(programWord(d.Limit.For), notInTag, longestTagValue)
	last.Tags, last.program = append(slices.Clip(last.Tags), Tag{Key: profiles.Program, Value: value}), true
}

// kept returns an error for a session that lasts longer than the Limit allows. AWS alone decides how long the session
// of a permission set lasts. Both times are whole seconds of AWS's clock, so a small excess is accepted.
func (l *Limit) kept(plan *Plan, step int, creds Credentials) error {
	life := creds.Expires.Sub(creds.Issued)
	if l.MaxTTL == 0 || life <= l.MaxTTL+safetyMargin {
		return nil
	}
	return fault.New(fault.Usage, "%s: AWS gives a session of %s, but it may last %s at most; "+
		"AWS takes no duration here, "+
		"so use a permission set with a shorter session", plan.stepName(step),
		profiles.FormatDuration(life.Round(time.Minute)), profiles.FormatDuration(l.MaxTTL)).
		WithHint("broker explain %s", plan.Profile)
}

// forAgent narrows the Limit of a request whose profile has agents. The error is a fault.NotConfirmed: no agent gets
// the session.
func (req *Request) forAgent(plan *Plan, limit Limit) (Limit, error) {
	agents := plan.Guard.Agents
	if req.Agent == "" && !req.Everyone {
		return limit, nil
	}
	if agents.Deny {
		who := "the coding agent " + req.Agent + " asks"
		if req.Agent == "" {
			who = "every program could read it"
		}
		return limit, fault.New(fault.NotConfirmed, "%q is not for coding agents (agents = deny), and %s; ask the person "+
			"who owns the profile to use it, or to change agents", plan.Profile, who).
			WithHint("broker explain %s", plan.Profile)
	}
	limit.ReadOnly = limit.ReadOnly || agents.ReadOnly
	return limit, nil
}
