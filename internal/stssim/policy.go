package stssim

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file evaluates policies: the trust policies of roles, and the identity policies of users and roles. It knows
// only what the policies of tests use; a policy with anything else is an error, because the rule would have no effect.
// Unlike AWS, it needs an identity policy also where a trust policy names a principal of the same account.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html

// policy is a policy document.
type policy struct {
	Version   string
	Statement oneOrMany[statement]
}

// statement is a statement of a policy.
type statement struct {
	Sid         string
	Effect      string
	Principal   struct{ AWS oneOrMany[string] }
	Action      oneOrMany[string]
	NotAction   oneOrMany[string]
	Resource    oneOrMany[string]
	NotResource oneOrMany[string]
	Condition   map[string]map[string]oneOrMany[string] // by operator and key
}

// oneOrMany is a list in which a single element may stand without brackets.
type oneOrMany[T any] []T

func (l *oneOrMany[T]) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte("[")) {
		return readJSON(text, (*[]T)(l))
	}
	*l = make([]T, 1)
	return readJSON(text, &(*l)[0])
}

// parsePolicies parses policies, and checks them. A trust policy names principals, others name resources.
func parsePolicies(texts []string, trust bool) (list []policy, err error) {
	for _, text := range texts {
		var p policy
		if err := readJSON([]byte(text), &p); err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		if p.Version != "2012-10-17" || len(p.Statement) == 0 {
			return nil, fmt.Errorf("a policy needs the version 2012-10-17 and a statement")
		}
		for _, s := range p.Statement {
			if err := s.check(trust); err != nil {
				return nil, fmt.Errorf("statement %q: %w", s.Sid, err)
			}
		}
		list = append(list, p)
	}
	return list, nil
}

func (s *statement) check(trust bool) error {
	resources := len(s.Resource) + len(s.NotResource)
	switch {
	case s.Effect != "Allow" && s.Effect != "Deny":
		return fmt.Errorf("effect %q", s.Effect)
	case (len(s.Action) == 0) == (len(s.NotAction) == 0):
		return fmt.Errorf("want either Action or NotAction")
	case len(s.Resource) > 0 && len(s.NotResource) > 0:
		return fmt.Errorf("want either Resource or NotResource")
	case trust && (len(s.Principal.AWS) == 0 || resources > 0):
		return fmt.Errorf("a trust policy has principals and no resources")
	case !trust && (len(s.Principal.AWS) > 0 || resources == 0):
		return fmt.Errorf("an identity policy has resources and no principals")
	}
	for _, arn := range s.Principal.AWS {
		if !principalIDs.MatchString(arn) {
			return fmt.Errorf("not the ARN of an account's root, a user or a role: %s", arn)
		}
	}
	for operator := range s.Condition {
		name := strings.TrimSuffix(strings.TrimPrefix(operator, "ForAllValues:"), "IfExists")
		if comparisons[name] == nil && operator != "StringNotEquals" {
			return fmt.Errorf("operator %s is not simulated", operator)
		}
	}
	return nil
}

// query is what a policy decides on.
type query struct {
	action    string
	resource  string
	principal []string            // ARNs by which a trust policy may name the caller
	context   map[string][]string // by key in lower case
}

// decision is what policies say.
type decision int

const (
	silent decision = iota
	allowed
	refused
)

// decide returns what the policies say together: one refusal is enough.
func decide(policies []policy, q query) decision {
	result := silent
	for _, p := range policies {
		for _, s := range p.Statement {
			if !s.applies(q) {
				continue
			}
			if s.Effect == "Deny" {
				return refused
			}
			result = allowed
		}
	}
	return result
}

func (s *statement) applies(q query) bool {
	matches := func(patterns []string, text string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return wildcard(p, text) })
	}
	filled := func(patterns []string) (list []string) {
		for _, p := range patterns {
			list = append(list, q.fill(p))
		}
		return list
	}
	switch {
	case len(s.Action) > 0 && !matches(s.Action, q.action), matches(s.NotAction, q.action):
		return false
	case len(s.Resource) > 0 && !matches(filled(s.Resource), q.resource), matches(filled(s.NotResource), q.resource):
		return false
	case len(s.Principal.AWS) > 0 && !slices.ContainsFunc(s.Principal.AWS, func(arn string) bool {
		return slices.Contains(q.principal, arn)
	}):
		return false
	}
	for operator, keys := range s.Condition {
		for key, values := range keys {
			if !q.holds(operator, strings.ToLower(key), filled(values)) {
				return false
			}
		}
	}
	return true
}

// fill replaces the policy variables of a value. One that the request does not have matches nothing.
func (q query) fill(value string) string {
	before, rest, found := strings.Cut(value, "${")
	name, after, closed := strings.Cut(rest, "}")
	if !found || !closed {
		return value
	}
	text := "\x03"
	if values := q.context[strings.ToLower(name)]; len(values) == 1 {
		text = values[0]
	}
	return before + text + q.fill(after)
}

// comparisons are the condition operators: whether a value of the request matches one of the policy.
var comparisons = map[string]func(has, want string) bool{
	"Bool":         strings.EqualFold,
	"StringEquals": func(has, want string) bool { return has == want },
	"StringLike":   func(has, want string) bool { return wildcard(want, has) },
	"NumericLessThan": func(has, want string) bool {
		a, err1 := strconv.ParseFloat(has, 64)
		b, err2 := strconv.ParseFloat(want, 64)
		return err1 == nil && err2 == nil && a < b
	},
}

func (q query) holds(operator, key string, values []string) bool {
	if operator == "StringNotEquals" {
		return !q.holds("StringEquals", key, values)
	}
	operator, all := strings.CutPrefix(operator, "ForAllValues:")
	operator, ifExists := strings.CutSuffix(operator, "IfExists")
	has := q.context[key]
	if len(has) == 0 {
		return all || ifExists
	}
	one := func(h string) bool {
		return slices.ContainsFunc(values, func(want string) bool { return comparisons[operator](h, want) })
	}
	if all {
		return !slices.ContainsFunc(has, func(h string) bool { return !one(h) })
	}
	return slices.ContainsFunc(has, one)
}

// context returns the condition keys that a call has before AssumeRole adds its own. Sessions of roles do not say
// whether their user had a code, and plain keys have no value at all, which differs from false.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
func (c *call) context() map[string][]string {
	keys := map[string][]string{}
	if u := c.caller.user; u != nil {
		keys["aws:username"] = []string{u.name}
		for _, tag := range u.tags {
			key, value, _ := strings.Cut(tag, "=")
			keys["aws:principaltag/"+strings.ToLower(key)] = []string{value}
		}
	}
	if c.caller.kind == userSession || c.caller.kind == loginSession {
		keys["aws:multifactorauthpresent"] = []string{strconv.FormatBool(c.caller.mfa)}
		if c.caller.mfa {
			keys["aws:multifactorauthage"] = []string{strconv.Itoa(int(c.now.Sub(c.caller.mfaAt) / time.Second))}
		}
	}
	if c.caller.sourceID != "" {
		keys["aws:sourceidentity"] = []string{c.caller.sourceID}
	}
	return keys
}

// trustContext adds what the trust policy of a role sees of AssumeRole. A code of the call itself counts only here:
// according to public reports, the identity policies of the caller do not see it.
func (c *call) trustContext(mfa bool) map[string][]string {
	keys := c.context()
	if mfa {
		keys["aws:multifactorauthpresent"], keys["aws:multifactorauthage"] = []string{"true"}, []string{"0"}
	}
	for key, parameter := range map[string]string{
		"sts:externalid": "ExternalId", "sts:sourceidentity": "SourceIdentity", "sts:rolesessionname": "RoleSessionName",
	} {
		if c.params.Has(parameter) {
			keys[key] = []string{c.get(parameter)}
		}
	}
	for n := 1; c.params.Has(member("Tags", n, "Key")); n++ {
		keys["aws:tagkeys"] = append(keys["aws:tagkeys"], c.get(member("Tags", n, "Key")))
	}
	return keys
}

// lets returns what the trust policy says of an action of the caller: AssumeRole, or what it needs besides.
func (r *role) lets(c *call, action string, mfa bool) bool {
	caller := c.caller.arn
	if c.caller.kind == roleSession {
		caller = c.caller.role.arn
	}
	return decide(r.trustPolicies, query{
		action:    action,
		principal: []string{caller, c.caller.account.arn("iam", "root")},
		context:   c.trustContext(mfa),
	}) == allowed
}

// identity returns what the identity policies of the caller say of an action. A caller without policies may do
// everything. GetSessionToken needs no permission, but can be denied.
func (c *call) identity(action, resource string) decision {
	policies := c.caller.attached()
	if policies == nil {
		return allowed
	}
	said := decide(policies, query{action: action, resource: resource, context: c.context()})
	if said == silent && action == "sts:GetSessionToken" {
		return allowed
	}
	return said
}

// attached returns the identity policies of the user or the role.
func (p *principal) attached() []policy {
	if p.kind == roleSession {
		return p.role.policies
	}
	return p.user.policies
}
