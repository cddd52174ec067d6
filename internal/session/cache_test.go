package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// TestRefreshPoint: the refresh point is min(20 min, a third of the lifetime) before the end, and at most a
// thirtieth of the lifetime earlier. botocore asks its helper again in the last 15 minutes, and then always gets a
// new session if sessions last an hour.
func TestRefreshPoint(t *testing.T) {
	issued := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, life := range []time.Duration{2 * time.Second, 15 * time.Minute, time.Hour, 12 * time.Hour, 36 * time.Hour} {
		start := instant{issued.Add(-3 * time.Hour), 7 * time.Minute} // a clock that is wrong by hours
		earliest, latest := time.Duration(1<<62), time.Duration(0)
		for range 2000 {
			e := newEntry(Credentials{Issued: issued, Expires: issued.Add(life)}, start)
			end := e.end.boot - start.boot
			if e.end.wall.Sub(start.wall) != end || e.refresh.wall.Sub(start.wall) != e.refresh.boot-start.boot {
				t.Fatal("the two clocks disagree")
			}
			if short := life - end; short < time.Second || short > time.Second+safetyMargin {
				t.Fatalf("of %v, %v are not used", life, short)
			}
			ahead := e.end.boot - e.refresh.boot
			earliest, latest = min(earliest, ahead), max(latest, ahead)
		}
		usable := life - time.Second - min(safetyMargin, (life-time.Second)/20)
		least := min(20*time.Minute, usable/3)
		if earliest < least || latest > least+usable/30 {
			t.Errorf("%v: renewed %v to %v before the end, want %v to %v", life, earliest, latest, least, least+usable/30)
		}
		if life > time.Minute && latest-earliest < usable/60 {
			t.Errorf("%v: hardly any jitter: %v", life, latest-earliest)
		}
		if life >= time.Hour && earliest < 15*time.Minute {
			t.Errorf("%v: renewed %v before the end, which is too late for botocore", life, earliest)
		}
	}
}

// TestSessionThatEndedInFlight: a session that ended before its answer arrived is not handed out. The cache asks for
// another one once, and not in a loop.
func TestSessionThatEndedInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registry)
		w.aws.now = func() time.Time { return time.Now().Truncate(time.Hour) } // its clock jumps; the calls take longer
		w.aws.take(50 * time.Second)
		plan, _, err := w.plan(&Request{Profile: "security", Files: w.files})
		if err != nil {
			t.Fatal(err)
		}
		plan.Steps = slices.Clone(plan.Steps)
		plan.Steps[0].Duration = 30 * time.Second
		plan.keys = keysOf(plan)
		if c, err := w.step(t.Context(), plan, 0, &Request{}); !fault.Is(err, fault.Failed) {
			t.Errorf("got %s, %v", c.AccessKeyID, err)
		}
		time.Sleep(30 * time.Minute) // no endless refresh either
		w.aws.wantCalls(t, 2, 0)
	})
}

// TestCacheDoesNotGrow: sessions that ended and are not used any more are removed.
func TestCacheDoesNotGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registry)
		w.aws.take(0)
		fill := func(round int) {
			for i := range 1000 {
				p := mustPlan(t, profiles.Chain{
					Source: profiles.Source{Name: "s", AccessKeyID: "AKIA", MFASerial: "GAHT12345678", HasSeed: true},
					Roles:  []profiles.Role{{ARN: fmt.Sprintf("role/%d/%d", round, i), Duration: 15 * time.Minute}},
				}, Defaults{SessionDuration: time.Hour})
				if i%2 == 0 {
					w.aws.onEachAssume(nil)
				} else {
					w.aws.onEachAssume(func(Call) error { return fault.New(fault.Denied, "no") })
				}
				_, err := w.step(t.Context(), p, 1, &Request{})
				if (err == nil) != (i%2 == 0) {
					t.Fatal(err)
				}
			}
		}
		for round := range 10 {
			fill(round)
			time.Sleep(2 * time.Hour)
		}
		w.aws.onEachAssume(nil)
		w.get("dev")
		w.cache.mu.Lock()
		defer w.cache.mu.Unlock()
		if n := len(w.cache.slots); n != 2 {
			t.Errorf("%d keys are kept, want the 2 in use", n)
		}
	})
}

// machine can sleep, its wall clock can be set, and its timers stop during sleep, as on a laptop. The time of the
// bubble is the monotonic clock.
type machine struct {
	born  time.Time
	mu    sync.Mutex
	slept time.Duration
	wrong time.Duration // how far the wall clock is off
	mood  mood          // of the calls to AWS
	nap   time.Duration
}

type mood int

const (
	works mood = iota
	fails
	napsBefore // falls asleep before AWS makes the answer
	napsAfter  // falls asleep before the answer arrives
	moods
)

// true time continues during sleep; AWS uses it.
func (m *machine) true() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Add(m.slept)
}

func (m *machine) now() instant {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now().Round(0).Add(m.slept)
	return instant{now.Add(m.wrong), now.Sub(m.born)}
}

func (m *machine) sleep(d time.Duration) {
	// The bubble's time advances when all goroutines wait, so the machine does not fall asleep between the last
	// check of a session and our check of it.
	time.Sleep(time.Nanosecond)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slept += d
}

func (m *machine) setClock(by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrong += by
}

// spans are durations around every margin of the cache.
var spans = []time.Duration{
	0, time.Second, 4 * time.Second, 6 * time.Second, 30 * time.Second, 5 * time.Minute, 14 * time.Minute,
	21 * time.Minute,
	38 * time.Minute, 41 * time.Minute, 59*time.Minute + 50*time.Second, time.Hour, 3 * time.Hour, 11 * time.Hour,
	40 * time.Hour,
}

func span(r *rand.Rand) time.Duration {
	return spans[r.IntN(len(spans))] + time.Duration(r.Int64N(int64(2*time.Second)))
}

// TestNoScheduleServesADeadSession: whatever the machine's clocks do, STS would accept every answer at that
// moment. Seen to fail, each time within the first 1,000 schedules, in these cases: instant.before compares only
// the wall clock; it compares only the boot clock, on a machine whose boot clock stops during sleep; the end of a
// session is computed from Expires and the wall clock; get does not check the end of a flight's session.
func TestNoScheduleServesADeadSession(t *testing.T) { testSchedules(t, 5_000) }

func TestNoScheduleServesADeadSessionLong(t *testing.T) { testSchedules(t, 100_000) }

func testSchedules(t *testing.T, schedules int) {
	t.Helper()
	const perBubble = 1000
	seed := rand.Uint64()
	var served, failed int
	for from := 0; from < schedules; from += perBubble {
		synctest.Test(t, func(t *testing.T) {
			for i := from; i < from+perBubble; i++ {
				s, f := schedule(t, rand.New(rand.NewPCG(seed, uint64(i))))
				served, failed = served+s, failed+f
				if t.Failed() {
					t.Fatalf("seed %d, schedule %d", seed, i)
				}
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d schedules: %d answers, %d failures", schedules, served, failed)
	if served < 2*schedules || failed < schedules/10 {
		t.Errorf("%d schedules, %d answers, %d failures: too few of one kind: the test proves nothing", schedules, served, failed)
	}
}

func schedule(t *testing.T, r *rand.Rand) (served, failed int) {
	m := &machine{born: time.Now()}
	w := newAWS()
	w.now = m.true
	w.took = time.Duration(r.IntN(3)) * time.Second
	w.onOpen = func(open) error { return m.before() }
	w.onAssume = func(Call) error { return m.before() }
	ctx, end := context.WithCancel(t.Context())
	defer end()
	stops := r.IntN(4) == 0 // the boot clock is monotonic and stops during sleep; then the wall clock is right
	b := New(ctx, Config{Profiles: new(profiles.Store), Vault: napping{w, m}, STS: napping{w, m}})
	b.cache.now = func() instant {
		now := m.now()
		if stops {
			now.boot = time.Since(m.born)
		}
		return now
	}
	var roles []profiles.Role
	for i := range r.IntN(3) {
		roles = append(
			roles,
			profiles.Role{
				ARN:      fmt.Sprint("role/", i),
				Duration: []time.Duration{15 * time.Minute, time.Hour, 3 * time.Hour}[r.IntN(3)],
			},
		)
	}
	plan := mustPlan(
		t,
		profiles.Chain{
			Source: profiles.Source{Name: "s", AccessKeyID: "AKIA", MFASerial: "GAHT12345678", HasSeed: true},
			Roles:  roles,
		},
		Defaults{SessionDuration: []time.Duration{15 * time.Minute, time.Hour, 12 * time.Hour}[r.IntN(3)]},
	)

	ask := func() bool {
		c, err := b.step(ctx, plan, len(plan.Steps)-1, &Request{})
		if err != nil {
			return false
		}
		if !w.accepts(c) {
			t.Errorf("served %s, which ended %v ago", c.AccessKeyID, m.true().Sub(c.Expires))
		}
		return true
	}
	for range 4 + r.IntN(8) {
		switch r.IntN(8) {
		case 0:
			m.sleep(span(r))
		case 1:
			if !stops {
				m.setClock([]time.Duration{1, -1}[r.IntN(2)] * span(r))
			}
		case 2, 3:
			time.Sleep(span(r))
		case 4:
			m.set(mood(r.IntN(int(moods))), span(r))
		default:
			ok := ask()
			if ok {
				served++
			} else {
				failed++
			}
		}
	}
	end()
	_, _ = b.Logout(context.Background(), "s", profiles.Files{})
	time.Sleep(time.Minute) // let the flights finish
	return served, failed
}

func (m *machine) set(mood mood, nap time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mood, m.nap = mood, nap
}

func (m *machine) get() (mood, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mood, m.nap
}

// before is what happens to a call before AWS makes the answer.
func (m *machine) before() error {
	switch mood, nap := m.get(); mood {
	case fails:
		return fault.New(fault.Network, "no route")
	case napsBefore:
		m.sleep(nap)
	}
	return nil
}

// after is what happens between the answer and its arrival.
func (m *machine) after() {
	if mood, nap := m.get(); mood == napsAfter {
		m.sleep(nap)
	}
}

// napping is AWS, called by a machine that may fall asleep during a call.
type napping struct {
	*aws
	m *machine
}

func (n napping) Open(ctx context.Context, s profiles.Source, call Call, code secret.String) (Credentials, error) {
	defer n.m.after()
	return n.aws.Open(ctx, s, call, code)
}

func (n napping) Assume(ctx context.Context, with Credentials, call Call) (Credentials, error) {
	defer n.m.after()
	return n.aws.Assume(ctx, with, call)
}
