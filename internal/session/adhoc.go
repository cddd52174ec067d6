package session

import (
	"cmp"
	"encoding/json"
	"slices"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/profiles"
)

// AdHoc is a role that no profile names: it is assumed from what the name in the
// request gives, a source or a profile. With an empty ARN it is what one use of a profile asks
// otherwise of its last role. Empty fields ask for nothing.
type AdHoc struct {
	profiles.Role
	Policy string // session policy, JSON
	Tags   []Tag  // session tags
	// Federate asks for a session of GetFederationToken, of a source: the console takes no other of a user.
	Federate bool
}

// AWS's bounds of a session policy and of tags.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
const (
	maxPolicy   = 2048
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
	maxRoles    = 10
)

var tagSyntax = lazyregexp.New(`^[\p{L}\p{Z}\p{N}_.:/=+@-]*$`)

// extend is a chain with the role at its end, or with its last role changed. It
// leaves the chain that it is given alone. The error is a fault.Usage.
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
			return chain, fault.New(fault.Usage, "%q is no source: only its user can be federated", chain.Profile)
		}
		if a.ExternalID != "" || a.MFASerial != "" {
			return chain, fault.New(fault.Usage, "%q is a source; an external id and a device are for a role", chain.Profile)
		}
		return chain, nil
	}
	if a.ARN != "" {
		role := a.Role
		role.Profile, role.Origin = chain.Profile, chain.Source.Origin
		role.Endpoint.Region = cmp.Or(role.Endpoint.Region, chain.Region)
		chain.Region = role.Endpoint.Region
		if chain.Roles = append(chain.Roles, role); len(chain.Roles) > maxRoles {
			return chain, fault.New(fault.Usage, "%q leads over %d roles; at most %d are followed", chain.Profile, len(chain.Roles), maxRoles)
		}
		return chain, nil
	}
	if len(chain.Roles) == 0 {
		return chain, fault.New(fault.Usage, "%q is a source, and has no role that could be asked for otherwise", chain.Profile).
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
		if t.Key == "" || len([]rune(t.Key)) > maxTagKey || len([]rune(t.Value)) > maxTagValue || !tagSyntax.MatchString(t.Key) || !tagSyntax.MatchString(t.Value) {
			return fault.New(fault.Usage, "the session tag %.60q is not of letters, digits, spaces and _.:/=+-@, or too long", t.Key)
		}
	}
	return nil
}
