package session

import (
	"cmp"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
)

// longestFederation is the longest that Broker asks for: a console for one working day. AWS allows 36 hours.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetFederationToken.html
const longestFederation = 12 * time.Hour

// maxFederatedName is the longest name of a federated user, in characters.
const maxFederatedName = 32

// viewOnly is the policy of a federated session that was given no other. This AWS managed policy allows listing
// the resources of an account, but not changing them or reading their contents.
// https://docs.aws.amazon.com/aws-managed-policy/latest/reference/ViewOnlyAccess.html
const viewOnly = "policy/job-function/ViewOnlyAccess"

// federationPlan returns a plan of one call with the long-lived key. Its session may do what both the source's
// user and the policy allow. GetFederationToken takes no code, so the caller opens the source's MFA session first:
// see Broker.Credentials.
func federationPlan(chain profiles.Chain, d Defaults) (*Plan, error) {
	a := d.AdHoc
	call := Call{
		Operation:   GetFederationToken,
		Endpoint:    chain.Source.Endpoint,
		Duration:    cmp.Or(a.Duration, hour),
		SessionName: cmp.Or(a.SessionName, d.Who.fill(usualName, notInName, maxFederatedName)),
		Policy:      a.Policy,
		Tags:        a.Tags,
	}
	switch {
	case chain.Source.NoSession:
		return nil, noSession(chain.Source)
	case len(call.SessionName) > maxFederatedName:
		return nil, fault.New(fault.Usage,
			"the name of a federated session has at most %d characters", maxFederatedName)
	case call.Duration > longestFederation || d.MinTTL > call.Duration:
		return nil, fault.New(fault.Usage,
			"a federated session lasts at most %v, and not longer than its duration", longestFederation)
	case call.Policy == "":
		partition, _ := chain.Account()
		call.PolicyARN = "arn:" + partition + ":iam::aws:" + viewOnly
	}
	call.Endpoint = call.Endpoint.Replaced(d.STSEndpoint)
	p := &Plan{settings: new(profiles.Settings), Profile: chain.Profile, Region: chain.Region, Source: chain.Source,
		Guard: chain.Guard, Directories: chain.Directories}
	p.Steps = []Step{{Call: call, LongTerm: true, Profile: chain.Source.Name, Origin: chain.Source.Origin}}
	p.keys = keysOf(p)
	return p, nil
}
