package rotate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"broker/internal/fault"
)

// world is IAM, the keyring, the registry, the record and the clock of a model. It is the Source, the Clock and the
// files of a Rotator. Each call and each write has a point before it and a point after it, at which a schedule may
// make it fail or end the program.
type world struct {
	rng    *rand.Rand
	now    time.Time
	keys   map[string]*iamKey
	past   []listing       // what IAM listed earlier; it may answer with one of these
	ring   map[string]bool // ids of the keys in the keyring's item
	names  string          // the key that the registry names
	record []byte

	point  int            // counts the points
	faults map[int]string // what happens at a point
	asked  bool           // a person is there, and says yes
	made   int
	tried  map[string]int // successful tries in a row, by key
	broken []string       // violated invariants
	trace  []string
}

type iamKey struct {
	Key
	foreign bool      // somebody else made it
	visible time.Time // until then, only some calls with it succeed
}

type listing struct {
	at   time.Time
	keys []Key
}

// crash ends the program at a point.
type crash struct{}

func newWorld(seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		keys: map[string]*iamKey{}, ring: map[string]bool{"OLD": true}, names: "OLD", asked: true, faults: map[int]string{},
		tried: map[string]int{}}
	w.keys["OLD"] = &iamKey{Key: Key{ID: "OLD", Active: true, Created: w.now.Add(-1000 * time.Hour)}}
	if w.rng.IntN(4) == 0 {
		w.keys["OLD"].Used, w.keys["OLD"].Service = w.now.Add(-time.Hour), "s3"
	}
	w.changed()
	return w
}

func (w *world) changed() {
	var list []Key
	for _, id := range slices.Sorted(maps.Keys(w.keys)) {
		list = append(list, w.keys[id].Key)
	}
	w.past = append(w.past, listing{w.now, list})
}

func (w *world) wrong(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// at is one point. It returns the error that a call has there.
func (w *world) at(name string, after bool) error {
	w.point++
	kind := w.faults[w.point]
	if kind == "" {
		return nil
	}
	side := "before"
	if after {
		side = "after"
	}
	w.trace = append(w.trace, fmt.Sprintf("%s %s %s", kind, side, name))
	file := strings.HasPrefix(name, "write")
	switch kind {
	case "crash":
		panic(crash{})
	case "error":
		if file {
			return syscall.EIO
		}
		return fault.New(fault.Network, "no connection")
	case "refused":
		if file {
			return syscall.ENOSPC
		}
		if after {
			return fault.New(fault.Network, "the answer was lost")
		}
		return fault.New([]fault.Kind{fault.Denied, fault.Locked, fault.KeyringLocked, fault.Throttled}[w.rng.IntN(4)], "refused")
	}
	panic("unknown fault " + kind)
}

// do is one call or write, with a point on both sides.
func (w *world) do(name string, effect func() error) error {
	w.trace = append(w.trace, name)
	if err := w.at(name, false); err != nil {
		return err
	}
	if err := effect(); err != nil {
		return err
	}
	w.check(name)
	return w.at(name, true)
}

// check checks what must hold at every moment.
func (w *world) check(name string) {
	key := w.keys[w.names]
	switch {
	case key == nil:
		w.wrong("after %s: the registry names %s, which does not exist", name, w.names)
	case !key.Active:
		w.wrong("after %s: the registry names %s, which is inactive", name, w.names)
	case !w.ring[w.names]:
		w.wrong("after %s: the registry names %s, which is not in the keyring", name, w.names)
	}
	if len(w.keys) > 2 {
		w.wrong("after %s: the user has %d keys", name, len(w.keys))
	}
}

// signed is a call that is signed with a key. IAM may not know a new key yet.
func (w *world) signed(id string) error {
	key := w.keys[id]
	if key == nil || !key.Active || !w.ring[id] || w.now.Before(key.visible) && w.rng.IntN(2) == 0 {
		return fault.New(fault.Denied, "unknown key %s", id)
	}
	return nil
}

func (w *world) InUse() (string, error) { return w.names, nil }

func (w *world) Keys(context.Context) (keys Keys, err error) {
	err = w.do("list", func() error {
		if err := w.signed(w.names); err != nil {
			return err
		}
		seen := w.past[len(w.past)-1]
		if w.rng.IntN(3) == 0 { // IAM is behind
			for i := len(w.past) - 1; i >= 0 && w.now.Sub(w.past[i].at) < 20*time.Second; i-- {
				seen = w.past[max(i-1, 0)]
				if w.rng.IntN(2) == 0 {
					break
				}
			}
		}
		keys.Now = w.now
		for _, key := range seen.keys {
			key.Stored = w.ring[key.ID]
			keys.Listed = append(keys.Listed, key)
		}
		keys.Stored = slices.Sorted(maps.Keys(w.ring))
		return nil
	})
	if err != nil {
		return Keys{}, err
	}
	return keys, nil
}

// Create is what the vault process does: it makes the key, stores it, and deletes it again if that fails.
func (w *world) Create(context.Context) (string, error) {
	id := ""
	err := w.do("create", func() error {
		if err := w.signed(w.names); err != nil {
			return err
		}
		if len(w.keys) > 1 {
			return fmt.Errorf("%w", fault.New(fault.Failed, "%w", ErrLimit))
		}
		w.made++
		id = fmt.Sprintf("NEW%d", w.made)
		w.keys[id] = &iamKey{Key: Key{ID: id, Active: true, Created: w.now.Truncate(time.Second)},
			visible: w.now.Add(time.Duration(w.rng.IntN(20)) * time.Second)}
		w.changed()
		return nil
	})
	if err != nil {
		return "", err
	}
	err = w.do("store", func() error { w.ring[id] = true; return nil })
	if err == nil {
		return id, nil
	}
	if w.ring[id] { // what was written cannot be read back
		delete(w.ring, id)
	}
	if gone := w.do("delete again", func() error { return w.delete(id) }); gone != nil {
		return "", fault.New(fault.Keyring, "not stored, and not deleted: %w", gone)
	}
	return "", fault.New(fault.Keyring, "not stored: %w (%w)", err, ErrNotMade)
}

func (w *world) Try(_ context.Context, id string) error {
	return w.do("try "+id, func() error {
		err := w.signed(id)
		if w.tried[id]++; err != nil {
			w.tried[id] = 0
		}
		return err
	})
}

func (w *world) SetActive(_ context.Context, id string, active bool) error {
	return w.do(fmt.Sprintf("active %s %v", id, active), func() error {
		if err := w.signed(w.names); err != nil {
			return err
		}
		key := w.keys[id]
		if key == nil {
			return fault.New(fault.NotFound, "no such key")
		}
		key.Active = active
		w.changed()
		return nil
	})
}

func (w *world) delete(id string) error {
	if err := w.signed(w.names); err != nil {
		return err
	}
	key := w.keys[id]
	if key == nil {
		return nil
	}
	if key.foreign {
		w.wrong("the key %s of somebody else was deleted", id)
	}
	if id == w.names {
		w.wrong("the key %s in use was deleted", id)
	}
	delete(w.keys, id)
	w.changed()
	return nil
}

func (w *world) Delete(_ context.Context, id string) error {
	return w.do("delete "+id, func() error { return w.delete(id) })
}

func (w *world) Forget(_ context.Context, id string) error {
	return w.do("forget "+id, func() error {
		if key := w.keys[id]; key != nil {
			w.wrong("the secret of the key %s was forgotten, which still exists", id)
		}
		delete(w.ring, id)
		return nil
	})
}

func (w *world) Use(_ context.Context, from, id string, _ time.Time) error {
	return w.do("write registry "+id, func() error {
		if w.names != from {
			w.wrong("the key %s was replaced, which is not in use", from)
		}
		if w.tried[id] < tries {
			w.wrong("the key %s was put into use after %d tries", id, w.tried[id])
		}
		w.names = id
		return nil
	})
}

func (w *world) Confirm(context.Context, []string) error {
	if !w.asked {
		return fault.New(fault.NotConfirmed, "nobody to ask")
	}
	return nil
}

func (w *world) Tell(string) {}

func (w *world) Record(step, _ string, err error) error {
	if err != nil {
		return nil
	}
	if err := w.do("write audit "+step, func() error { return nil }); err != nil {
		return fault.New(fault.Failed, "the audit log cannot be written: %w", err)
	}
	return nil
}

func (w *world) Now() time.Time { return w.now }

func (w *world) Wait(_ context.Context, d time.Duration) error {
	w.now = w.now.Add(d)
	return w.at("wait", false)
}

func (w *world) lock(string) (func(), error) { return func() {}, nil }

func (w *world) read(string) ([]byte, error) {
	if w.record == nil {
		return nil, fs.ErrNotExist
	}
	return w.record, nil
}

func (w *world) replace(_ string, data []byte) error {
	return w.do("write record", func() error { w.record = slices.Clone(data); return nil })
}

func (w *world) remove(string) error {
	return w.do("write no record", func() error { w.record = nil; return nil })
}

// program runs the program until it ends or crashes. Each run is a new Rotator: only the world is left of the one
// before.
func (w *world) program(what string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, is := r.(crash); !is {
				panic(r)
			}
			err = errors.New("crashed")
		}
	}()
	w.trace = append(w.trace, "-- "+what)
	w.asked = what != "due"
	r := &Rotator{records: records{"dir", "registry", w}, clock: w, failed: map[string]failure{}}
	ctx := context.Background()
	switch what {
	case "start":
		return r.Start(ctx, "security", w, time.Hour)
	case "resume":
		return r.Resume(ctx, "security", w)
	case "undo":
		return r.Undo(ctx, "security", w)
	case "due":
		r.Due(ctx, func(string) Source { return w })
	}
	return nil
}

// live runs one schedule: a rotation with faults, whatever a person does meanwhile, and then what is left without
// faults.
func (w *world) live() {
	for range w.rng.IntN(5) {
		w.faults[1+w.rng.IntN(60)] = []string{"crash", "error", "refused"}[w.rng.IntN(3)]
	}
	if w.rng.IntN(8) == 0 {
		w.keys["OTHER"] = &iamKey{Key: Key{ID: "OTHER", Active: true, Created: w.now.Add(-time.Hour)}, foreign: true}
		w.changed()
		w.now = w.now.Add(time.Duration(w.rng.IntN(30)) * time.Second)
	}
	_ = w.program("start")
	for range w.rng.IntN(4) {
		switch w.rng.IntN(6) {
		case 0:
			_ = w.program("undo")
		case 1:
			w.now = w.now.Add(time.Duration(w.rng.IntN(90)) * time.Minute)
			_ = w.program("due")
		case 2:
			_ = w.program("start")
		case 3:
			w.deleteUnused()
		default:
			_ = w.program("resume")
		}
	}
	w.finish()
}

// deleteUnused is a person who deletes the new key in the console before it is in use.
func (w *world) deleteUnused() {
	for id, key := range w.keys {
		if w.names == "OLD" && id != "OLD" && !key.foreign {
			w.trace = append(w.trace, "-- the console deletes "+id)
			delete(w.keys, id)
		}
	}
	w.changed()
}

// finish ends the rotation without faults, and checks what must hold at its end.
func (w *world) finish() {
	w.faults = nil
	for range 10 {
		if w.record == nil {
			break
		}
		w.now = w.now.Add(20 * time.Minute)
		_ = w.program("resume")
	}
	if w.record != nil {
		w.wrong("the rotation does not end")
	}
	w.now = w.now.Add(time.Hour)
	w.check("the end")
	for id, key := range w.keys {
		if id != w.names && !key.foreign {
			w.wrong("the key %s is left over", id)
		}
	}
	if len(w.ring) != 1 {
		w.wrong("the keyring holds %v", w.ring)
	}
}

// TestEveryPoint: one fault of each kind, before and after each call and each write of a rotation, of its last step and
// of its undoing.
func TestEveryPoint(t *testing.T) {
	points := 0
	for _, then := range []string{"", "due", "undo"} {
		for _, kind := range []string{"crash", "error", "refused"} {
			for point, reached := 1, true; reached; point++ {
				w := calm()
				w.faults[point] = kind
				_ = w.program("start")
				if then == "due" {
					w.now = w.now.Add(2 * time.Hour)
				}
				if then != "" {
					_ = w.program(then)
				}
				reached = w.point >= point
				w.finish()
				points++
				if len(w.broken) > 0 {
					t.Fatalf("%s at point %d, %s: %s\n%s", kind, point, then, strings.Join(w.broken, "\n"),
						strings.Join(w.trace, "\n"))
				}
			}
		}
	}
	if points < 300 {
		t.Errorf("only %d points: the test proves nothing", points)
	}
}

func schedules(t *testing.T, n uint64) {
	t.Helper()
	replaced, crashed := 0, 0
	for seed := range n {
		w := newWorld(seed)
		w.live()
		if w.names != "OLD" {
			replaced++
		}
		if slices.ContainsFunc(w.trace, func(line string) bool { return strings.HasPrefix(line, "crash") }) {
			crashed++
		}
		if len(w.broken) > 0 {
			t.Fatalf("schedule %d: %s\n%s", seed, strings.Join(w.broken, "\n"), strings.Join(w.trace, "\n"))
		}
	}
	if uint64(replaced) < n/3 || uint64(crashed) < n/4 {
		t.Errorf("of %d schedules, %d replaced the key and %d crashed: the test proves nothing", n, replaced, crashed)
	}
}

// TestSchedules: whatever fails, and wherever the program ends, the key that the registry names works, the user never
// has three keys, no key is deleted that was not replaced, and the rotation ends.
func TestSchedules(t *testing.T) { schedules(t, 1000) }

func TestSchedulesLong(t *testing.T) { schedules(t, 50_000) }
