package session

import (
	"context"
	"sync"
	"sync/atomic"

	"broker/internal/profiles"
)

// Logout removes the sessions of a source, or of all sources of the registry if source is empty. It returns how
// many sessions this Broker held. It removes the sessions that the vault keeps too. If that fails, it returns the
// error, but this Broker holds none of those sessions any more.
func (b *Broker) Logout(ctx context.Context, source string, files profiles.Files) (int, error) {
	// Count at the start and at the end, so that a fetch that overlaps with Logout notices.
	b.logout.count(source)
	kept := map[string]bool{}
	match := func(s *slot) bool {
		if source != "" && s.plan.Source.Name != source {
			return false
		}
		kept[s.plan.Source.Name] = true
		return true
	}
	n := b.cache.drop(match)
	b.tagAgain(source)
	var failed error
	if source != "" {
		kept[source] = true
	} else if set, err := b.cfg.Profiles.Load(files); err != nil {
		failed = err
	} else {
		for _, s := range set.Sources() {
			kept[s.Name] = true
		}
	}
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	errs := make(chan error)
	for name := range kept {
		go func() { errs <- b.cfg.Vault.Drop(ctx, name) }()
	}
	for range len(kept) {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	b.logout.count(source)
	b.cache.drop(match) // sessions that a fetch took from the vault meanwhile
	return n, failed
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
