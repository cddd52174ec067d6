package exchange

import (
	"cmp"
	"context"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sso"
	"github.com/aws/aws-sdk-go-v2/service/sso/types"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
)

// The calls to the portal of IAM Identity Center, with an access token in place of a signature. The region of the
// endpoint is sso_region. https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/Welcome.html

// roleNameSyntax is that of IAM. The name of a permission set is shorter.
var roleNameSyntax = lazyregexp.New(`^[\w+=,.@-]{1,64}$`)

// pageOfPortal is the longest page that the portal accepts.
const pageOfPortal = 100

// AssignedAccount is an account in which a person has a role.
type AssignedAccount struct {
	ID   string // twelve digits
	Name string // any text, at most 250 bytes of valid UTF-8
}

// AssignedAccounts lists the accounts in which the person has a role, in AWS's order.
//
// Faults: ExpiredSession if the access token is not valid any more, Denied, Network, Throttled, BadAnswer, Config.
// https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_ListAccounts.html
func (c *Client) AssignedAccounts(
	ctx context.Context, e profiles.Endpoint, access secret.String,
) ([]AssignedAccount, error) {
	return list(ctx, c, portalRequest("list the accounts of the portal", e, access), (*attempt).answersJSON,
		func(ctx context.Context, a *attempt, token *string) (*sso.ListAccountsOutput, error) {
			return a.portal().ListAccounts(ctx, &sso.ListAccountsInput{AccessToken: aws.String(access.Reveal()),
				MaxResults: aws.Int32(pageOfPortal), NextToken: token})
		},
		func(out *sso.ListAccountsOutput) ([]types.AccountInfo, *string) {
			return out.AccountList, out.NextToken
		},
		func(a *attempt, found types.AccountInfo) (AssignedAccount, error) {
			id, name := aws.ToString(found.AccountId), aws.ToString(found.AccountName)
			switch {
			case !accountSyntax.MatchString(id):
				return AssignedAccount{}, a.badField("accountId", id)
			case len(name) > maxAccountName || !utf8.ValidString(name):
				return AssignedAccount{}, a.badField("accountName", name)
			}
			return AssignedAccount{ID: id, Name: name}, nil
		})
}

// AssignedRoles lists the names of the permission sets that a person has in an account, in AWS's order. Its faults
// are those of AssignedAccounts.
// https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_ListAccountRoles.html
func (c *Client) AssignedRoles(
	ctx context.Context, e profiles.Endpoint, access secret.String, account string,
) ([]string, error) {
	if !accountSyntax.MatchString(account) {
		return nil, fault.New(fault.Config, "list the roles of the portal: account %q is not twelve digits", account)
	}
	return list(ctx, c, portalRequest("list the roles in account "+account, e, access), (*attempt).answersJSON,
		func(ctx context.Context, a *attempt, token *string) (*sso.ListAccountRolesOutput, error) {
			return a.portal().ListAccountRoles(ctx, &sso.ListAccountRolesInput{AccessToken: aws.String(access.Reveal()),
				AccountId: aws.String(account), MaxResults: aws.Int32(pageOfPortal), NextToken: token})
		},
		func(out *sso.ListAccountRolesOutput) ([]types.RoleInfo, *string) { return out.RoleList, out.NextToken },
		func(a *attempt, found types.RoleInfo) (string, error) {
			id, name := aws.ToString(found.AccountId), aws.ToString(found.RoleName)
			switch {
			case id != account:
				return "", a.badField("accountId", id)
			case !roleNameSyntax.MatchString(name):
				return "", a.badField("roleName", name)
			}
			return name, nil
		})
}

// EndPortal ends a session of the portal at AWS. Credentials of roles stay valid until they expire. A session that
// has ended already is no error. Faults: Network, Throttled, BadAnswer, Config.
// https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_Logout.html
func (c *Client) EndPortal(ctx context.Context, e profiles.Endpoint, access secret.String) error {
	q := portalRequest("end the session of the portal", e, access)
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		_, err := a.portal().Logout(ctx, &sso.LogoutInput{AccessToken: aws.String(access.Reveal())})
		if err == nil && a.look != looksEmpty && a.look != looksLikeJSON {
			return a.noAnswer()
		}
		return err
	})
	if fault.Is(err, fault.ExpiredSession) {
		return nil
	}
	return err
}

// roleCredentials is Assume for GetRoleCredentials. The permission set alone decides how long the credentials last. The
// answer does not say whose credentials it has, so their Subject is empty.
// https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html
func (c *Client) roleCredentials(
	ctx context.Context, access secret.String, call session.Call,
) (session.Credentials, error) {
	switch {
	case !accountSyntax.MatchString(call.AccountID):
		return session.Credentials{}, fault.New(fault.Config, "get credentials of the portal: account %q is not twelve digits", call.AccountID)
	case !roleNameSyntax.MatchString(call.RoleName):
		return session.Credentials{}, fault.New(fault.Config, "get credentials of the portal: %q is not the name of a permission set", call.RoleName)
	}
	q := portalRequest("get credentials of "+call.RoleName+" in account "+call.AccountID, call.Endpoint, access)
	// The portal takes no such parameters. A policy that is left out would widen the session.
	if call.Policy != "" || call.PolicyARN != "" || call.MFASerial != "" || call.ExternalID != "" ||
		call.SourceIdentity != "" || len(call.Tags) > 0 || len(call.TransitiveTags) > 0 {
		return session.Credentials{}, fault.New(fault.Internal, "%s: the call has a parameter that the portal does not have", q.verb)
	}
	q.explain = func(a *attempt, r refusedCall) *fault.Error {
		if a.status == http.StatusForbidden || a.status == http.StatusNotFound {
			return a.fault(fault.Denied, nil, "%s is not assigned to you in account %s (a new assignment takes a minute or two): %s",
				call.RoleName, call.AccountID, a.words(cmp.Or(r.message, r.code)))
		}
		return a.failureOfPortal(r)
	}
	in := &sso.GetRoleCredentialsInput{AccessToken: aws.String(access.Reveal()), AccountId: aws.String(call.AccountID),
		RoleName: aws.String(call.RoleName)}
	var got session.Credentials
	err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
		out, err := a.portal().GetRoleCredentials(ctx, in)
		if err != nil {
			return err
		}
		var answered *ststypes.Credentials
		if r := out.RoleCredentials; r != nil {
			answered = &ststypes.Credentials{AccessKeyId: r.AccessKeyId, SecretAccessKey: r.SecretAccessKey,
				SessionToken: r.SessionToken, Expiration: aws.Time(time.UnixMilli(r.Expiration))}
		}
		got, err = a.credentials(answered, maxRoleSession)
		return err
	})
	return got, err
}

func portalRequest(verb string, e profiles.Endpoint, access secret.String) request {
	return request{verb: verb, endpoint: e, service: "IAM Identity Center", secrets: []secret.String{access},
		form: looksLikeJSON, regional: true, explain: (*attempt).failureOfPortal}
}

// failureOfPortal describes the refusals of the portal. Its model does not have 403, which is the answer for an account
// or a role that is not assigned; see docs/aws-facts.md.
func (a *attempt) failureOfPortal(r refusedCall) *fault.Error {
	words := a.words(cmp.Or(r.message, r.code))
	switch a.status {
	case http.StatusUnauthorized:
		return a.fault(fault.ExpiredSession, nil, "the session of the portal has ended: %s", words)
	case http.StatusForbidden, http.StatusNotFound:
		return a.fault(fault.Denied, nil, "AWS denied it: %s", words)
	}
	return nil
}

// portal returns the SDK's client of the portal for this one request; see location.options.
func (a *attempt) portal() *sso.Client {
	return sso.New(sso.Options{AppID: "broker", Region: a.to.region, BaseEndpoint: text(a.to.url),
		EndpointOptions: sso.EndpointResolverOptions{UseFIPSEndpoint: a.to.fipsState()}, Retryer: aws.NopRetryer{},
		DisableClockSkewCorrection: true, HTTPClient: a})
}
