package grant

import (
	"errors"
	"slices"
	"time"

	"broker/internal/fault"
)

// Shut is called once Locked returns true. It removes all delivered sessions. When it returns, nothing leaves any
// more. The error says where a session is left; its removal is retried.
func (k *Keeper) Shut() error {
	k.doors.cut(every) // first: a far side that does not read would make us wait
	defer k.doors.cut(every)
	// Clear the files of commands first: a write of the shared file may make us wait.
	_ = k.commands.clear(k.all(func(h *held) bool { return h.Kind == Files }))
	k.Guard.Clear()
	k.settle()
	k.mu.Lock()
	k.adoptOthersLocked() // what a killed daemon left meanwhile
	k.mu.Unlock()
	list := k.all(every)
	k.shut(list, func(*held) {})
	return left(k.clear(list))
}

func every(*held) bool { return true }

// Resume refreshes all grants at once, after an unlock.
func (k *Keeper) Resume() {
	k.LastUse.Store(time.Now().Unix())
	k.again(every)
}

// settle waits for deliveries in flight: those that passed the checks for a lock and a logout earlier.
func (k *Keeper) settle() {
	k.gate.Lock()
	k.gate.Unlock() //nolint:staticcheck // only wait
}

// Logout shuts all grants of a source, or of all sources if source is empty, until Login of that source. Otherwise
// a program that keeps running would get a new session at once. The error is like that of Shut.
func (k *Keeper) Logout(source string) error {
	k.mu.Lock()
	k.logouts++
	k.last[source] = k.logouts
	k.mu.Unlock()
	affected := func(h *held) bool { return source == "" || slices.Contains(h.Sources, source) }
	k.doors.cut(affected) // first: a far side that does not read would make us wait
	k.settle()
	list := k.all(affected)
	defer k.doors.cut(affected)
	k.shut(list, func(h *held) {
		for _, of := range h.Sources {
			if (source == "" || of == source) && !slices.Contains(h.LoggedOut, of) {
				h.LoggedOut = append(h.LoggedOut, of)
			}
		}
	})
	return left(k.clear(list))
}

// Login reopens the grants that Logout of the source shut.
func (k *Keeper) Login(source string) {
	k.LastUse.Store(time.Now().Unix())
	k.mu.Lock()
	for _, h := range k.grants {
		h.LoggedOut = slices.DeleteFunc(h.LoggedOut, func(of string) bool { return of == source })
	}
	_ = k.saveLocked()
	k.mu.Unlock()
	k.again(func(h *held) bool { return slices.Contains(h.Sources, source) })
}

// Used says that a source was used, so grants that waited for a person can be refreshed.
func (k *Keeper) Used(source string) {
	k.LastUse.Store(time.Now().Unix())
	k.served(source)
}

// served lets the grants be refreshed that waited for a session of the source.
func (k *Keeper) served(source string) {
	k.again(func(h *held) bool {
		return h.waits && (len(h.Sources) == 0 || slices.Contains(h.Sources, source))
	})
}

// again refreshes the matching grants at once.
func (k *Keeper) again(match func(*held) bool) {
	list := k.all(func(h *held) bool {
		is := match(h)
		if is {
			h.next, h.waits = time.Time{}, false
		}
		return is
	})
	if len(list) > 0 {
		k.rouse()
	}
}

// Withdraw ends what Publish began: for one profile, or for all if profile is empty. It returns how many sections
// it removed, the profiles, and which of these the registry keeps published: those stay unpublished until they
// are published again.
func (k *Keeper) Withdraw(profile string) (n int, withdrawn, standing []string, err error) {
	list := k.all(func(h *held) bool {
		match := h.Kind == Section && !h.Off && !h.gone && !h.Ended && (profile == "" || h.Profiles[0] == profile)
		if match && !h.Expires.IsZero() {
			n++
		}
		return match
	})
	if len(list) == 0 && profile != "" {
		return 0, nil, nil, fault.New(fault.NotFound, "%q is not published", profile).WithHint("broker status")
	}
	var off []*held
	k.shut(list, func(h *held) {
		if h.Off = h.Standing; h.Off {
			off, standing = append(off, h), append(standing, h.Profiles[0])
		}
	})
	err = k.clear(off)
	for _, h := range list {
		withdrawn = append(withdrawn, h.Profiles[0])
		if !slices.Contains(off, h) {
			err = errors.Join(err, k.end(h))
		}
	}
	k.tidy()
	slices.Sort(withdrawn)
	slices.Sort(standing)
	return n, withdrawn, standing, left(err)
}

// Holds reports whether a delivered session may still exist.
func (k *Keeper) Holds() bool {
	return len(k.all(func(h *held) bool { return !h.Expires.IsZero() })) > 0
}

// End is called when the daemon ends: nothing is handed out after it. It removes sessions from the shared
// credentials file, because nobody would refresh them, and the files of commands that have just ended. If another
// daemon takes over, all of them stay and that daemon owns the record from now on.
func (k *Keeper) End(takenOver bool) error {
	k.mu.Lock()
	k.ending = true
	k.mu.Unlock()
	k.settle()
	var err error
	if !takenOver {
		err = k.clear(k.all(func(h *held) bool { return h.Kind == Section }))
		for _, h := range k.all(func(h *held) bool { return h.Kind == Files && h.abandoned() }) {
			err = errors.Join(err, k.end(h))
		}
		err = left(err)
	}
	k.mu.Lock()
	k.over = true
	k.mu.Unlock()
	return err
}

// shut prevents sessions that were requested earlier from being delivered. It applies change to each grant.
func (k *Keeper) shut(list []*held, change func(*held)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range list {
		h.revision++
		h.next, h.retry = time.Time{}, time.Time{}
		change(h)
	}
	_ = k.saveLocked()
}

// left wraps the error of a failed removal.
func left(err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Failed, "a session could not be removed: %w", err).WithHint("%s", fault.Of(err).Hint)
}
