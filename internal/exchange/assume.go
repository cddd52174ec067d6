package exchange

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/sts"

	"broker/internal/fault"
	"broker/internal/secret"
	"broker/internal/session"
)

// Assume makes an AssumeRole call signed with a session, a GetRoleCredentials call with an access token of IAM
// Identity Center, or an AssumeRoleWithWebIdentity call with a web identity token. It implements session.Assumer; its
// faults are those of Call, without CodeRejected.
func (c *Client) Assume(ctx context.Context, with session.Credentials, call session.Call) (session.Credentials, error) {
	switch {
	case with.SessionToken.IsZero():
		return session.Credentials{}, fault.New(fault.Internal, "assume %s: there is no session", call.RoleARN)
	case call.Operation == session.GetRoleCredentials:
		return c.roleCredentials(ctx, with.SessionToken, call)
	case call.Operation == session.AssumeRoleWithWebIdentity:
		return c.withWebIdentity(ctx, with.SessionToken, call)
	case call.Operation != session.AssumeRole:
		return session.Credentials{}, fault.New(fault.Internal, "assume %s: %q is not a call for a session", call.RoleARN, call.Operation)
	}
	keys := Keys{AccessKeyID: with.AccessKeyID, Secret: with.SecretAccessKey, Token: with.SessionToken}
	return c.Call(ctx, keys, call, secret.String{})
}

// withWebIdentity is Assume for AssumeRoleWithWebIdentity, a call that is not signed.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
func (c *Client) withWebIdentity(
	ctx context.Context, token secret.String, call session.Call,
) (session.Credentials, error) {
	q := request{verb: "assume " + call.RoleARN, endpoint: call.Endpoint, resource: call.RoleARN,
		secrets: []secret.String{token}, explain: (*attempt).failureOfWebIdentity}
	asked, ok := parseRole(call.RoleARN, call.Endpoint.Compatible)
	switch {
	case !ok:
		return session.Credentials{}, fault.New(fault.Config, "assume %q: this is not the ARN of a role", call.RoleARN)
	case call.SessionName == "":
		return session.Credentials{}, fault.New(fault.Internal, "%s: the call has no session name", q.verb)
	case !session.Visible(token.Reveal(), session.LongestWebIdentity):
		return session.Credentials{}, fault.New(fault.Config, "%s: the token is not printable ASCII of at most %d bytes",
			q.verb, session.LongestWebIdentity)
	case call.MFASerial != "", call.ExternalID != "", call.SourceIdentity != "", len(call.Tags) > 0,
		len(call.TransitiveTags) > 0:
		return session.Credentials{}, fault.New(fault.Internal, "%s: the call has a parameter that AssumeRoleWithWebIdentity does not have", q.verb)
	}
	in := &sts.AssumeRoleWithWebIdentityInput{RoleArn: text(call.RoleARN), RoleSessionName: text(call.SessionName),
		WebIdentityToken: text(token.Reveal()), DurationSeconds: seconds(call.Duration), Policy: text(call.Policy),
		PolicyArns: policies(call.PolicyARN)}
	var got session.Credentials
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		out, err := a.sts().AssumeRoleWithWebIdentity(ctx, in)
		if err != nil {
			return err
		}
		if got, err = a.credentials(out.Credentials, maxRoleSession); err != nil {
			return err
		}
		got.Subject, err = a.subject(asked, call.RoleARN, out.AssumedRoleUser)
		return err
	})
	if err != nil {
		return session.Credentials{}, err
	}
	return got, nil
}

// failureOfWebIdentity describes the refusals of a token.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
func (a *attempt) failureOfWebIdentity(r refusedCall) *fault.Error {
	words := a.words(r.message)
	switch r.code {
	case "InvalidIdentityToken", "InvalidIdentityTokenException", "IDPRejectedClaim":
		return a.fault(fault.Denied, nil, "AWS does not accept the web identity token: %s", words)
	case "IDPCommunicationError":
		return a.fault(fault.Network, nil, "AWS cannot reach the identity provider of the token: %s", words)
	}
	return nil
}
