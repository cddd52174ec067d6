package session

import (
	"context"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
)

// Portal calls use with the access token of a portal, for a list that the portal makes. The token stays in this
// process: the answer has none. If the portal does not accept the token, Portal gets a new one and calls use again.
//
// The request names a profile of the portal or its [sso-session]. The errors are those of Credentials and of use.
func (b *Broker) Portal(
	ctx context.Context, req Request, use func(context.Context, Credentials, profiles.Endpoint) error,
) (Answer, error) {
	if err := b.refuseLocked(); err != nil {
		return Answer{}, err
	}
	req.Login = true
	plan, _, err := b.plan(&req)
	if err != nil {
		return Answer{}, err
	}
	answer := plan.loginAnswer(time.Time{})
	if plan.Source.Kind != profiles.Portal {
		return answer, fault.New(fault.Usage, "%q is not a session of IAM Identity Center", plan.Source.Name).
			WithHint("broker profiles list")
	}
	for attempt := 1; ; attempt++ {
		access, err := b.step(ctx, plan, 0, &req)
		if err != nil {
			return answer, err
		}
		err = use(ctx, access, plan.Source.Endpoint)
		if locked := b.refuseLocked(); locked != nil { // a lock may have come meanwhile
			return answer, locked
		}
		if err == nil || !fault.Is(err, fault.ExpiredSession) || attempt == 2 {
			return answer, err
		}
		b.discard(ctx, plan, 0, access)
	}
}
