package profiles

import (
	"slices"
	"strings"

	"broker/internal/fault"
)

// A principal is who signs: the id of a long-lived key, then the ARN of each role that is assumed, with a space
// between. It is empty for a profile that Broker does not serve.

// ofTools is the principal that botocore makes of the AWS files alone. It takes the role of a profile before its keys,
// and the keys of a source_profile before its role.
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

// ofBroker is the principal of a chain.
func ofBroker(c Chain) string {
	words := []string{c.Source.AccessKeyID}
	for _, role := range c.Roles {
		words = append(words, role.ARN)
	}
	return strings.Join(words, " ")
}

// HasRole reports whether AWS tools take a role for a profile, whatever keys it has, and whether another profile has it
// as its source_profile, for which they take the keys.
func (s *Set) HasRole(name string) (role, isSource bool) {
	p, _ := s.lookup(name)
	for _, other := range s.names {
		q, _ := s.lookup(other)
		isSource = isSource || other != name && q.aws.text(keySourceProfile) == name
	}
	return p.aws.has(keyRoleARN) && p.aws.has(keySourceProfile), isSource
}

// SamePrincipals says whether each profile of the AWS files leads to who signs with it today, once the files are what
// next has. The error is fault.Failed and names the first one that does not, or it is that of Link.
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
		was := before.ofTools(name)
		if p, _ := before.lookup(name); was == "" || p.ours {
			continue
		}
		chain, err := after.Resolve(name)
		if is := ofBroker(chain); err == nil && is != was {
			return fault.New(fault.Failed, "profile %q would lead to %s, and AWS tools take %s for it today; "+
				"nothing was imported", name, is, was).WithHint("broker explain %s", name)
		}
	}
	return nil
}
