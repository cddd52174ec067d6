package exchange

import (
	"context"
	"sync"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// Assignment is a permission set that a person has in an account.
type Assignment struct {
	AccountID string // twelve digits
	Account   string // its name, as in AssignedAccount
	Role      string // name of the permission set
}

// listsAtOnce is how many accounts Assigned asks about in parallel.
const listsAtOnce = 4

// throttledPause is how long Assigned waits after the portal said that it was asked too often, the first time. Each
// further wait is twice as long. With throttledTries of them it gives up after half a minute.
const (
	throttledPause = 2 * time.Second
	throttledTries = 5
)

// Assigned lists every permission set that the person has in any account, in AWS's order. Its faults are those of
// AssignedAccounts.
func (c *Client) Assigned(ctx context.Context, e profiles.Endpoint, access secret.String) ([]Assignment, error) {
	var found []AssignedAccount
	err := patient(ctx, func() (err error) {
		found, err = c.AssignedAccounts(ctx, e, access)
		return err
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	roles := make([][]string, len(found))
	queue := make(chan int)
	var all sync.WaitGroup
	for range min(listsAtOnce, len(found)) {
		all.Go(func() {
			for i := range queue {
				err := patient(ctx, func() (err error) {
					roles[i], err = c.AssignedRoles(ctx, e, access, found[i].ID)
					return err
				})
				if err != nil {
					cancel(err) // only the first error counts
				}
			}
		})
	}
	for i := range found {
		select {
		case queue <- i:
		case <-ctx.Done():
		}
	}
	close(queue)
	all.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var list []Assignment
	for i, account := range found {
		for _, role := range roles[i] {
			list = append(list, Assignment{account.ID, account.Name, role})
		}
	}
	return list, nil
}

// patient repeats a call that AWS throttles. Its own attempts are for one call, and not for a list of hundreds.
func patient(ctx context.Context, call func() error) error {
	wait := throttledPause
	for try := 1; ; try++ {
		err := call()
		if !fault.Is(err, fault.Throttled) || try == throttledTries || !pause(ctx, wait) {
			return err
		}
		wait *= 2
	}
}
