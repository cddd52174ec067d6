package cli

import (
	"context"
	"sync"

	"broker/internal/accounts"
	"broker/internal/fault"
	"broker/internal/wire"
)

// probesAtOnce is how many roles are tried in parallel. AWS limits the calls of an account.
const probesAtOnce = 4

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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer g.progress()()
	var (
		mu      sync.Mutex
		wg      sync.WaitGroup
		failed  error
		tried   int
		queue   = make(chan accounts.Profile)
		asked   = map[string]bool{}
		denials = map[string]string{}
	)
	for range min(probesAtOnce, len(want)) {
		wg.Go(func() {
			for w := range queue {
				err := g.tryRole(ctx, w)
				mu.Lock()
				switch {
				case err == nil:
					tried++
				case fault.Is(err, fault.Denied):
					tried++
					denials[w.RoleARN] = err.Error()
				case failed == nil:
					failed = err
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	for _, w := range want {
		if asked[w.RoleARN] {
			continue
		}
		asked[w.RoleARN] = true
		select {
		case queue <- w:
		case <-ctx.Done():
		}
	}
	close(queue)
	wg.Wait()
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
