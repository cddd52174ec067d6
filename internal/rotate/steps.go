package rotate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"broker/internal/fault"
	"broker/internal/secret"
)

// run makes the steps that are left. Each begins with what is true, so it does not matter where an earlier run stopped.
func (r *Rotator) run(ctx context.Context, s Source, rot *rotation) error {
	if rot.Undo {
		return r.undo(ctx, s, rot)
	}
	inUse, err := s.InUse()
	if gone := r.gone(s, rot, err); gone != nil {
		return gone
	}
	if inUse == rot.Old {
		if inUse, err = r.replace(ctx, s, rot); err != nil {
			return err
		}
	} else if rot.DeleteAt.IsZero() { // it was put into use earlier, and may be gone since then
		if err := r.verify(ctx, s, inUse); err != nil {
			return resumable(rot, err, "the old key %s is not deactivated", secret.Tail(rot.Old))
		}
	}
	return r.retire(ctx, s, rot, inUse)
}

// gone ends the rotation if the registry has no such source any more.
func (r *Rotator) gone(s Source, rot *rotation, err error) error {
	if fault.Is(err, fault.NotFound) {
		return r.giveUp(s, rot, fmt.Sprintf("the registry has no source %q", rot.Source))
	}
	return err
}

// giveUp removes the record of a rotation that somebody else has overtaken. No key is changed.
func (r *Rotator) giveUp(s Source, rot *rotation, why string) error {
	if err := r.records.remove(rot.Source); err != nil {
		return err
	}
	f := fault.New(fault.Failed, "the rotation of key %s has ended, and AWS keeps that key: %s",
		secret.Tail(rot.Old), why).WithHint("broker status")
	_ = s.Record("give up", rot.Old, f)
	return f
}

// do records a step and makes it.
func do(s Source, step, id string, action func() error) error {
	if err := s.Record(step, id, nil); err != nil {
		return err
	}
	err := action()
	if err != nil {
		_ = s.Record(step, id, err)
	}
	return err
}

// replace makes the new key and puts it into use. It returns its id.
func (r *Rotator) replace(ctx context.Context, s Source, rot *rotation) (string, error) {
	keys, id, err := r.workingKey(ctx, s, rot)
	if err != nil {
		return "", err
	}
	fresh, _ := keys.find(id)
	if fresh.Created.IsZero() { // IAM does not list it yet
		fresh.Created = keys.Now
	}
	s.Tell("the new key works; it is used from now on")
	if err := do(s, "swap", id, func() error { return s.Use(ctx, rot.Old, id, fresh.Created) }); err != nil {
		return "", resumable(rot, err, "both keys work")
	}
	return id, nil
}

// workingKey returns the new key as soon as AWS knows it everywhere. If AWS has the stored key no longer, it makes
// another one, but only once.
func (r *Rotator) workingKey(ctx context.Context, s Source, rot *rotation) (Keys, string, error) {
	for dropped := false; ; dropped = true {
		keys, id, err := r.newKey(ctx, s, rot)
		if err != nil {
			return Keys{}, "", err
		}
		s.Tell("waiting until AWS knows the new key " + secret.Tail(id))
		if err = r.verify(ctx, s, id); err == nil {
			return keys, id, nil
		}
		if dropped || !fault.Is(err, fault.Denied) {
			return Keys{}, "", resumable(rot, err, "the key %s stays in use", secret.Tail(rot.Old))
		}
		if err := r.dropDead(ctx, s, rot, id, err); err != nil {
			return Keys{}, "", err
		}
	}
}

// dropDead removes a new key that AWS does not know after all of verify's patience from the keyring, unless IAM lists
// it. why is the error of verify. It deletes the key in IAM first, so no key is left whose secret nobody has.
func (r *Rotator) dropDead(ctx context.Context, s Source, rot *rotation, id string, why error) error {
	keys, err := s.Keys(ctx)
	if err != nil {
		return resumable(rot, err, "the key %s stays in use", secret.Tail(rot.Old))
	}
	if _, listed := keys.find(id); listed {
		return fault.New(fault.Denied, "%w; AWS lists that key; the key %s stays in use", why, secret.Tail(rot.Old)).
			WithHint("broker rotate %s --undo", rot.Source)
	}
	s.Tell("AWS has no key " + secret.Tail(id) + "; removing it from the keyring")
	err = do(s, "delete new", id, func() error { return s.Delete(ctx, id) })
	if err == nil {
		err = do(s, "forget", id, func() error { return s.Forget(ctx, id) })
	}
	if err != nil {
		return resumable(rot, err, "the key %s stays in use", secret.Tail(rot.Old))
	}
	return nil
}

// newKey returns the stored key that is not the old one. It makes one if there is none, after it has deleted what an
// earlier attempt may have left.
func (r *Rotator) newKey(ctx context.Context, s Source, rot *rotation) (Keys, string, error) {
	for deadline := r.clock.Now().Add(patience); ; {
		keys, err := s.Keys(ctx)
		if err != nil {
			return Keys{}, "", resumable(rot, err, "the key %s stays in use", secret.Tail(rot.Old))
		}
		if id := keys.other(rot.Old); id != "" {
			return keys, id, nil
		}
		if !rot.DeleteAt.IsZero() { // it was replaced, and somebody has stored it again
			return Keys{}, "", r.giveUp(s, rot, "the registry names it again, and the keyring has no other key")
		}
		found, err := r.dropLost(ctx, s, rot, keys)
		if err != nil {
			return Keys{}, "", err
		}
		if found && r.clock.Now().Before(deadline) {
			continue // look again: IAM may still list it
		}
		if !found && keys.Now.After(rot.AskedUntil.Add(lag)) { // nothing was lost: IAM would list it by now
			rot.Asked, rot.AskedUntil = time.Time{}, time.Time{} // a later key is of somebody else
		}
		if _, listed := keys.find(rot.Old); listed && len(keys.Listed) > 1 && rot.Asked.IsZero() {
			return Keys{}, "", r.unchanged(rot, full(rot.Source, rot.Old, keys))
		}
		unclear := !rot.Asked.IsZero() // an earlier call may have made a key that is not listed yet
		err = r.create(ctx, s, rot, keys)
		switch {
		case err == nil:
		case (unclear && errors.Is(err, ErrLimit) || mayHaveMade(err)) && r.clock.Now().Before(deadline):
			s.Tell("it is not clear whether AWS made a key; looking for it")
			if err := r.clock.Wait(ctx, pause); err != nil {
				return Keys{}, "", err
			}
		case errors.Is(err, ErrLimit): // no key was lost, or IAM would list it by now
			return Keys{}, "", r.unchanged(rot, full(rot.Source, rot.Old, keys))
		case rot.Asked.IsZero():
			return Keys{}, "", r.unchanged(rot, err)
		default:
			return Keys{}, "", resumable(rot, err, "the key %s stays in use", secret.Tail(rot.Old))
		}
	}
}

// unchanged ends a rotation that has made no key, because of err.
func (r *Rotator) unchanged(rot *rotation, err error) error {
	if left := r.records.remove(rot.Source); left != nil {
		return resumable(rot, left, "no key was made: %s", err.Error())
	}
	return err
}

// create makes a key. The record says before that a key may be made, and after that none is lost.
func (r *Rotator) create(ctx context.Context, s Source, rot *rotation, keys Keys) error {
	if err := s.Record("create", "", nil); err != nil {
		return err
	}
	unclear := !rot.Asked.IsZero()
	if !unclear {
		rot.Asked = keys.Now.Add(-time.Second)
	}
	rot.AskedUntil = keys.Now.Add(window)
	if err := r.records.put(rot); err != nil {
		return err
	}
	s.Tell("creating a new key")
	id, err := s.Create(ctx)
	if err != nil {
		_ = s.Record("create", "", err)
	} else {
		s.Tell("created " + secret.Tail(id) + " and stored it in the keyring")
		_ = s.Record("created", id, nil)
	}
	none := fault.Is(err, fault.Denied) || errors.Is(err, ErrLimit) || errors.Is(err, ErrNotMade)
	if err == nil || none && !unclear {
		rot.Asked, rot.AskedUntil = time.Time{}, time.Time{}
		_ = r.records.put(rot) // the old times do no harm: they are compared with unused keys only
	}
	return err
}

// mayHaveMade reports whether a failed Create may have made a key whose secret nobody has.
func mayHaveMade(err error) bool {
	switch fault.Of(err).Kind {
	case fault.Network, fault.BadAnswer:
		return !errors.Is(err, ErrNotMade)
	}
	return false
}

// dropLost deletes the key that an earlier Create made and nobody has the secret of: made in the time of that call,
// never used, and not in the keyring. It reports whether there was one.
func (r *Rotator) dropLost(ctx context.Context, s Source, rot *rotation, keys Keys) (bool, error) {
	if rot.Asked.IsZero() {
		return false, nil
	}
	for _, key := range keys.Listed {
		if key.ID == rot.Old || key.Stored || key.Untold || !key.Used.IsZero() ||
			key.Created.Before(rot.Asked) || key.Created.After(rot.AskedUntil) {
			continue
		}
		s.Tell("deleting the key " + secret.Tail(key.ID) + ", whose secret was lost on the way")
		if err := do(s, "delete lost", key.ID, func() error { return s.Delete(ctx, key.ID) }); err != nil {
			return false, resumable(rot, err, "AWS made the key %s and nobody has its secret", secret.Tail(key.ID))
		}
		return true, r.clock.Wait(ctx, pause)
	}
	return false, nil
}

// sweepLost deletes what a Create may have lost. It looks until IAM must list it.
func (r *Rotator) sweepLost(ctx context.Context, s Source, rot *rotation, keys Keys) error {
	for deadline := r.clock.Now().Add(lag); !rot.Asked.IsZero() && r.clock.Now().Before(deadline); {
		if _, err := r.dropLost(ctx, s, rot, keys); err != nil {
			return err
		}
		if err := r.clock.Wait(ctx, pause); err != nil {
			return err
		}
		var err error
		if keys, err = s.Keys(ctx); err != nil {
			return resumable(rot, err, "the key %s is in use", secret.Tail(rot.Old))
		}
	}
	return nil
}

// verify waits until AWS knows a key everywhere.
func (r *Rotator) verify(ctx context.Context, s Source, id string) error {
	deadline := r.clock.Now().Add(patience)
	for good := 0; ; {
		err := s.Try(ctx, id)
		switch {
		case err == nil:
			if good++; good == tries {
				return nil
			}
		case !passes(err):
			return err
		default:
			good = 0
			if r.clock.Now().After(deadline) {
				return fault.New(fault.Of(err).Kind, "the key %s does not work after %v: %w", secret.Tail(id), patience, err)
			}
		}
		if err := r.clock.Wait(ctx, pause); err != nil {
			return err
		}
	}
}

// passes reports whether a failed Try may succeed in a moment.
func passes(err error) bool {
	switch fault.Of(err).Kind {
	case fault.Denied, fault.Network, fault.BadAnswer, fault.Throttled:
		return true
	}
	return false
}

// retire deactivates the old key, and deletes it after the grace period. The registry names the key inUse.
func (r *Rotator) retire(ctx context.Context, s Source, rot *rotation, inUse string) error {
	keys, err := s.Keys(ctx)
	if err != nil {
		return resumable(rot, err, "the key %s is in use", secret.Tail(inUse))
	}
	old, listed := keys.find(rot.Old)
	if rot.DeleteAt.IsZero() || listed && old.Active {
		if !rot.DeleteAt.IsZero() {
			if err := s.Confirm(ctx, []string{"Somebody activated the old key " + secret.Tail(rot.Old) +
				" again. Broker is about to deactivate and later to delete it."}); err != nil {
				return resumable(rot, err, "somebody activated the old key %s again", secret.Tail(rot.Old))
			}
			rot.DeleteAt = time.Time{}
		}
		if err := r.confirm(ctx, s, rot, old); err != nil {
			return err
		}
		s.Tell("deactivating the old key " + secret.Tail(rot.Old))
		if err := do(s, "deactivate", rot.Old, func() error {
			return missing(s.SetActive(ctx, rot.Old, false))
		}); err != nil {
			return resumable(rot, err, "the key %s is in use, and the old key %s still works",
				secret.Tail(inUse), secret.Tail(rot.Old))
		}
	}
	if rot.DeleteAt.IsZero() {
		rot.DeleteAt = r.clock.Now().Add(time.Duration(rot.Grace) * time.Second).UTC().Truncate(time.Second)
		if err := r.records.put(rot); err != nil {
			return resumable(rot, err, "the key %s is in use, and the old key %s is deactivated",
				secret.Tail(inUse), secret.Tail(rot.Old))
		}
	}
	if r.clock.Now().Before(rot.DeleteAt) {
		return nil
	}
	return r.finish(ctx, s, rot, inUse)
}

// finish deletes the old key. It tries the new one first.
func (r *Rotator) finish(ctx context.Context, s Source, rot *rotation, inUse string) error {
	if err := s.Try(ctx, inUse); err != nil {
		return resumable(rot, err, "the old key %s is not deleted", secret.Tail(rot.Old))
	}
	s.Tell("deleting the old key " + secret.Tail(rot.Old))
	if err := do(s, "delete", rot.Old, func() error { return s.Delete(ctx, rot.Old) }); err != nil {
		return resumable(rot, err, "the old key %s is deactivated and not deleted", secret.Tail(rot.Old))
	}
	return r.forget(ctx, s, rot, rot.Old)
}

// forget removes a deleted key from the keyring, and ends the rotation.
func (r *Rotator) forget(ctx context.Context, s Source, rot *rotation, id string) error {
	if err := s.Forget(ctx, id); err != nil {
		return resumable(rot, err, "the deleted key %s is still in the keyring", secret.Tail(id))
	}
	return r.records.remove(rot.Source)
}

// undo makes the old key the one in use, and deletes the new one.
func (r *Rotator) undo(ctx context.Context, s Source, rot *rotation) error {
	inUse, err := s.InUse()
	if gone := r.gone(s, rot, err); gone != nil {
		return gone
	}
	keys, err := s.Keys(ctx)
	if err != nil {
		return resumable(rot, err, "the key %s is in use", secret.Tail(inUse))
	}
	made := keys.other(rot.Old)
	if inUse != rot.Old {
		if !slices.Contains(keys.Stored, rot.Old) {
			return r.giveUp(s, rot, "the keyring does not have it any more")
		}
		s.Tell("activating the old key " + secret.Tail(rot.Old))
		err := do(s, "activate", rot.Old, func() error { return s.SetActive(ctx, rot.Old, true) })
		if fault.Is(err, fault.NotFound) {
			if err := r.forget(ctx, s, rot, rot.Old); err != nil {
				return err
			}
			return fault.New(fault.Failed, "the old key %s is deleted already, so the rotation cannot be undone; the key %s is in use",
				secret.Tail(rot.Old), secret.Tail(inUse)).WithHint("broker rotate %s", rot.Source)
		}
		if err != nil {
			return resumable(rot, err, "the key %s is in use", secret.Tail(inUse))
		}
	}
	if err := r.verify(ctx, s, rot.Old); err != nil {
		return resumable(rot, err, "the key %s is in use", secret.Tail(inUse))
	}
	if inUse != rot.Old {
		old, _ := keys.find(rot.Old)
		s.Tell("the old key works; it is used from now on")
		if err := do(s, "swap back", rot.Old, func() error {
			return s.Use(ctx, inUse, rot.Old, old.Created)
		}); err != nil {
			return resumable(rot, err, "both keys work")
		}
	}
	if made == "" {
		if err := r.sweepLost(ctx, s, rot, keys); err != nil {
			return err
		}
		return r.records.remove(rot.Source)
	}
	s.Tell("deleting the new key " + secret.Tail(made))
	if err := do(s, "delete new", made, func() error { return s.Delete(ctx, made) }); err != nil {
		return resumable(rot, err, "the old key %s is in use, and the new key %s is not deleted",
			secret.Tail(rot.Old), secret.Tail(made))
	}
	return r.forget(ctx, s, rot, made)
}

// confirm asks a person if another program uses the old key. The answer counts until AWS sees a later use.
func (r *Rotator) confirm(ctx context.Context, s Source, rot *rotation, old Key) error {
	line := otherUse(old)
	if line == "" || !old.Untold && !old.Used.After(rot.Seen) {
		return nil
	}
	if err := s.Confirm(ctx, []string{line, "What uses it there stops working when Broker deactivates it."}); err != nil {
		return fault.New(fault.Of(err).Kind, "%s; nothing was deactivated", line).
			WithHint("%s", rot.again())
	}
	if !old.Untold {
		rot.Seen = old.Used
	}
	if rot.stored {
		return r.records.put(rot)
	}
	return nil // Start writes the record
}

// UsedElsewhere reports whether something other than Broker used the key last. Broker itself calls only STS and IAM.
func (k Key) UsedElsewhere() bool {
	ours := (k.Service == "sts" || k.Service == "iam") && !k.Ours.IsZero() && !k.Used.After(k.Ours.Add(tolerance))
	return !k.Used.IsZero() && !ours
}

// otherUse returns a sentence if something other than Broker uses or may use a key, or "".
func otherUse(key Key) string {
	switch {
	case key.Untold:
		return fmt.Sprintf("AWS does not say when the key %s was last used, so another machine or program may use it",
			secret.Tail(key.ID))
	case !key.UsedElsewhere():
		return ""
	}
	ours := "Broker does not know when it used the key itself"
	if !key.Ours.IsZero() {
		ours = "Broker used it last at " + stamp(key.Ours)
	}
	return fmt.Sprintf("another machine or program uses the key %s: AWS saw it last at %s, for %s in %s; %s",
		secret.Tail(key.ID), stamp(key.Used), fault.Line(key.Service), fault.Line(key.Region), ours)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// full returns the error for a user who has two keys. Its hint deletes no active key, because another machine may have
// that one: to deactivate a key can be undone.
func full(source, inUse string, keys Keys) error {
	var lines []string
	var spare Key
	for _, key := range keys.Listed {
		lines = append(lines, describe(key, inUse))
		if key.ID != inUse {
			spare = key
		}
	}
	todo, call := "delete the one that nobody uses", fault.Hintf("delete-access-key --access-key-id %s", spare.ID)
	if spare.Active {
		todo = "deactivate the one that nobody uses, and delete it when nothing misses it"
		call = fault.Hintf("update-access-key --access-key-id %s --status Inactive", spare.ID)
	}
	hint := fault.Hintf("broker exec %s -- aws iam %s", source, call)
	if !keys.Session {
		todo += "; without an MFA session, an administrator has to do that"
		hint = fault.Hintf("aws iam %s --user-name USER", call)
	}
	return fault.New(fault.Failed, "AWS allows two keys for a user, and the user of source %q has two: %s; "+
		"nothing was changed; %s", source, strings.Join(lines, "; "), todo).WithHint("%s", hint)
}

// describe returns a key in words.
func describe(key Key, inUse string) string {
	text := key.ID + " (created " + key.Created.UTC().Format(time.DateOnly)
	if key.ID == inUse {
		text += ", in use by Broker"
	} else if key.Stored {
		text += ", in the keyring"
	}
	if key.Other != "" {
		text += ", in use by source " + fault.Line(key.Other)
	}
	if !key.Active {
		text += ", inactive"
	}
	switch {
	case key.Untold:
		return text + ", last use unknown)"
	case key.Used.IsZero():
		return text + ", never used)"
	}
	return text + ", last used " + stamp(key.Used) + " for " + fault.Line(key.Service) + ")"
}

// missing makes a key that does not exist a success.
func missing(err error) error {
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// resumable adds to an error what is true now, and the command that continues.
func resumable(rot *rotation, err error, state string, args ...any) error {
	f := fault.Of(err)
	hint := fault.Hintf("broker rotate %s --resume", rot.Source)
	if f.Kind == fault.Locked || f.Kind == fault.KeyringLocked || f.Kind == fault.LoginNeeded {
		hint = f.Hint
	}
	return fault.New(f.Kind, "%w; "+state, append([]any{err}, args...)...).WithHint("%s", hint)
}
