package profiles

import (
	"slices"
	"strings"

	"broker/internal/fault"
)

// A principal is the identity that signs a request: the id of a long-lived key, then the ARN of each role that is
// assumed, separated by spaces. It is empty for a profile that Broker does not serve.

// ofTools returns the principal that botocore derives from the AWS files alone. botocore prefers the role of a
// profile to its keys, but the keys of a source_profile to that profile's role.
// https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-role.html
func (s *Set) ofTools(name string) string {
	var roles []string
	for first := true; len(roles) <= maxHops; first = false {
		p, _ := s.lookup(name)
		v := p.aws
		if slices.ContainsFunc([]string{keyWebIdentity, keyCredentialSource, keySessionToken}, v.has) {
			return ""
		}
		id, source := v.text(keyAccessKeyID), v.text(keySourceProfile)
		isRole := v.has(keyRoleARN) && source != ""
		switch {
		case isRole && (first || id == ""):
			roles = append(roles, v.text(keyRoleARN))
		case id == "":
			return ""
		}
		if !isRole || id != "" && (!first || source == name) {
			slices.Reverse(roles)
			return strings.Join(append([]string{id}, roles...), " ")
		}
		name = source
	}
	return ""
}

// ofBroker returns the principal of a chain.
func ofBroker(c Chain) string {
	words := []string{c.Source.AccessKeyID}
	for _, role := range c.Roles {
		words = append(words, role.ARN)
	}
	return strings.Join(words, " ")
}

// HasRole returns whether AWS tools assume a role for a profile, whatever keys it has, and whether another profile
// names it as source_profile, in which case they use its keys.
func (s *Set) HasRole(name string) (role, isSource bool) {
	p, _ := s.lookup(name)
	for _, other := range s.names {
		q, _ := s.lookup(other)
		isSource = isSource || other != name && q.aws.text(keySourceProfile) == name
	}
	return p.aws.has(keyRoleARN) && p.aws.has(keySourceProfile), isSource
}

// Defines reports whether the registry says whose credentials a profile has.
func (s *Set) Defines(name string) bool {
	p, _ := s.lookup(name)
	return p.ours && (p.own.has(keyRoleARN) || p.own.has(keySourceProfile))
}

// SamePrincipals checks that each profile keeps its present principal once the files hold next.
// The error is a fault.Failed that names the first profile that would not, or an error of Link.
func SamePrincipals(files Files, docs, next Documents) error {
	before, err := docs.set(files)
	if err != nil {
		return err
	}
	after, err := next.set(files)
	if err != nil {
		return err
	}
	for _, name := range before.names {
		if before.Defines(name) {
			if err := sameSigner(before, after, name); err != nil {
				return err
			}
			continue
		}
		was := before.ofTools(name)
		if p, _ := before.lookup(name); was == "" || p.ours {
			continue
		}
		chain, err := after.Resolve(name)
		if is := ofBroker(chain); err == nil && is != was {
			return fault.New(fault.Failed, "profile %q would sign as %s, but AWS tools sign as %s today; "+
				"nothing was imported", name, is, was).WithHint("broker explain %s", name)
		}
	}
	return nil
}

// sameSigner checks that a profile of the registry keeps its principal.
func sameSigner(before, after *Set, name string) error {
	old, err := before.Resolve(name)
	if err != nil {
		return nil // it has no principal that could change
	}
	chain, err := after.Resolve(name)
	if was, is := ofBroker(old), ofBroker(chain); err == nil && is != was {
		return fault.New(fault.Failed, "profile %q would sign as %s, but signs as %s today; nothing was imported",
			name, is, was).WithHint("broker import PROFILE --as NAME")
	}
	return nil
}
