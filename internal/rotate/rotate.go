// Package rotate replaces the access key of a source by a new one, and loses no working key wherever it stops. It
// decides each step from three facts: which keys IAM lists, which secrets the keyring holds, and which key the
// registry names. A record says that a rotation has begun, and what these facts do not show. The package makes no
// call, opens no keyring and edits no file but the record; a Source does that.
package rotate

import (
	"context"
	"errors"
	"sync"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// Key is a long-lived access key of a source's user, without its secret.
type Key struct {
	ID      string    `json:"id"`
	Active  bool      `json:"active"`
	Created time.Time `json:"created"`
	// Used is when, for which service and in which region AWS last saw a call with the key; zero for never.
	Used    time.Time `json:"used,omitzero"`
	Service string    `json:"service,omitempty"`
	Region  string    `json:"region,omitempty"`
	// Untold means that AWS refused to say when the key was last used, so Used is not known.
	Untold bool `json:"untold,omitempty"`
	// Ours is when Broker last signed a call with the key, by AWS's clock; zero if that is not known.
	Ours   time.Time `json:"ours,omitzero"`
	Stored bool      `json:"stored,omitempty"` // its secret is in the keyring
	Other  string    `json:"-"`                // another source that has the key
}

// Keys are the keys of a source's user.
type Keys struct {
	Listed []Key     `json:"listed,omitempty"` // by IAM, which may be some seconds behind
	Stored []string  `json:"stored,omitempty"` // ids of all keys in the keyring's item, listed or not
	Now    time.Time `json:"now"`              // by AWS's clock
	// Session says that an MFA session signs the calls to IAM, so that `broker exec` can make them too.
	Session bool `json:"-"`
}

// find returns a listed key.
func (k Keys) find(id string) (Key, bool) {
	for _, key := range k.Listed {
		if key.ID == id {
			return key, true
		}
	}
	return Key{}, false
}

// other returns the stored key that is not this one, or "".
func (k Keys) other(id string) string {
	for _, stored := range k.Stored {
		if stored != id {
			return stored
		}
	}
	return ""
}

// Errors of Source.Create that callers distinguish.
var (
	// ErrLimit means that the user has two keys, so AWS makes no third.
	ErrLimit = errors.New("the user has two keys")
	// ErrNotMade means that no key was made, or that it was deleted again.
	ErrNotMade = errors.New("no key was made")
)

// Source is one source during a rotation. Its errors are faults. Every call to IAM is signed with the MFA session, or
// with the key that the registry names.
type Source interface {
	// InUse returns the id of the key that the registry names. NotFound if the registry has no such source.
	InUse() (string, error)
	Keys(ctx context.Context) (Keys, error)
	// Create makes a key, stores it in the keyring beside the one in use, and reads it back. Unless the error is
	// Denied, ErrLimit or ErrNotMade, there may be a key whose secret nobody has.
	Create(ctx context.Context) (id string, err error)
	// Try makes calls that are signed with a stored key. Denied if AWS does not know the key yet.
	Try(ctx context.Context, id string) error
	// SetActive activates or deactivates a key. NotFound if there is no such key.
	SetActive(ctx context.Context, id string, active bool) error
	// Delete deletes a key in IAM. A missing one is not an error.
	Delete(ctx context.Context, id string) error
	// Forget removes a key from the keyring. A missing one is not an error.
	Forget(ctx context.Context, id string) error
	// Use makes the registry name the stored key to instead of from, in one edit, and returns when no call with from is
	// in flight. It refuses if the registry names a third key.
	Use(ctx context.Context, from, to string, created time.Time) error
	// Confirm returns NotConfirmed unless a person says yes.
	Confirm(ctx context.Context, lines []string) error
	// Tell shows a line of progress.
	Tell(line string)
	// Record writes a step to the audit log: before it is made, or with the error with which it failed. If it
	// fails, the step must not be made. The id is that of the key that the step changes; it may be empty.
	Record(step, id string, err error) error
}

// Clock is the time, and a wait that ends early with ctx.
type Clock interface {
	Now() time.Time
	Wait(ctx context.Context, d time.Duration) error
}

const (
	// A key counts as visible after this many successful tries in a row, with a pause between two. IAM is eventually
	// consistent: a new key is unknown for 5 to 20 seconds, at some of its servers longer than at others.
	tries = 4
	pause = 2 * time.Second
	// patience is how long a key may stay unknown, and a lost key unlisted.
	patience = 2 * time.Minute
	// lag is how far behind a listing of IAM may be.
	lag = 30 * time.Second
	// window is how long after it was sent a call to create a key may have its effect.
	window = 2 * time.Minute
	// tolerance is how much later than our own last use AWS may see it.
	tolerance = time.Minute
	// backoff is the wait after a background step that failed.
	backoff = 5 * time.Minute
)

// Rotator rotates keys, one at a time. Use New.
type Rotator struct {
	records records
	clock   Clock

	mu      sync.Mutex
	running string             // the source whose rotation makes steps, or ""
	failed  map[string]failure // of background steps, by source
}

// failure is why a background step failed, and when to try again.
type failure struct {
	err   error
	again time.Time
}

// New returns a Rotator that keeps its record in a directory, for the sources of one registry.
func New(dir, registry string, clock Clock) *Rotator {
	return &Rotator{records: records{dir, registry, disk{}}, clock: clock, failed: map[string]failure{}}
}

// Pending is a rotation that has begun and not ended.
type Pending struct {
	Source   string
	Old      string    // id of the key that is replaced
	DeleteAt time.Time // when it is deleted; zero if the rotation has stopped before that
	Undo     bool
	State    string // in words
	Running  bool   // it makes steps now
	Err      error  // why the last step in the background failed
}

// Pending lists the rotations of the registry. The error is about the record.
func (r *Rotator) Pending() ([]Pending, error) {
	list, err := r.records.list()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Pending
	for _, rot := range list {
		all = append(all, Pending{Source: rot.Source, Old: rot.Old, DeleteAt: rot.DeleteAt, Undo: rot.Undo,
			State: rot.state(), Running: r.running == rot.Source, Err: r.failed[rot.Source].err})
	}
	return all, nil
}

// begin reserves the Rotator, and the record, for a source.
func (r *Rotator) begin(source string) (end func(), err error) {
	if running := r.occupy(source); running != "" {
		return nil, fault.New(fault.Failed, "the key of source %q is being rotated; try again when that has ended", running).
			WithHint("broker status")
	}
	unlock, err := r.records.lock()
	if err != nil {
		r.vacate()
		return nil, err
	}
	return func() {
		unlock()
		r.vacate()
	}, nil
}

// occupy notes the source whose rotation makes steps, unless there is one. It returns that one, or "".
func (r *Rotator) occupy(source string) (running string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running == "" {
		r.running = source
		delete(r.failed, source)
		return ""
	}
	return r.running
}

func (r *Rotator) vacate() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = ""
}

// Start replaces the key of a source. It returns when the new key is in use and the old one is deactivated; Due
// deletes the old one after the grace period.
func (r *Rotator) Start(ctx context.Context, source string, s Source, grace time.Duration) error {
	end, err := r.begin(source)
	if err != nil {
		return err
	}
	defer end()
	switch rot, err := r.records.get(source); {
	case err == nil && !rot.DeleteAt.IsZero():
		return fault.New(fault.Failed, "the key of source %q is replaced already; %s; to delete the old key now: %s", source,
			rot.state(), fault.Hintf("broker rotate %s --resume --grace 0", source)).WithHint("broker rotate %s --undo", source)
	case err == nil:
		return fault.New(fault.Failed, "a rotation of the key of source %q has begun already", source).
			WithHint("broker rotate %s --resume", source)
	case !errors.Is(err, errNone):
		return err
	}
	old, keys, err := r.look(ctx, source, s)
	if err != nil {
		return err
	}
	if left := keys.other(old.ID); left != "" { // its rotation was given up, and AWS has it no longer
		if err := do(s, "forget", left, func() error { return s.Forget(ctx, left) }); err != nil {
			return err
		}
	}
	rot := &rotation{Source: source, Old: old.ID, Began: keys.Now, Grace: int64(grace / time.Second)}
	if err := r.confirm(ctx, s, rot, old); err != nil {
		return err
	}
	if err := r.records.put(rot); err != nil {
		return err
	}
	return r.run(ctx, s, rot)
}

// look returns the key in use, and checks that the user has room for another.
func (r *Rotator) look(ctx context.Context, source string, s Source) (old Key, keys Keys, err error) {
	id, err := s.InUse()
	if err != nil {
		return Key{}, Keys{}, err
	}
	if keys, err = s.Keys(ctx); err != nil {
		return Key{}, Keys{}, err
	}
	old, listed := keys.find(id)
	if !listed {
		return Key{}, Keys{}, fault.New(fault.Failed, "AWS does not list the key %s of source %q: it is only seconds old, or "+
			"somebody has deleted it; if it stays so, store another key: %s", secret.Tail(id), source,
			fault.Hintf("broker remove %s && broker add %s", source, source)).WithHint("broker rotate %s --dry-run", source)
	}
	if len(keys.Listed) > 1 {
		return Key{}, Keys{}, full(source, id, keys)
	}
	return old, keys, nil
}

// Plan says in lines for people what Start would do, and when the key in use was created, unless a rotation has begun.
// It changes nothing.
func (r *Rotator) Plan(ctx context.Context, source string, s Source, grace string) ([]string, time.Time, error) {
	switch rot, err := r.records.get(source); {
	case err == nil:
		return []string{rot.state()}, time.Time{}, nil
	case !errors.Is(err, errNone):
		return nil, time.Time{}, err
	}
	old, _, err := r.look(ctx, source, s)
	if err != nil {
		return nil, time.Time{}, err
	}
	lines := []string{"key " + describe(old, old.ID)}
	if line := otherUse(old); line != "" {
		lines = append(lines, line+"; deactivating it needs --yes")
	}
	return append(lines, "Broker would create a second key, wait until AWS knows it, use it, deactivate the old key, and "+
		"delete the old key after "+grace), old.Created, nil
}

// State says where the rotation of a source is, in a line for people.
func (r *Rotator) State(source string, s Source, undone bool) (string, error) {
	rot, err := r.records.get(source)
	if err == nil {
		return rot.state(), nil
	}
	if !errors.Is(err, errNone) {
		return "", err
	}
	ended := "the rotation has ended"
	if undone {
		ended = "the rotation is undone"
	}
	id, err := s.InUse()
	return ended + ", and the key " + secret.Tail(id) + " is in use", err
}

// Begun reports whether the record has a rotation of the source.
func (r *Rotator) Begun(source string) bool {
	_, err := r.records.get(source)
	return err == nil
}

// Resume continues a rotation that has stopped, or an Undo.
func (r *Rotator) Resume(ctx context.Context, source string, s Source) error {
	return r.proceed(ctx, source, s, func(*rotation) error { return nil })
}

// ResumeIn is Resume with another grace period. It counts from now if the old key is deactivated already.
func (r *Rotator) ResumeIn(ctx context.Context, source string, s Source, grace time.Duration) error {
	return r.proceed(ctx, source, s, func(rot *rotation) error {
		if rot.Undo {
			return fault.New(fault.Failed, "the rotation is being undone, so the old key %s is not deleted", secret.Tail(rot.Old)).
				WithHint("broker rotate %s --resume", source)
		}
		rot.Grace = int64(grace / time.Second)
		if !rot.DeleteAt.IsZero() {
			rot.DeleteAt = r.clock.Now().Add(grace).UTC().Truncate(time.Second)
		}
		return r.records.put(rot)
	})
}

// Undo makes the old key the one in use again, and deletes the new one.
func (r *Rotator) Undo(ctx context.Context, source string, s Source) error {
	return r.proceed(ctx, source, s, func(rot *rotation) error {
		rot.Undo, rot.DeleteAt = true, time.Time{}
		return r.records.put(rot)
	})
}

func (r *Rotator) proceed(ctx context.Context, source string, s Source, prepare func(*rotation) error) error {
	end, err := r.begin(source)
	if err != nil {
		return err
	}
	defer end()
	rot, err := r.records.get(source)
	if errors.Is(err, errNone) {
		return fault.New(fault.NotFound, "no rotation of the key of source %q is pending", source).
			WithHint("broker rotate %s", source)
	}
	if err != nil {
		return err
	}
	if err := prepare(&rot); err != nil {
		return err
	}
	return r.run(ctx, s, &rot)
}

// Due makes the steps whose time has come: it deletes old keys. of returns the Source for a name.
func (r *Rotator) Due(ctx context.Context, of func(source string) Source) {
	list, err := r.records.list()
	if err != nil {
		return // Pending says so
	}
	for _, rot := range list {
		now := r.clock.Now()
		r.mu.Lock()
		waits := r.running != "" || now.Before(r.failed[rot.Source].again)
		r.mu.Unlock()
		if waits || rot.Undo || rot.DeleteAt.IsZero() || now.Before(rot.DeleteAt) {
			continue
		}
		err := r.Resume(ctx, rot.Source, of(rot.Source))
		if err != nil && ctx.Err() == nil {
			r.mu.Lock()
			r.failed[rot.Source] = failure{err, now.Add(backoff)}
			r.mu.Unlock()
		}
	}
}
