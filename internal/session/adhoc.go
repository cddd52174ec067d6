package session

import (
	"cmp"
	"encoding/json"
	"slices"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/profiles"
)

// AdHoc is a role for one request that no profile defines. The role is assumed from the source or profile that the
// request names. With an empty ARN, AdHoc overrides fields of the profile's last role. Empty fields override
// nothing.
type AdHoc struct {
	profiles.Role
	Policy string // session policy, JSON
	Tags   []Tag  // session tags
	// Federate asks for a session of GetFederationToken, from a source. For a user, the console accepts no other
	// kind of session.
	Federate bool
}

// Limits of AWS for a session policy and for tags.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
const (
	maxPolicy   = 2048
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
	maxRoles    = 10
)

var tagSyntax = lazyregexp.New(`^[\p{L}\p{Z}\p{N}_.:/=+@-]*$`)

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
		chain.Region = role.Endpoint.Region
		if chain.Roles = append(chain.Roles, role); len(chain.Roles) > maxRoles {
			return chain, fault.New(fault.Usage,
				"the chain of %q has %d roles, more than the limit of %d", chain.Profile, len(chain.Roles), maxRoles)
		}
		return chain, nil
	}
	if len(chain.Roles) == 0 {
		return chain, fault.New(fault.Usage, "%q is a source and has no role to change", chain.Profile).
			WithHint("broker explain %s", chain.Profile)
	}
	last := &chain.Roles[len(chain.Roles)-1]
	last.ExternalID = cmp.Or(a.ExternalID, last.ExternalID)
	last.SessionName = cmp.Or(a.SessionName, last.SessionName)
	last.MFASerial = cmp.Or(a.MFASerial, last.MFASerial)
	last.Duration = cmp.Or(a.Duration, last.Duration)
	last.Endpoint.Region = cmp.Or(a.Endpoint.Region, last.Endpoint.Region)
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
	case len(a.Tags) > maxTags:
		return fault.New(fault.Usage, "there are more than %d session tags", maxTags)
	}
	for _, t := range a.Tags {
		if t.Key == "" || len([]rune(t.Key)) > maxTagKey || len([]rune(t.Value)) > maxTagValue ||
			!tagSyntax.MatchString(t.Key) ||
			!tagSyntax.MatchString(t.Value) {
			return fault.New(fault.Usage,
				"the session tag %.60q is too long, or has other characters than letters, digits, spaces and _.:/=+-@",
				t.Key)
		}
	}
	return nil
}
