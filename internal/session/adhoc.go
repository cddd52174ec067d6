package session

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/profiles"
)

// AdHoc is a role for one request that no profile defines. The role is assumed from the source or profile that the
// request names. With an empty ARN, AdHoc overrides fields of the profile's last role. Empty fields override
// nothing.
type AdHoc struct {
	profiles.Role        // its Tags are added to those of the profile, and replace those with the same key
	Policy        string // session policy, JSON; for a read-only profile it may only deny
	// Federate asks for a session of GetFederationToken, from a source. For a user, the console accepts no other
	// kind of session.
	Federate bool
}

// Limits of AWS for a session policy, and of Broker for a chain.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
const (
	maxPolicy = 2048
	maxRoles  = 10
)

// extend returns the chain with the role appended, or with its last role changed. It does not change its argument.
// The error is a fault.Usage.
func (a *AdHoc) extend(chain profiles.Chain) (profiles.Chain, error) {
	if a == nil {
		return chain, nil
	}
	if err := a.check(); err != nil {
		return chain, err
	}
	chain.Roles = slices.Clone(chain.Roles)
	if a.Federate {
		if chain.Source.Kind != profiles.IAMUser {
			return chain, fault.New(fault.Usage, "%q is not an IAM user; federation needs one", chain.Source.Name).
				WithHint("broker explain %s", chain.Profile)
		}
		if len(chain.Roles) > 0 || a.ARN != "" {
			return chain, fault.New(fault.Usage, "%q is not a source; federation needs one", chain.Profile)
		}
		if a.ExternalID != "" || a.MFASerial != "" {
			return chain, fault.New(fault.Usage,
				"%q is a source; only a role takes an external id or a device", chain.Profile)
		}
		return chain, nil
	}
	if a.ARN != "" {
		role := a.Role
		role.Profile, role.Origin = chain.Profile, chain.Source.Origin
		role.Endpoint.Region = cmp.Or(role.Endpoint.Region, chain.Region)
		if n := len(chain.Roles); n > 0 {
			role.ReadOnly = chain.Roles[n-1].ReadOnly // a further role must not give what the profile does not
		}
		chain.Region = role.Endpoint.Region
		if chain.Roles = append(chain.Roles, role); len(chain.Roles) > maxRoles {
			return chain, fault.New(fault.Usage,
				"the chain of %q has %d roles, more than the limit of %d", chain.Profile, len(chain.Roles), maxRoles)
		}
		return chain, nil
	}
	if len(chain.Roles) == 0 {
		what := "a source"
		if chain.Assignment != nil {
			what = "a permission set of IAM Identity Center"
		}
		return chain, fault.New(fault.Usage, "%q is %s and has no role to change", chain.Profile, what).
			WithHint("broker explain %s", chain.Profile)
	}
	last := &chain.Roles[len(chain.Roles)-1]
	last.ExternalID = cmp.Or(a.ExternalID, last.ExternalID)
	last.SessionName = cmp.Or(a.SessionName, last.SessionName)
	last.MFASerial = cmp.Or(a.MFASerial, last.MFASerial)
	last.Duration = cmp.Or(a.Duration, last.Duration)
	last.Endpoint.Region = cmp.Or(a.Endpoint.Region, last.Endpoint.Region)
	if last.Tags = merged(last.Tags, a.Tags); len(last.Tags) > profiles.MaxTags {
		return chain, fault.New(fault.Usage, "with those of %q there are more than %d session tags", chain.Profile,
			profiles.MaxTags)
	}
	return chain, nil
}

func (a *AdHoc) check() error {
	if err := profiles.CheckRole(a.Role); err != nil {
		return err
	}
	switch {
	case len(a.Policy) > maxPolicy:
		return fault.New(fault.Usage, "the session policy has more than %d characters", maxPolicy)
	case a.Policy != "" && !json.Valid([]byte(a.Policy)):
		return fault.New(fault.Usage, "the session policy is not JSON")
	}
	if err := profiles.CheckTags(a.Tags); err != nil {
		return fault.New(fault.Usage, "the list of session tags %w", err)
	}
	return nil
}

// allows reports whether a session policy allows anything, or cannot be read.
func allows(policy string) bool {
	type statement struct{ Effect string }
	var list struct{ Statement []statement }
	var one struct{ Statement statement }
	switch {
	case json.Unmarshal([]byte(policy), &list) == nil:
	case json.Unmarshal([]byte(policy), &one) == nil:
		list.Statement = []statement{one.Statement}
	default:
		return true
	}
	// If a key is there twice, or with other capitals, AWS may take another one than we did.
	for d := json.NewDecoder(strings.NewReader(policy)); ; {
		token, err := d.Token()
		if word, is := token.(string); is && strings.EqualFold(word, "Allow") {
			return true
		}
		if err != nil {
			break
		}
	}
	return slices.ContainsFunc(list.Statement, func(s statement) bool { return s.Effect != "Deny" })
}

// merged returns the tags of a profile and those of a request, which win.
func merged(tags, more []Tag) []Tag {
	tags = slices.DeleteFunc(slices.Clone(tags), func(t Tag) bool {
		return slices.ContainsFunc(more, func(m Tag) bool { return strings.EqualFold(m.Key, t.Key) })
	})
	return append(tags, more...)
}
