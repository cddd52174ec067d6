package exchange

import (
	"cmp"
	"context"
	"slices"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/organizations/types"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/partition"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// The calls to other services than STS. Both services are global: from any region of a partition, the SDK's rules
// derive the partition's only endpoint. https://docs.aws.amazon.com/general/latest/gr/iam-service.html
// https://docs.aws.amazon.com/general/latest/gr/ao.html

// maxPages limits how many pages a list may have.
const maxPages = 100

// Account is one account of an organization.
type Account struct {
	ID   string // twelve digits
	Name string // the name that people gave it: any text, at most 250 bytes of valid UTF-8
	// Management says that this is the organization's management account.
	Management bool
	State      string // as AWS names it, such as ACTIVE or SUSPENDED
	// Path has the names of the organizational units with a slash between them, from the root on. Only AllAccounts
	// sets it.
	Path string
}

// Accounts lists the active accounts of an organization, in AWS's order. The keys must belong to its management
// account or to a delegated administrator. Its faults are those of Call, without CodeRejected: Denied if the keys
// belong to any other account, BadAnswer after 100 pages.
// https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListAccounts.html
func (c *Client) Accounts(ctx context.Context, keys Keys, endpoint profiles.Endpoint) ([]Account, error) {
	all, err := c.listed(ctx, keys, endpoint)
	return slices.DeleteFunc(all, func(a Account) bool { return a.State != string(types.AccountStateActive) }), err
}

// listed lists all accounts of an organization.
func (c *Client) listed(ctx context.Context, keys Keys, endpoint profiles.Endpoint) ([]Account, error) {
	q := request{verb: "list the accounts of the organization", keys: keys, endpoint: endpoint, service: "Organizations"}
	return list(ctx, c, q, (*attempt).answersJSON,
		func(ctx context.Context, a *attempt, token *string) (*organizations.ListAccountsOutput, error) {
			return a.organizations().ListAccounts(ctx, &organizations.ListAccountsInput{NextToken: token})
		},
		func(out *organizations.ListAccountsOutput) ([]types.Account, *string) {
			return out.Accounts, out.NextToken
		},
		(*attempt).account)
}

// account checks the fields of an account.
func (a *attempt) account(found types.Account) (Account, error) {
	id, name := aws.ToString(found.Id), aws.ToString(found.Name)
	// State replaces Status, which AWS removes in September 2026.
	state := cmp.Or(string(found.State), string(found.Status))
	switch {
	case !accountSyntax.MatchString(id):
		return Account{}, a.badField("Id", id)
	case len(name) > maxAccountName || !utf8.ValidString(name):
		return Account{}, a.badField("Name", name)
	case !stateSyntax.MatchString(state):
		return Account{}, a.badField("State", state)
	}
	// arn:PARTITION:organizations::MANAGEMENT:account/o-…/ID
	management := partition.AccountOfARN(aws.ToString(found.Arn))
	return Account{ID: id, Name: name, Management: management == id, State: state}, nil
}

// stateSyntax is the form of AWS's names for the state of an account.
var stateSyntax = lazyregexp.New(`^[A-Z_]{1,40}$`)

// maxAccountName is five times what AWS allows, in case AWS raises its limit.
const maxAccountName = 250

// Devices lists the serials of the MFA devices of the IAM user whose keys these are: ARNs, or serial numbers of
// hardware devices. Many users may not call this without a code; then the fault is Denied. The other faults are
// those of Call, without CodeRejected. https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListMFADevices.html
func (c *Client) Devices(ctx context.Context, keys Keys, endpoint profiles.Endpoint) ([]string, error) {
	q := iamRequest("list the MFA devices of key "+secret.Tail(keys.AccessKeyID), keys, endpoint)
	return list(ctx, c, q, func(a *attempt) bool { return a.answers("ListMFADevices") },
		func(ctx context.Context, a *attempt, token *string) (*iam.ListMFADevicesOutput, error) {
			return a.iam().ListMFADevices(ctx, &iam.ListMFADevicesInput{Marker: token})
		},
		func(out *iam.ListMFADevicesOutput) ([]iamtypes.MFADevice, *string) { return out.MFADevices, out.Marker },
		func(a *attempt, device iamtypes.MFADevice) (string, error) {
			serial := aws.ToString(device.SerialNumber)
			if !serialSyntax.MatchString(serial) || len(serial) > maxSerial {
				return "", a.badField("SerialNumber", serial)
			}
			return serial, nil
		})
}

// maxSerial and serialSyntax are AWS's own limits for a serial number.
const maxSerial = 256

var serialSyntax = lazyregexp.New(`^[\w+=/:,.@-]{9,}$`)

// list requests a list, one page after the other, each with its own attempts and timeout. send asks for the page of a
// token, answered tells whether its answer is one of the service, of returns what the page has and the token of the
// next one, and check reads one element. IAM sends a Marker only if there is a next page.
func list[Page, Element, Item any](
	ctx context.Context,
	c *Client,
	q request,
	answered func(*attempt) bool,
	send func(ctx context.Context, a *attempt, token *string) (*Page, error),
	of func(*Page) (found []Element, next *string),
	check func(*attempt, Element) (Item, error),
) (all []Item, err error) {
	var token *string
	for range maxPages {
		var next *string
		var items []Item
		err := c.ask(ctx, q, func(ctx context.Context, a *attempt) error {
			page, err := send(ctx, a, token)
			switch {
			case err != nil:
				return err
			case !answered(a):
				return a.noAnswer()
			}
			var found []Element
			found, next = of(page)
			for _, element := range found {
				item, err := check(a, element)
				if err != nil {
					return err
				}
				items = append(items, item)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if all = append(all, items...); aws.ToString(next) == "" {
			return all, nil
		}
		if token != nil && *token == *next {
			break
		}
		token = next
	}
	return nil, fault.New(fault.BadAnswer, "%s: %s returned an endless list", q.verb, q.service)
}

// answersJSON reports whether the body may be an answer of a service that answers in JSON.
func (a *attempt) answersJSON() bool { return a.look == looksLikeJSON }

// iam returns the SDK's IAM client for this one request; see location.options.
func (a *attempt) iam() *iam.Client {
	return iam.New(iam.Options{AppID: "broker", Region: a.to.region, BaseEndpoint: text(a.to.url),
		EndpointOptions: iam.EndpointResolverOptions{UseFIPSEndpoint: a.to.fipsState()}, Retryer: aws.NopRetryer{},
		DisableClockSkewCorrection: true, HTTPClient: a, HTTPSignerV4: a, Credentials: a})
}

// organizations returns the SDK's client of AWS Organizations for this one request.
func (a *attempt) organizations() *organizations.Client {
	return organizations.New(organizations.Options{AppID: "broker", Region: a.to.region, BaseEndpoint: text(a.to.url),
		EndpointOptions: organizations.EndpointResolverOptions{UseFIPSEndpoint: a.to.fipsState()}, Retryer: aws.NopRetryer{},
		DisableClockSkewCorrection: true, HTTPClient: a, HTTPSignerV4: a, Credentials: a})
}
