package cli

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"broker/internal/accounts"
	"broker/internal/fault"
	"broker/internal/partition"
	"broker/internal/profiles"
	"broker/internal/wire"
)

// fromPortal makes a map from what a portal of IAM Identity Center assigns to the person who is logged in. The daemon
// asks the portal: the access token does not come here.
func (g *generation) fromPortal(typed string) error {
	for _, option := range []string{"role", "source", "probe"} {
		if g.c.IsSet(option) {
			return fault.New(fault.Usage, "--%s does not go with --from-sso: the portal says which roles you have", option).
				WithHint("%s", g.again)
		}
	}
	byAccount, err := patterns(g.c.StringSlice("accounts"))
	if err != nil {
		return fault.Of(err).WithHint("%s --accounts 'prod-*'", g.again)
	}
	byRole, err := patterns(g.c.StringSlice("roles"))
	if err != nil {
		return fault.Of(err).WithHint("%s --roles 'ReadOnly*'", g.again)
	}
	if g.set, err = g.program.set(); err != nil {
		return err
	}
	name, err := g.set.FindLogin(typed)
	if err != nil {
		return err
	}
	source, ok, err := g.set.LoginSource(name)
	switch {
	case err != nil:
		return err
	case !ok || source.Kind != profiles.Portal:
		return fault.New(fault.Usage, "%q is not a session of IAM Identity Center", name).WithHint("broker profiles list")
	}
	g.portal = source
	of := cmp.Or(partition.OfRegion(source.Endpoint.Region), partition.Default)
	region := g.c.String("region")
	if err := g.checkRegion(region, of); err != nil {
		return err
	}
	resp, err := g.ask(g.c.Context, wire.Request{Verb: wire.Assigned, Profile: name})
	if err != nil {
		return err
	}
	var list []accounts.Assigned
	for _, a := range resp.Assigned {
		if byAccount.match(a.Account, a.AccountID) && byRole.match(a.Role) {
			list = append(list, accounts.Assigned{ID: a.AccountID, Name: a.Account, Role: a.Role})
		}
	}
	switch {
	// Without these, --prune would remove every profile because of a typing mistake.
	case len(resp.Assigned) == 0:
		return fault.New(fault.NotFound, "%s assigns no account to you; ask who administers it", source.Name).
			WithHint("broker logout %s", source.Name)
	case len(list) == 0:
		return fault.New(fault.NotFound, "none of your %d permission sets in accounts matches --accounts and --roles",
			len(resp.Assigned)).WithHint("%s --dry-run", g.again)
	}
	m := accounts.OfPortal(source.Name, of, region, list)
	m.Product = g.c.String("product")
	if err := g.run(m); err != nil || region != "" {
		return err
	}
	g.say("note: these profiles have no region, which most AWS tools need: add --region REGION")
	return nil
}

// patternList is a list of patterns. A text matches if one of them does, and always if the list is empty.
type patternList []string

// patterns checks the patterns of an option. Each value may be a list.
func patterns(values []string) (list patternList, err error) {
	for _, value := range values {
		for _, pattern := range strings.Split(value, ",") {
			if _, err := path.Match(plain(pattern), ""); err != nil || pattern == "" {
				return nil, fault.New(fault.Usage, "%.60q is not a pattern: use * for any text and ? for one character", pattern)
			}
			list = append(list, plain(pattern))
		}
	}
	return list, nil
}

// match reports whether a pattern matches one of the texts, whatever the case of their letters.
func (l patternList) match(texts ...string) bool {
	return len(l) == 0 || slices.ContainsFunc(texts, func(text string) bool {
		return slices.ContainsFunc(l, func(pattern string) bool {
			ok, _ := path.Match(pattern, plain(text))
			return ok
		})
	})
}

// plain makes a text comparable. A * of path.Match does not match a slash, but names of accounts have slashes.
func plain(text string) string { return strings.ToLower(strings.ReplaceAll(text, "/", "-")) }
