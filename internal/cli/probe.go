package cli

import (
	"context"
	"slices"
	"sync"

	"broker/internal/accounts"
	"broker/internal/fault"
	"broker/internal/wire"
)

// tryRoles asks the daemon for each role once. It returns the roles that AWS denies, with the reasons. One code
// serves all of them. Any other error ends it, also if AWS throttles the calls, because the other roles are then
// unknown.
func (g *generation) tryRoles(ctx context.Context, want []accounts.Profile) (refused map[string]string, err error) {
	if len(want) == 0 {
		return nil, nil
	}
	if _, err := g.ask(ctx, wire.Request{Verb: wire.Login, Profile: g.source.Profile}); err != nil {
		return nil, err
	}
	defer g.progress()()
	var (
		mu      sync.Mutex
		tried   int
		denials = map[string]string{}
		roles   []accounts.Profile // each role once
	)
	for _, w := range want {
		if !slices.ContainsFunc(roles, func(r accounts.Profile) bool { return r.RoleARN == w.RoleARN }) {
			roles = append(roles, w)
		}
	}
	failed := inParallel(ctx, len(roles), func(ctx context.Context, i int) error {
		err := g.tryRole(ctx, roles[i])
		mu.Lock()
		defer mu.Unlock()
		if fault.Is(err, fault.Denied) {
			denials[roles[i].RoleARN], err = err.Error(), nil
		}
		if err == nil {
			tried++
		}
		return err
	})
	if failed == nil {
		return denials, nil
	}
	f := fault.Of(failed)
	if f.Kind == fault.Throttled {
		return nil, fault.New(f.Kind, "AWS asks to slow down after %d of %d roles, so nothing was changed; try again later", tried, len(want)).WithHint("%s", g.again)
	}
	return nil, failed
}

// tryRole requests what the profile would request, but without its duration: more than an hour would need a code
// for each role.
func (g *generation) tryRole(ctx context.Context, w accounts.Profile) error {
	resp, err := g.client.Do(ctx, wire.Request{Verb: wire.Get, Profile: g.source.Profile,
		Role: &wire.Role{ARN: w.RoleARN, ExternalID: w.ExternalID, MFASerial: w.MFASerial, Region: w.Region}})
	if err != nil {
		return err
	}
	return ofRole(resp, w.RoleARN)
}
