package daemon

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/grant"
	"broker/internal/lockfile"
	"broker/internal/profiles"
	"broker/internal/secret"
	"broker/internal/session"
	"broker/internal/wire"
)

// Reasons for a lock in the audit log. Events adds reasons of its own.
const (
	reasonAsked  = "asked"
	reasonUnused = "unused"
	reasonOther  = "elsewhere" // another daemon of this home was locked
)

// awaitTimeout is how long `broker lock` waits for the other daemons of this home. Each of them checks once per
// watchInterval.
const awaitTimeout = 5 * time.Second

// Events calls lock, with the reason, for each event in on, until ctx ends. It calls trouble with an error while
// it cannot receive events, and with nil once it can. It is implemented by logind.Watch.
type Events func(ctx context.Context, on []string, lock func(reason string), trouble func(error))

// locking is the state that lock, unlock and the code that hands out sessions share.
type locking struct {
	mu    sync.Mutex   // one lock or unlock at a time
	count atomic.Int64 // number of locks, so that an unlock notices a lock that came while it asked the keyring

	watch   *lockfile.Watch         // watches every file that can say that Broker is locked
	attends atomic.Pointer[os.File] // open while this daemon may hand something out, see lockfile.Attend

	after  atomic.Int64 // lock_after, in nanoseconds
	unused struct {
		sync.Mutex
		since int64         // the last use, from Keeper.LastUse
		boot  time.Duration // when that use was first seen, on the clock since boot
	}
	on      []string // the events that are watched; used by the watch loop only
	stop    context.CancelFunc
	watches sync.WaitGroup
	trouble atomic.Pointer[string] // why events cannot be watched; nil if they can
	unsaved atomic.Pointer[string] // why the lock could not be saved; nil if it is saved
}

// comeUp restores the saved lock. It runs before anything is served.
func (d *Daemon) comeUp() {
	d.locking.watch = lockfile.NewWatch(append([]string{d.LockFile.Path()}, d.Places.Others()...)...)
	if err := d.LockFile.Load(); err != nil {
		d.Log.Error("locked, because the lock file cannot be trusted", "err", err)
	}
	if err := d.adopt(); err != nil {
		d.Log.Error("cannot adopt the lock file of an earlier version", "err", err)
	}
	d.attend()
	if d.LockFile.Locked() || d.locking.watch.Locked() != "" {
		d.Broker.Lock()
		d.Log.Info("locked since an earlier run")
	}
}

// adopt moves the lock file of an earlier version.
func (d *Daemon) adopt() error {
	if d.Places.Moved == "" {
		return nil
	}
	return d.LockFile.Adopt(d.Places.Moved)
}

// attend tells the other daemons of this home that this daemon may hand out sessions, until leave.
func (d *Daemon) attend() {
	if old := d.locking.attends.Swap(d.LockFile.Attend()); old != nil {
		_ = old.Close()
	}
}

func (d *Daemon) leave() {
	if f := d.locking.attends.Swap(nil); f != nil {
		_ = f.Close()
	}
}

// leaveLocked calls leave if this daemon is locked and has no session left in any delivery.
func (d *Daemon) leaveLocked() {
	if d.Broker.Locked() && !d.grants.Holds() {
		d.leave()
	}
}

// lockAsOthers locks if another daemon of this home was locked.
func (d *Daemon) lockAsOthers() {
	if d.Broker.Locked() {
		return
	}
	if path := d.locking.watch.Locked(); path != "" {
		d.lockItself(reasonOther, path+" says so")
	}
}

// lockLocked drops all sessions and empties deliveries. When it returns, nothing leaves any more, although left
// may say that a session is still in its file. kept says why the next daemon would not be locked.
func (d *Daemon) lockLocked() (kept, left error) {
	d.locking.count.Add(1)
	d.Broker.Lock()
	d.Keyring.Forget()
	kept = d.keepLock()
	left = d.grants.Shut()
	if left == nil {
		d.leave() // otherwise, daemons that wait for us must see that a session is left
	}
	return kept, left
}

// keepLock saves the lock. If that fails, it notes the error for status and returns it for the person.
func (d *Daemon) keepLock() error {
	err := d.LockFile.Lock()
	if d.note(&d.locking.unsaved, "saving the lock", err); err == nil {
		return nil
	}
	return fault.New(fault.Failed, "this daemon is locked, but the next one will not be: %w", err).
		WithHint("%s", fault.Of(err).Hint)
}

// lockItself locks without a request.
func (d *Daemon) lockItself(reason, message string) {
	d.locking.mu.Lock()
	defer d.locking.mu.Unlock()
	if d.Broker.Locked() {
		return
	}
	kept, left := d.lockLocked()
	if err := errors.Join(kept, left); err != nil {
		d.Log.Error("cannot lock completely", "err", err)
		message = strings.TrimPrefix(message+"; "+err.Error(), "; ")
	}
	d.Log.Info("locked", "reason", reason)
	_ = d.Audit.Record(audit.Event{Event: "lock", UID: os.Getuid(), PID: os.Getpid(), Reason: reason, Message: message})
}

// lock implements the verb.
func (d *Daemon) lock(ctx context.Context, c call) error {
	if err := d.lockAsked(ctx, c); err != nil {
		return err
	}
	return c.reply(wire.Response{})
}

// lockAsked locks. The error says what is possibly not locked, or that the lock will not survive a restart.
func (d *Daemon) lockAsked(ctx context.Context, c call) error {
	d.locking.mu.Lock()
	defer d.locking.mu.Unlock()
	_, left := d.lockLocked()
	d.leave()
	ctx, cancel := context.WithTimeout(ctx, awaitTimeout)
	defer cancel()
	err := errors.Join(left, d.LockFile.AwaitOthers(ctx), d.keepLock())
	line := d.line("lock", c, session.Answer{}, nil)
	line.Reason = reasonAsked
	if err != nil { // it is locked nevertheless
		line.Message = err.Error()
	}
	_ = d.Audit.Record(line)
	return err
}

// unlock implements the verb. It checks the passphrase for unlock, if one is set, and then unlocks the keyring.
func (d *Daemon) unlock(ctx context.Context, c call) error {
	err := d.tryUnlock(ctx, c)
	d.record("unlock", "", c, session.Answer{}, err)
	if err != nil {
		return err
	}
	return c.reply(wire.Response{})
}

func (d *Daemon) tryUnlock(ctx context.Context, c call) error {
	d.lockAsOthers()
	// Hold the mutex: a lock in progress may be counted before Broker is locked. Without the mutex, this unlock would
	// then see an unlocked Broker and require no passphrase.
	d.locking.mu.Lock()
	before, locked := d.locking.count.Load(), d.Broker.Locked()
	d.locking.mu.Unlock()
	switch {
	case !locked:
	case c.req.StayLocked:
		return grant.LockedFault()
	default:
		if err := d.adopt(); err != nil {
			return err
		}
		if err := d.LockFile.Try(c.req.Proof); err != nil {
			return d.challenge(err)
		}
	}
	// If another home is locked, unlock must run there: the passphrase of that home was not asked for.
	if err := d.Places.RefuseKnown(); err != nil {
		return err
	}
	if err := d.Keyring.Unlock(ctx, c.req.Passphrase); err != nil {
		return err
	}
	d.locking.mu.Lock()
	defer d.locking.mu.Unlock()
	if d.locking.count.Load() != before {
		d.Keyring.Forget() // Unlock may have cached the key after the lock forgot it
		return lockedAgain()
	}
	if c.req.StayLocked {
		return nil
	}
	if locked {
		// The file decides for every vault process, so it is written first. If that fails, the unlock fails.
		if err := d.LockFile.Unlock(); err != nil {
			return err
		}
		d.attend()
		if d.locking.watch.Locked() != "" {
			d.leave()
			return lockedAgain()
		}
		d.guard.Clear() // what was allowed while the lock came
		d.Broker.Unlock()
	}
	d.grants.Resume()
	return nil
}

func lockedAgain() error {
	return fault.New(fault.Locked, "Broker was locked again during the unlock").WithHint("broker unlock")
}

// challenge adds to an error how to make the proof, if a retry makes sense now.
func (d *Daemon) challenge(err error) error {
	if errors.Is(err, lockfile.ErrWanted) || errors.Is(err, lockfile.ErrWrong) {
		return &refusal{error: err, challenge: (*wire.Stretch)(d.LockFile.Challenge())}
	}
	return err
}

// passphrase sets or removes the passphrase for unlock.
func (d *Daemon) passphrase(_ context.Context, c call) error {
	d.lockAsOthers()
	reason := "removed"
	if c.req.Verifier != nil {
		reason = "set"
	}
	err := d.setPassphrase(c.req.Proof, c.req.Verifier)
	d.record("passphrase", reason, c, session.Answer{}, err)
	if err != nil {
		return d.challenge(err)
	}
	return c.reply(wire.Response{})
}

func (d *Daemon) setPassphrase(proof secret.String, w *wire.Verifier) error {
	d.locking.mu.Lock()
	defer d.locking.mu.Unlock()
	set := d.LockFile.Challenge() != nil
	if w == nil {
		if !set {
			return fault.New(fault.Failed, "no passphrase is set for unlock").WithHint("broker lock --set-passphrase")
		}
		return d.LockFile.SetPassphrase(proof, nil)
	}
	v := &lockfile.Verifier{Stretch: lockfile.Stretch(w.Stretch), Sum: w.Sum}
	if err := v.Check(); err != nil {
		return fault.New(fault.Usage, "%w", err)
	}
	if d.Broker.Locked() && !set {
		// Otherwise any program of the user could lock the user out.
		return fault.New(fault.Locked,
			"Broker must be unlocked to set a first passphrase").
			WithHint("broker unlock")
	}
	return d.LockFile.SetPassphrase(proof, v)
}

// locked reports whether nothing may leave. It checks the files too: this process may have been stopped while
// another daemon was locked.
func (d *Daemon) locked() bool { return d.Broker.Locked() || d.locking.watch.Locked() != "" }

// lockIfUnused locks after lock_after without use. It checks two clocks, like sessions, so that neither sleep nor
// a clock that is set back delays the lock.
func (d *Daemon) lockIfUnused() {
	after := time.Duration(d.locking.after.Load())
	if after == 0 || d.Broker.Locked() {
		return
	}
	last, boot := d.grants.LastUse.Load(), d.BootTime()
	u := &d.locking.unused
	u.Lock()
	if u.since != last {
		u.since, u.boot = last, boot
	}
	unused := max(boot-u.boot, time.Since(time.Unix(last, 0))) // time.Unix has no monotonic reading
	u.Unlock()
	if unused >= after {
		d.lockItself(reasonUnused, "unused for "+unused.Round(time.Second).String())
	}
}

// followSettings applies the current lock_after and lock_on. If they cannot be read, it keeps the last values.
func (d *Daemon) followSettings(ctx context.Context) {
	set, err := d.Store.Load(d.Files)
	var settings profiles.Settings
	if err == nil {
		settings, err = set.Settings()
	}
	if err != nil {
		return // status reports the error
	}
	if d.OnSettings != nil {
		d.OnSettings(settings)
	}
	d.notices.off = !settings.Notices
	l := &d.locking
	l.after.Store(int64(settings.LockAfter))
	if d.Events == nil || slices.Equal(settings.LockOn, l.on) {
		return
	}
	if l.stop != nil {
		l.stop()
	}
	l.on, l.stop = settings.LockOn, nil
	l.trouble.Store(nil)
	if len(l.on) == 0 {
		return
	}
	watch, stop := context.WithCancel(ctx)
	l.stop = stop
	l.watches.Go(func() {
		d.Events(watch, settings.LockOn, func(reason string) { d.lockItself(reason, "") }, func(err error) {
			if watch.Err() == nil {
				d.note(&l.trouble, "lock_on", err)
			}
		})
	})
}

// saveLock retries a write of the lock that failed.
func (d *Daemon) saveLock() { d.note(&d.locking.unsaved, "saving the lock", d.LockFile.Save()) }

// note keeps an error for status, and logs it when it changes.
func (d *Daemon) note(at *atomic.Pointer[string], what string, err error) {
	var now *string
	if err != nil {
		line := fault.Line(err.Error())
		now = &line
	}
	before := at.Swap(now)
	switch {
	case now != nil && (before == nil || *before != *now):
		d.Log.Warn(what+" fails", "err", err)
	case now == nil && before != nil:
		d.Log.Info(what + " works again")
	}
}

// lockWarnings returns the warnings about the lock for status.
func (d *Daemon) lockWarnings() []string {
	var list []string
	if err := d.LockFile.Damaged(); err != nil {
		list = append(list, fault.Line(err.Error()))
	}
	if why := d.locking.unsaved.Load(); why != nil {
		list = append(list, "cannot save whether Broker is locked: "+*why)
	}
	if why := d.locking.trouble.Load(); why != nil {
		list = append(list, "lock_on does not work: "+*why)
	}
	return list
}
