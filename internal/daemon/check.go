package daemon

import (
	"context"
	"time"

	"broker/internal/fault"
	"broker/internal/session"
	"broker/internal/wire"
)

// check says whether a role can be assumed, with and without a code. It asks nobody to confirm, because no session
// leaves: each is dropped once AWS has answered.
func (d *Daemon) check(ctx context.Context, c call) error {
	r := d.request(c)
	checked, answer, err := d.tryRole(ctx, r)
	d.record("checked", "", c, answer, err)
	if err != nil {
		return err
	}
	return c.reply(wire.Response{Checked: &checked})
}

// tryRole makes the calls for check. The answer is for the audit log.
func (d *Daemon) tryRole(ctx context.Context, r session.Request) (
	checked wire.Checked, answer session.Answer, err error,
) {
	creds, plan, err := d.Broker.Check(ctx, r, session.WithMFA)
	if plan != nil {
		answer = session.Answer{Source: plan.Source.Name, Role: plan.Subject(), Endpoints: plan.Endpoints()}
	}
	if checked.WithMFA, err = deniedBy(err); err != nil {
		return checked, answer, err
	}
	answer.Credentials = creds
	last := plan.Steps[len(plan.Steps)-1]
	if chain, err := d.chain(r); err == nil && (r.AdHoc == nil || r.AdHoc.ARN == "") && len(chain.Roles) > 0 {
		checked.Seconds = int(chain.Roles[len(chain.Roles)-1].Duration.Seconds())
	}
	if checked.NoDevice = plan.Steps[0].MFASerial == ""; checked.NoDevice {
		checked.WithoutMFA = checked.WithMFA
	} else {
		_, _, err := d.Broker.Check(ctx, r, session.WithoutMFA)
		if checked.WithoutMFA, err = deniedBy(err); err != nil {
			return checked, answer, err
		}
	}
	if checked.WithMFA != nil {
		return checked, answer, nil
	}
	if last.ExternalID != "" {
		_, _, err := d.Broker.Check(ctx, r, session.WithoutExternalID)
		without, err := deniedBy(err)
		if err != nil {
			return checked, answer, err
		}
		if checked.ExternalID = "ignored"; without != nil {
			checked.ExternalID = "required"
		}
	}
	endpoint, err := d.globalEndpoint(r)
	if err != nil {
		return checked, answer, err
	}
	longest, tagged, err := d.AWS.Role(ctx, creds, endpoint, last.RoleARN)
	switch why, err := deniedBy(err); {
	case err != nil:
		return checked, answer, err
	case why != nil: // the role may not read about itself
		return checked, answer, nil
	}
	checked.MaxSeconds, checked.Tags = int(longest/time.Second), "refused"
	if tagged {
		checked.Tags = "accepted"
	}
	return checked, answer, nil
}

// deniedBy returns the refusal of an error by which AWS denied something, or any other error.
func deniedBy(err error) (*wire.Refusal, error) {
	if fault.Is(err, fault.Denied) {
		return &wire.Refusal{Message: fault.Line(err.Error())}, nil
	}
	return nil, err
}
