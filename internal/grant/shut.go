package grant

import (
	"errors"
	"slices"
	"time"

	"broker/internal/fault"
)

// Shut is called once Locked says so. It takes all sessions back that were put somewhere. When it returns nothing
// leaves any more; the error says where a session still is, which is tried again.
func (k *Keeper) Shut() error {
	// First: what is just put into the shared file may keep us waiting.
	_ = k.commands.clear(k.all(func(h *held) bool { return h.Kind == Files }))
	// What is leaving had passed the look at the lock before.
	k.gate.Lock()
	k.gate.Unlock() //nolint:staticcheck // waiting is all
	list := k.all(func(*held) bool { return true })
	k.shut(list, func(*held) {})
	return left(k.clear(list))
}

// Resume goes on at once after an unlock.
func (k *Keeper) Resume() {
	k.LastUse.Store(time.Now().Unix())
	k.again(func(*held) bool { return true })
}

// Logout shuts all grants of a source, of all sources if it is empty, until Login of that source: a program that
// runs on would otherwise have a new session at once. The error is as for Shut.
func (k *Keeper) Logout(source string) error {
	list := k.all(func(h *held) bool { return source == "" || slices.Contains(h.Sources, source) })
	k.shut(list, func(h *held) {
		for _, of := range h.Sources {
			if (source == "" || of == source) && !slices.Contains(h.LoggedOut, of) {
				h.LoggedOut = append(h.LoggedOut, of)
			}
		}
	})
	return left(k.clear(list))
}

// Login goes on with what Logout of the source shut.
func (k *Keeper) Login(source string) {
	k.mu.Lock()
	for _, h := range k.grants {
		h.LoggedOut = slices.DeleteFunc(h.LoggedOut, func(of string) bool { return of == source })
	}
	k.keepLocked()
	k.mu.Unlock()
	k.again(func(h *held) bool { return slices.Contains(h.Sources, source) })
}

// Used says that somebody used a source: what waited for that need not wait any more.
func (k *Keeper) Used(source string) {
	k.LastUse.Store(time.Now().Unix())
	if k.waiting.Load() {
		k.again(func(h *held) bool {
			return h.waits && (len(h.Sources) == 0 || slices.Contains(h.Sources, source))
		})
	}
}

// again renews grants at once.
func (k *Keeper) again(match func(*held) bool) {
	for _, h := range k.all(match) {
		k.mu.Lock()
		h.next, h.waits = time.Time{}, false
		k.mu.Unlock()
	}
	k.rouse()
}

// Withdraw ends what Publish began: for one profile, or for all if it is empty. It returns how many sections are gone,
// and the profiles that the registry says to keep published: those stay out until they are published again.
func (k *Keeper) Withdraw(profile string) (n int, standing []string, err error) {
	list := k.all(func(h *held) bool {
		return h.Kind == Section && !h.Off && !h.gone && !h.Ended && (profile == "" || h.Profiles[0] == profile)
	})
	if len(list) == 0 && profile != "" {
		return 0, nil, fault.New(fault.NotFound, "%q is not published", profile).WithHint("broker status")
	}
	for _, h := range list {
		if !h.Expires.IsZero() {
			n++
		}
		if !h.Standing {
			err = errors.Join(err, k.end(h))
			continue
		}
		standing = append(standing, h.Profiles[0])
		k.shut([]*held{h}, func(h *held) { h.Off = true })
		err = errors.Join(err, k.clear([]*held{h}))
	}
	k.tidy()
	slices.Sort(standing)
	return n, standing, left(err)
}

// End is for a daemon that ends. What is in the shared credentials file goes: nobody would renew it.
func (k *Keeper) End() error {
	return left(k.clear(k.all(func(h *held) bool { return h.Kind == Section })))
}

// shut keeps what was asked for before from being put there after.
func (k *Keeper) shut(list []*held, change func(*held)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range list {
		h.revision++
		h.next, h.retry = time.Time{}, time.Time{}
		change(h)
	}
	k.keepLocked()
}

// left makes the error of what could not be taken out.
func left(err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Failed, "a session is still where it was put: %w", err).WithHint("%s", fault.Of(err).Hint)
}
