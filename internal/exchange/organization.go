package exchange

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/organizations/types"

	"broker/internal/fault"
	"broker/internal/lazyregexp"
	"broker/internal/profiles"
)

// Limits of AWS for organizational units: five levels below the root, and 2000 in all.
// https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html
const (
	maxUnits    = 2000
	maxUnitName = 128
	// maxUnitPath limits a path, in bytes, because others choose the names. A longer one is cut.
	maxUnitPath = 840
)

// unitID is the form of the id of a root or an organizational unit.
var unitID = lazyregexp.New(`^(r-[0-9a-z]{4,32}|ou-[0-9a-z]{4,32}-[a-z0-9]{8,32})$`)

// AllAccounts lists all accounts of an organization, in AWS's order, with their organizational units. It makes two
// calls for each unit, one after the other, and none for an account. If AWS denies these calls, the paths are empty,
// and denied says why. Its faults are those of Accounts.
// https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListOrganizationalUnitsForParent.html
// https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListAccountsForParent.html
func (c *Client) AllAccounts(
	ctx context.Context, keys Keys, endpoint profiles.Endpoint,
) (all []Account, denied, err error) {
	if all, err = c.listed(ctx, keys, endpoint); err != nil {
		return nil, nil, err
	}
	w := walk{client: c, keys: keys, endpoint: endpoint, paths: map[string]string{}}
	if err := w.roots(ctx); err != nil {
		if fault.Is(err, fault.Denied) {
			return all, err, nil
		}
		return nil, nil, err
	}
	for i := range all {
		all[i].Path = w.paths[all[i].ID]
	}
	return all, nil, nil
}

// walk goes through the organizational units.
type walk struct {
	client   *Client
	keys     Keys
	endpoint profiles.Endpoint
	units    int
	paths    map[string]string // of each account, by its id
}

// unit is a root or an organizational unit.
type unit struct{ id, path string }

func (w *walk) request(what string) request {
	return request{verb: "list the " + what, keys: w.keys, endpoint: w.endpoint, service: "Organizations"}
}

func (w *walk) roots(ctx context.Context) error {
	found, err := list(ctx, w.client, w.request("roots of the organization"), (*attempt).answersJSON,
		func(ctx context.Context, a *attempt, token *string) (*organizations.ListRootsOutput, error) {
			return a.organizations().ListRoots(ctx, &organizations.ListRootsInput{NextToken: token})
		},
		func(out *organizations.ListRootsOutput) ([]types.Root, *string) { return out.Roots, out.NextToken },
		func(a *attempt, root types.Root) (unit, error) { return a.unit("", root.Id, root.Name) })
	for len(found) > 0 && err == nil {
		next := found[0]
		found = found[1:]
		if w.units++; w.units > maxUnits {
			return fault.New(fault.BadAnswer, "the organization has more than %d organizational units", maxUnits)
		}
		if err = w.accounts(ctx, next); err == nil {
			var below []unit
			below, err = w.below(ctx, next)
			found = append(found, below...)
		}
	}
	return err
}

// accounts records the path of the accounts that are directly in a unit.
func (w *walk) accounts(ctx context.Context, in unit) error {
	ids, err := list(ctx, w.client, w.request("accounts of "+in.id), (*attempt).answersJSON,
		func(ctx context.Context, a *attempt, token *string) (*organizations.ListAccountsForParentOutput, error) {
			return a.organizations().ListAccountsForParent(ctx,
				&organizations.ListAccountsForParentInput{ParentId: &in.id, NextToken: token})
		},
		func(out *organizations.ListAccountsForParentOutput) ([]types.Account, *string) {
			return out.Accounts, out.NextToken
		},
		func(_ *attempt, account types.Account) (string, error) { return aws.ToString(account.Id), nil })
	for _, id := range ids {
		w.paths[id] = in.path
	}
	return err
}

// below returns the units that are directly in a unit.
func (w *walk) below(ctx context.Context, in unit) ([]unit, error) {
	type output = organizations.ListOrganizationalUnitsForParentOutput
	return list(ctx, w.client, w.request("units of "+in.id), (*attempt).answersJSON,
		func(ctx context.Context, a *attempt, token *string) (*output, error) {
			return a.organizations().ListOrganizationalUnitsForParent(ctx,
				&organizations.ListOrganizationalUnitsForParentInput{ParentId: &in.id, NextToken: token})
		},
		func(out *output) ([]types.OrganizationalUnit, *string) { return out.OrganizationalUnits, out.NextToken },
		func(a *attempt, ou types.OrganizationalUnit) (unit, error) {
			return a.unit(in.path+"/", ou.Id, ou.Name)
		})
}

// unit checks the fields of a root or an organizational unit.
func (a *attempt) unit(above string, id, name *string) (unit, error) {
	u := unit{aws.ToString(id), aws.ToString(name)}
	switch {
	case !unitID.MatchString(u.id):
		return unit{}, a.badField("Id", u.id)
	case u.path == "" || len(u.path) > maxUnitName*utf8.UTFMax || !utf8.ValidString(u.path):
		return unit{}, a.badField("Name", u.path)
	}
	if u.path = above + u.path; len(u.path) > maxUnitPath {
		u.path = strings.TrimSuffix(strings.ToValidUTF8(u.path[:maxUnitPath], ""), "…") + "…"
	}
	return u, nil
}
