package cli

import (
	"context"
	"sync"
)

// callsAtOnce is how many roles are tried in parallel. AWS limits the calls of an account.
const callsAtOnce = 4

// inParallel calls do for each index below n, callsAtOnce at a time. The first error ends it and is returned; calls in
// flight are canceled.
func inParallel(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		mu     sync.Mutex
		wg     sync.WaitGroup
		failed error
		queue  = make(chan int)
	)
	for range min(callsAtOnce, n) {
		wg.Go(func() {
			for i := range queue {
				if err := do(ctx, i); err != nil {
					mu.Lock()
					if failed == nil {
						failed = err
						cancel()
					}
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		select {
		case queue <- i:
		case <-ctx.Done():
		}
	}
	close(queue)
	wg.Wait()
	if failed == nil {
		return context.Cause(ctx)
	}
	return failed
}
