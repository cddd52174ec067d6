package exchange

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"broker/internal/fault"
	"broker/internal/session"
)

// federate is Call for GetFederationToken. A session without a policy could do nothing, so it requires one.
func (c *Client) federate(ctx context.Context, q request, call session.Call) (session.Credentials, error) {
	q.verb = "federate as " + call.SessionName
	q.resource = call.PolicyARN
	if call.MFASerial != "" || call.Policy == "" && call.PolicyARN == "" {
		return session.Credentials{}, fault.New(fault.Internal, "%s: the call has a device, or no policy", q.verb)
	}
	in := &sts.GetFederationTokenInput{
		Name:            aws.String(call.SessionName),
		DurationSeconds: seconds(call.Duration),
		Policy:          text(call.Policy),
		PolicyArns:      policies(call.PolicyARN),
		Tags:            tags(call.Tags),
	}
	var got session.Credentials
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		out, err := a.sts().GetFederationToken(ctx, in)
		if err != nil {
			return err
		}
		if got, err = a.credentials(out.Credentials, maxSessionToken); err != nil {
			return err
		}
		var arn string
		if out.FederatedUser != nil {
			arn = aws.ToString(out.FederatedUser.Arn)
		}
		// arn:PARTITION:sts::ACCOUNT:federated-user/NAME
		if user, name, ok := parseARN(arn, "sts", "federated-user/"); !ok || !accountSyntax.MatchString(user.account) ||
			!strings.EqualFold(name, call.SessionName) {
			return a.badField("FederatedUser", arn)
		}
		got.Subject = arn
		return nil
	})
	if err != nil {
		return session.Credentials{}, err
	}
	return got, nil
}
