package exchange

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/organizations"

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

func (w *walk) pages(
	ctx context.Context, what string, page func(context.Context, *attempt, *string) (*string, error),
) error {
	q := request{verb: "list the " + what, keys: w.keys, endpoint: w.endpoint, service: "Organizations"}
	return w.client.pages(ctx, q, page)
}

func (w *walk) roots(ctx context.Context) error {
	var found []unit
	err := w.pages(ctx, "roots of the organization", func(ctx context.Context, a *attempt, token *string) (*string, error) {
		out, err := a.organizations().ListRoots(ctx, &organizations.ListRootsInput{NextToken: token})
		if err != nil {
			return nil, err
		}
		if a.look != looksLikeJSON {
			return nil, a.noAnswer()
		}
		for _, r := range out.Roots {
			u, err := a.unit("", r.Id, r.Name)
			if err != nil {
				return nil, err
			}
			found = append(found, u)
		}
		return out.NextToken, nil
	})
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
	return w.pages(ctx, "accounts of "+in.id, func(ctx context.Context, a *attempt, token *string) (*string, error) {
		out, err := a.organizations().ListAccountsForParent(ctx,
			&organizations.ListAccountsForParentInput{ParentId: &in.id, NextToken: token})
		if err != nil {
			return nil, err
		}
		if a.look != looksLikeJSON {
			return nil, a.noAnswer()
		}
		for _, found := range out.Accounts {
			w.paths[aws.ToString(found.Id)] = in.path
		}
		return out.NextToken, nil
	})
}

// below returns the units that are directly in a unit.
func (w *walk) below(ctx context.Context, in unit) (found []unit, err error) {
	err = w.pages(ctx, "units of "+in.id, func(ctx context.Context, a *attempt, token *string) (*string, error) {
		out, err := a.organizations().ListOrganizationalUnitsForParent(ctx,
			&organizations.ListOrganizationalUnitsForParentInput{ParentId: &in.id, NextToken: token})
		if err != nil {
			return nil, err
		}
		if a.look != looksLikeJSON {
			return nil, a.noAnswer()
		}
		for _, ou := range out.OrganizationalUnits {
			u, err := a.unit(in.path+"/", ou.Id, ou.Name)
			if err != nil {
				return nil, err
			}
			found = append(found, u)
		}
		return out.NextToken, nil
	})
	return found, err
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
