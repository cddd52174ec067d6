package session

import (
	"context"
	"sync"
	"sync/atomic"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/system"
)

// Ended is what a logout ended.
type Ended struct {
	Sessions int      // that this Broker held
	Lost     []string // names of logins that no file names any more
	Unseen   bool     // the keyring was locked, so there may be more logins that no file names
}

// Logout removes the sessions of a source, or of all sources of the files if source is empty. It removes the sessions
// that the vault keeps too, and ends logins on a page at AWS. If that fails, it returns the error, but this Broker
// holds none of those sessions any more. A login may be known only by the files of the client that logged in. Where
// files differ about a source, the last ones count. A login that no file names any more is ended too.
func (b *Broker) Logout(ctx context.Context, source string, files ...profiles.Files) (ended Ended, failed error) {
	// Count at the start and at the end, so that a fetch that overlaps with Logout notices.
	b.logout.count(source)
	kept := map[string]profiles.Source{}
	match := func(s *slot) bool {
		if source != "" && s.plan.Source.Name != source {
			return false
		}
		kept[s.plan.Source.Name] = s.plan.Source
		return true
	}
	ended.Sessions = b.cache.drop(match)
	b.tagAgain(source)
	registry := ""
	for _, of := range files {
		registry = system.RealPath(of.Registry)
		all, err := b.sources(of)
		if source == "" && err != nil {
			failed = err
		}
		for _, s := range all {
			if source == "" || s.Name == source {
				kept[s.Name] = s
			}
		}
	}
	if _, found := kept[source]; !found {
		var err error
		ended.Lost, err = b.lost(ctx, source, registry, kept)
		ended.Unseen = source == "" && (fault.Is(err, fault.Locked) || fault.Is(err, fault.KeyringLocked))
		if err != nil && !ended.Unseen {
			failed = err
		}
		if source != "" {
			kept[source] = profiles.Source{Name: source} // the vault may keep a session of it all the same
		}
	}
	errs := make(chan error)
	for _, s := range kept {
		go func() { errs <- b.kindOf(s).logout(ctx, s) }()
	}
	for _, name := range ended.Lost {
		go func() { errs <- pageLogin{b}.logout(ctx, profiles.Source{Name: name, Registry: registry}) }()
	}
	for range len(kept) + len(ended.Lost) {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	b.logout.count(source)
	b.cache.drop(match) // sessions that a fetch took from the vault meanwhile
	return ended, failed
}

// lost returns the names of the logins in the keyring that are not among the known sources: the one of that name, or
// all if name is empty.
func (b *Broker) lost(
	ctx context.Context, name, registry string, known map[string]profiles.Source,
) (lost []string, err error) {
	if b.cfg.Logins == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	names, err := b.cfg.Logins.LoginNames(ctx, registry)
	for _, stored := range names {
		if _, found := known[stored]; !found && (name == "" || name == stored) {
			lost = append(lost, stored)
		}
	}
	return lost, err
}

// sources returns the sources of the files that keep anything.
func (b *Broker) sources(files profiles.Files) ([]profiles.Source, error) {
	set, err := b.cfg.Profiles.Load(files)
	if err != nil {
		return nil, err
	}
	settings, err := set.Settings()
	if err != nil {
		return nil, err
	}
	logins := set.LoginSources()
	for i := range logins {
		logins[i].Endpoint = logins[i].Endpoint.Replaced(settings.STSEndpoint)
	}
	return append(logins, set.Sources()...), nil
}

// logouts counts starts and ends of Logout, for each source. The empty name counts logouts of all sources.
type logouts struct{ counts sync.Map }

func (l *logouts) count(source string) {
	n, _ := l.counts.LoadOrStore(source, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
}

// of returns a number that changes with each logout that concerns a source.
func (l *logouts) of(source string) int64 {
	var sum int64
	for _, name := range []string{source, ""} {
		if n, ok := l.counts.Load(name); ok {
			sum += n.(*atomic.Int64).Load()
		}
	}
	return sum
}
