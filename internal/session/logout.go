package session

import (
	"context"
	"sync"
	"sync/atomic"

	"broker/internal/profiles"
)

// Logout forgets the sessions of a source, or of all sources of the registry
// where source is empty, and returns how many were held here. Those that the vault
// keeps go too; the error says where that failed, and then nothing is held here either.
func (b *Broker) Logout(ctx context.Context, source string, files profiles.Files) (int, error) {
	// At both ends, so that a fetch that overlaps with it in any way notices.
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
	b.cache.drop(match) // what was found in the vault meanwhile
	return n, failed
}

// logouts counts the beginnings and ends of Logout, for each source and, under the empty name, of all at once.
type logouts struct{ counts sync.Map }

func (l *logouts) count(source string) {
	n, _ := l.counts.LoadOrStore(source, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
}

// of is another number after each logout that concerned a source.
func (l *logouts) of(source string) int64 {
	var sum int64
	for _, name := range []string{source, ""} {
		if n, ok := l.counts.Load(name); ok {
			sum += n.(*atomic.Int64).Load()
		}
	}
	return sum
}
