package rotate

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"broker/internal/fault"
)

// calm returns a world without faults, in which the old key was never used.
func calm() *world {
	w := newWorld(7)
	w.keys["OLD"].Used = time.Time{}
	w.changed()
	return w
}

func (w *world) rotator() *Rotator {
	return &Rotator{records: records{"dir", "registry", w}, clock: w, failed: map[string]failure{}}
}

// TestOtherUse: a use of the old key by something else is named, and without a yes nothing is changed. A use by Broker
// itself is not named.
func TestOtherUse(t *testing.T) {
	now := calm().now
	for name, tc := range map[string]struct {
		used, ours time.Time
		service    string
		asks       bool
	}{
		"never used":          {},
		"by Broker":           {now.Add(-time.Hour), now.Add(-time.Hour), "sts", false},
		"by Broker, rounded":  {now.Add(-time.Hour), now.Add(-time.Hour - 30*time.Second), "iam", false},
		"later":               {now.Add(-time.Hour), now.Add(-2 * time.Hour), "sts", true},
		"for another service": {now.Add(-2 * time.Hour), now.Add(-time.Hour), "s3", true},
		"ours is not known":   {now.Add(-time.Hour), time.Time{}, "sts", true},
	} {
		w := calm()
		key := w.keys["OLD"]
		key.Used, key.Ours, key.Service, key.Region = tc.used, tc.ours, tc.service, "eu-west-1"
		w.changed()
		w.asked = false
		err := w.rotator().Start(t.Context(), "security", w, time.Hour)
		if !tc.asks {
			if err != nil || w.names == "OLD" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !fault.Is(err, fault.NotConfirmed) || !strings.Contains(err.Error(), "another machine or program uses the key OLD") ||
			fault.Of(err).Hint != "broker rotate security --yes" || w.made != 0 || w.record != nil {
			t.Errorf("%s: %v, made %d", name, err, w.made)
		}
		w.asked = true
		if err := w.rotator().Start(t.Context(), "security", w, time.Hour); err != nil || w.keys["OLD"].Active {
			t.Errorf("%s, with a yes: %v", name, err)
		}
	}
}

// TestUseDuringRotation: if another machine uses the old key after the rotation has begun, it is not deactivated
// without a yes.
func TestUseDuringRotation(t *testing.T) {
	w := calm()
	w.faults[30] = "" // no fault
	r := w.rotator()
	used := &useAtSwap{w}
	w.asked = false
	err := r.Start(t.Context(), "security", used, time.Hour)
	if !fault.Is(err, fault.NotConfirmed) || fault.Of(err).Hint != "broker rotate security --resume --yes" ||
		!w.keys["OLD"].Active || w.names == "OLD" {
		t.Fatalf("got %v", err)
	}
	w.asked = true
	if err := r.Resume(t.Context(), "security", w); err != nil || w.keys["OLD"].Active {
		t.Errorf("with a yes: %v", err)
	}
}

// useAtSwap is a world in which another machine uses the old key when the new one is put into use.
type useAtSwap struct{ *world }

func (u *useAtSwap) Use(_ context.Context, _, id string, _ time.Time) error {
	u.now = u.now.Add(time.Minute)
	old := u.keys["OLD"]
	old.Used, old.Ours, old.Service = u.now, u.now.Add(-time.Hour), "sts"
	u.now = u.now.Add(time.Minute) // longer than IAM is behind
	u.past = nil
	u.changed()
	u.names = id
	return nil
}

// TestActivatedAgain: if somebody activates the old key again before it is deleted, the daemon does not delete it.
func TestActivatedAgain(t *testing.T) {
	w := calm()
	if err := w.program("start"); err != nil {
		t.Fatal(err)
	}
	w.keys["OLD"].Active = true
	w.now = w.now.Add(2 * time.Hour)
	w.past = nil
	w.changed()
	w.asked = false
	r := w.rotator()
	r.Due(t.Context(), func(string) Source { return w })
	pending, err := r.Pending()
	if err != nil || len(pending) != 1 || pending[0].Err == nil ||
		!strings.Contains(pending[0].Err.Error(), "somebody activated the old key OLD again") || w.keys["OLD"] == nil {
		t.Fatalf("pending %+v, %v", pending, err)
	}
	calls := w.point
	r.Due(t.Context(), func(string) Source { return w })
	if w.point != calls {
		t.Error("a step that failed was tried again at once")
	}
}

// TestResumeIn: while the old key waits for its deletion, a start says when that is and how to change it, and ResumeIn
// sets the time from now on. A rotation that is being undone deletes no old key.
func TestResumeIn(t *testing.T) {
	w := calm()
	if err := w.program("start"); err != nil {
		t.Fatal(err)
	}
	err := w.program("start")
	for _, want := range []string{"is replaced already", "will be deleted at 2026-01-02 04:0", "broker rotate security --undo",
		"broker rotate security --resume --grace 0"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if hint := fault.Of(err).Hint; hint != "broker rotate security --undo" {
		t.Errorf("hint %s", hint)
	}
	w.now = w.now.Add(30 * time.Minute)
	if err := w.rotator().ResumeIn(t.Context(), "security", w, 48*time.Hour); err != nil || w.keys["OLD"] == nil {
		t.Fatalf("two days: %v", err)
	}
	pending, err := w.rotator().Pending()
	if err != nil || len(pending) != 1 || !pending[0].DeleteAt.Equal(w.now.Add(48*time.Hour).Truncate(time.Second)) {
		t.Fatalf("pending %+v, %v", pending, err)
	}
	if err := w.rotator().ResumeIn(t.Context(), "security", w, 0); err != nil || w.keys["OLD"] != nil || w.record != nil {
		t.Errorf("now: %v, keys %v", err, w.keys)
	}
	if err := w.program("start"); err != nil {
		t.Fatal(err)
	}
	w.faults = map[int]string{w.point + 3: "error"}
	if err := w.program("undo"); err == nil {
		t.Fatal("the undo did not fail")
	}
	before := len(w.keys)
	if err := w.rotator().ResumeIn(t.Context(), "security", w, 0); !fault.Is(err, fault.Failed) || len(w.keys) != before ||
		!strings.Contains(err.Error(), "is being undone") {
		t.Errorf("during an undo: %v", err)
	}
}

// TestKeyMadeBetweenTwoAttempts: if a call to create a key got no answer, and somebody else makes a key an hour later,
// the next attempt does not delete that key.
func TestKeyMadeBetweenTwoAttempts(t *testing.T) {
	w := calm()
	if err := w.rotator().Start(t.Context(), "security", &unanswered{w}, time.Hour); err == nil || w.record == nil {
		t.Fatalf("got %v, record %s", err, w.record)
	}
	w.now = w.now.Add(time.Hour)
	w.keys["CI"] = &iamKey{Key: Key{ID: "CI", Active: true, Created: w.now}, foreign: true}
	w.now = w.now.Add(time.Minute)
	w.past = nil
	w.changed()
	err := w.rotator().Resume(t.Context(), "security", w)
	if w.keys["CI"] == nil || err == nil || !strings.Contains(err.Error(), "two keys") || w.record != nil {
		t.Errorf("got %v, keys %v, record %s", err, w.keys, w.record)
	}
}

// TestNewKeyGone: if the new key has stopped working before a rotation is resumed, the old one stays active, although
// the MFA session could deactivate it.
func TestNewKeyGone(t *testing.T) {
	w := calm()
	w.asked = false
	if err := w.rotator().Start(t.Context(), "security", &useAtSwap{w}, time.Hour); !fault.Is(err, fault.NotConfirmed) {
		t.Fatalf("got %v", err)
	}
	w.asked = true
	delete(w.keys, w.names)
	w.past = nil
	w.changed()
	if err := w.rotator().Resume(t.Context(), "security", &inSession{w}); err == nil || !w.keys["OLD"].Active || w.record == nil {
		t.Errorf("got %v, the old key is active: %v", err, w.keys["OLD"].Active)
	}
}

// inSession is a world in which an MFA session signs the calls to IAM, whatever becomes of the key.
type inSession struct{ *world }

func (s *inSession) Keys(context.Context) (Keys, error) {
	return Keys{Listed: []Key{s.keys["OLD"].Key}, Stored: []string{"OLD", s.names}, Now: s.now}, nil
}

func (s *inSession) SetActive(_ context.Context, id string, active bool) error {
	s.keys[id].Active = active
	return nil
}

// TestForgetIsRecorded: without its line in the audit log, no secret is removed from the keyring.
func TestForgetIsRecorded(t *testing.T) {
	w := calm()
	w.ring["LEFT"] = true
	err := w.rotator().Start(t.Context(), "security", &unaudited{w}, time.Hour)
	if err == nil || !w.ring["LEFT"] {
		t.Errorf("got %v, keyring %v", err, w.ring)
	}
}

// unaudited is a world whose audit log cannot be written.
type unaudited struct{ *world }

func (*unaudited) Record(string, string, error) error { return fault.New(fault.Failed, "no audit log") }

// TestTwoKeysHint: the hint deletes no key that works, because another machine may have it.
func TestTwoKeysHint(t *testing.T) {
	for active, want := range map[bool]fault.Hint{
		true:  "broker exec security -- aws iam update-access-key --access-key-id THEIRS --status Inactive",
		false: "broker exec security -- aws iam delete-access-key --access-key-id THEIRS",
	} {
		w := calm()
		w.keys["THEIRS"] = &iamKey{Key: Key{ID: "THEIRS", Active: active}, foreign: true}
		w.past = nil
		w.changed()
		err := w.rotator().Start(t.Context(), "security", w, time.Hour)
		if got := fault.Of(err).Hint; got != want {
			t.Errorf("active %v: %v, hint %s", active, err, got)
		}
	}
}

// unanswered is a world in which no answer to Create arrives.
type unanswered struct{ *world }

func (*unanswered) Create(context.Context) (string, error) {
	return "", fault.New(fault.Network, "no answer")
}

// TestGivenUp: if somebody stored another key for the source meanwhile, the rotation cannot be undone. It ends, and
// changes no key.
func TestGivenUp(t *testing.T) {
	w := calm()
	if err := w.program("start"); err != nil {
		t.Fatal(err)
	}
	w.names = "THIRD"
	w.keys["THIRD"] = &iamKey{Key: Key{ID: "THIRD", Active: true}}
	w.ring = map[string]bool{"THIRD": true}
	err := w.program("undo")
	if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), "the keyring does not have it any more") ||
		w.record != nil || len(w.keys) != 3 || !w.keys["NEW1"].Active || w.keys["OLD"].Active {
		t.Errorf("got %v", err)
	}
}

// TestSourceGone: a rotation whose source was removed ends by itself.
func TestSourceGone(t *testing.T) {
	w := calm()
	if err := w.program("start"); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(2 * time.Hour)
	r := w.rotator()
	r.Due(t.Context(), func(string) Source { return &sourceless{w} })
	if w.record != nil || w.keys["OLD"] == nil {
		t.Errorf("the record is %s", w.record)
	}
}

// sourceless is a world whose registry has no source.
type sourceless struct{ *world }

func (*sourceless) InUse() (string, error) { return "", fault.New(fault.NotFound, "no such source") }

// TestPlanChangesNothing: a dry run makes no change, and shows the key and the grace period.
func TestPlanChangesNothing(t *testing.T) {
	w := calm()
	lines, err := w.rotator().Plan(t.Context(), "security", w, "24h")
	if err != nil || len(lines) != 2 || !strings.Contains(lines[0], "OLD (created ") || !strings.Contains(lines[1], "24h") ||
		w.record != nil || len(w.keys) != 1 {
		t.Errorf("got %q, %v", lines, err)
	}
}

// TestRecord: the record survives on the disk, holds the rotations of other registries, and a damaged one is named.
func TestRecord(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mine, other := records{dir, "/a", disk{}}, records{dir, "/b", disk{}}
	for _, r := range []records{mine, other} {
		if err := r.put(&rotation{Source: "security", Old: "OLD" + r.registry}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := mine.get("security"); err != nil || got.Old != "OLD/a" || !got.stored {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := mine.remove("security"); err != nil {
		t.Fatal(err)
	}
	if _, err := mine.get("security"); err != errNone {
		t.Errorf("removed: %v", err)
	}
	if got, err := other.get("security"); err != nil || got.Old != "OLD/b" {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := other.remove("security"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, recordName)
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("an empty record is left: %v", err)
	}
	for _, text := range []string{"{", `{"version":2}`, `{"version":1,"rotations":[{}]}`, `{"version":1,"more":1}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w := calm()
		err := New(dir, "/a", w).Start(t.Context(), "security", w, time.Hour)
		if !fault.Is(err, fault.Failed) || !strings.Contains(err.Error(), file+" is damaged") || len(w.keys) != 1 {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := New(dir, "/a", w).Pending(); err == nil {
			t.Errorf("%s: pending", text)
		}
	}
}

// consoleUser is a world in which somebody changes the first new key in the console before it is in use.
type consoleUser struct {
	*world
	change func(id string)
}

func (c *consoleUser) Create(ctx context.Context) (string, error) {
	id, err := c.world.Create(ctx)
	if err == nil && c.made == 1 {
		c.change(id)
		c.changed()
	}
	return id, err
}

// TestNewKeyDeletedInConsole: a stored key that AWS has no longer is forgotten, and another one is made. It does not
// block the rotation.
func TestNewKeyDeletedInConsole(t *testing.T) {
	w := calm()
	err := w.rotator().Start(t.Context(), "security", &consoleUser{w, func(id string) { delete(w.keys, id) }}, time.Hour)
	if err != nil || w.names != "NEW2" || w.ring["NEW1"] || len(w.broken) > 0 {
		t.Errorf("got %v; in use %s, keyring %v, %v", err, w.names, w.ring, w.broken)
	}
}

// TestEveryNewKeyIsDeleted: if the second new key is deleted too, the rotation stops and can be resumed.
func TestEveryNewKeyIsDeleted(t *testing.T) {
	w := calm()
	err := w.rotator().Start(t.Context(), "security", &deleter{w}, time.Hour)
	if err == nil || fault.Of(err).Hint != "broker rotate security --resume" || w.made != 2 || w.names != "OLD" {
		t.Errorf("got %v, made %d", err, w.made)
	}
	if err := w.program("resume"); err != nil || w.names != "NEW3" || len(w.broken) > 0 {
		t.Errorf("resume: %v; in use %s, %v", err, w.names, w.broken)
	}
}

// deleter deletes every new key.
type deleter struct{ *world }

func (d *deleter) Create(ctx context.Context) (string, error) {
	id, err := d.world.Create(ctx)
	delete(d.keys, id)
	d.changed()
	return id, err
}

// TestNewKeyDeactivatedInConsole: a stored key that IAM lists and that does not work is kept, and the hint takes it
// back.
func TestNewKeyDeactivatedInConsole(t *testing.T) {
	w := calm()
	off := &consoleUser{w, func(id string) { w.keys[id].Active = false }}
	err := w.rotator().Start(t.Context(), "security", off, time.Hour)
	if err == nil || fault.Of(err).Hint != "broker rotate security --undo" || w.keys["NEW1"] == nil || !w.ring["NEW1"] {
		t.Fatalf("got %v, hint %s, keyring %v", err, fault.Of(err).Hint, w.ring)
	}
	if err := w.program("undo"); err != nil || w.keys["NEW1"] != nil || w.ring["NEW1"] || w.record != nil {
		t.Errorf("undo: %v, keyring %v", err, w.ring)
	}
}

// TestNoConnectionForgetsNoKey: without a connection, no key is forgotten.
func TestNoConnectionForgetsNoKey(t *testing.T) {
	w := calm()
	err := w.rotator().Start(t.Context(), "security", &offline{w}, time.Hour)
	if !fault.Is(err, fault.Network) || !w.ring["NEW1"] || w.keys["NEW1"] == nil || w.made != 1 {
		t.Errorf("got %v, keyring %v", err, w.ring)
	}
}

// offline is a world in which no key can be tried.
type offline struct{ *world }

func (*offline) Try(context.Context, string) error { return fault.New(fault.Network, "no connection") }

// TestLastUseNotTold: if AWS does not say when the old key was last used, it is not deactivated without a yes.
func TestLastUseNotTold(t *testing.T) {
	w := calm()
	w.keys["OLD"].Untold = true
	w.past = nil
	w.changed()
	w.asked = false
	r := w.rotator()
	lines, err := r.Plan(t.Context(), "security", w, "7d")
	if err != nil || !strings.Contains(lines[0], "last use unknown") {
		t.Errorf("plan %q, %v", lines, err)
	}
	err = r.Start(t.Context(), "security", w, time.Hour)
	if !fault.Is(err, fault.NotConfirmed) || !strings.Contains(err.Error(), "AWS does not tell") || w.made != 0 {
		t.Fatalf("got %v, made %d", err, w.made)
	}
	w.asked = true
	if err := r.Start(t.Context(), "security", w, time.Hour); err != nil || w.keys["OLD"].Active {
		t.Errorf("with a yes: %v", err)
	}
}

// TestLostKeyLastUseNotTold: a key that may have been used does not count as one that was lost.
func TestLostKeyLastUseNotTold(t *testing.T) {
	w := calm()
	if err := w.rotator().Start(t.Context(), "security", &unanswered{w}, time.Hour); err == nil || w.record == nil {
		t.Fatalf("got %v, record %s", err, w.record)
	}
	rot, err := w.rotator().records.get("security")
	if err != nil {
		t.Fatal(err)
	}
	made := Key{ID: "CI", Active: true, Created: rot.Asked.Add(time.Second), Untold: true}
	w.keys["CI"] = &iamKey{Key: made, foreign: true}
	w.past = nil
	w.changed()
	err = w.rotator().Resume(t.Context(), "security", w)
	if w.keys["CI"] == nil || err == nil || !strings.Contains(err.Error(), "two keys") {
		t.Errorf("got %v, keys %v", err, w.keys)
	}
}

// TestStoredAgain: if the source was removed and added again with the old key, the daemon makes no key that nobody
// asked for when the old one would be due.
func TestStoredAgain(t *testing.T) {
	w := calm()
	if err := w.program("start"); err != nil {
		t.Fatal(err)
	}
	delete(w.keys, w.names) // in the console
	w.keys["OLD"].Active = true
	w.names, w.ring = "OLD", map[string]bool{"OLD": true}
	w.now = w.now.Add(2 * time.Hour)
	w.past = nil
	w.changed()
	made := w.made
	r := w.rotator()
	for range 2 {
		r.Due(t.Context(), func(string) Source { return w })
	}
	if pending, err := r.Pending(); err != nil || len(pending) > 0 {
		t.Errorf("pending %+v, %v", pending, err)
	}
	if w.made != made || w.names != "OLD" || !w.keys["OLD"].Active || len(w.broken) > 0 {
		t.Errorf("made %d, keys %v, in use %s, %q", w.made-made, w.keys, w.names, w.broken)
	}
}
