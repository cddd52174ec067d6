package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/secret"
)

// person is a fake Terminal that answers prompts after a delay.
type person struct {
	after   time.Duration
	answers []string // "" cancels; "gone" means that the terminal disconnects; when none is left, no answer comes
	mu      sync.Mutex
	asked   []Prompt
	open    int
	offered string   // the answer to an offer: "here", "no", a code, or "" for none
	offers  []string // the offers that were shown
	nowhere bool     // the system does not report the terminal's name
}

func (p *person) seat() string {
	if p.nowhere {
		return ""
	}
	return fmt.Sprintf("pts/%p", p)
}

func (p *person) Seat() (seat, who string) { return p.seat(), "aws" }

func (p *person) Offer(ctx context.Context, q Prompt, seat, who string) (secret.String, error) {
	p.mu.Lock()
	p.offers = append(p.offers, q.Source+" on "+seat+" by "+who)
	p.open++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.open--
		p.mu.Unlock()
	}()
	var answered <-chan time.Time
	if p.offered != "" {
		answered = time.After(p.after)
	}
	select {
	case <-ctx.Done():
		return secret.String{}, ctx.Err()
	case <-answered:
	}
	switch p.offered {
	case "no":
		return secret.String{}, ErrCancelled
	case "here":
		return secret.String{}, nil
	}
	return secret.New(p.offered), nil
}

func (p *person) Ask(ctx context.Context, q Prompt) (secret.String, error) {
	p.mu.Lock()
	n := len(p.asked)
	p.asked = append(p.asked, q)
	p.open++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.open--
		p.mu.Unlock()
	}()
	var answered <-chan time.Time
	if n < len(p.answers) {
		answered = time.After(p.after)
	}
	select {
	case <-ctx.Done():
		return secret.String{}, ctx.Err()
	case <-answered:
	}
	switch a := p.answers[n]; a {
	case "":
		return secret.String{}, ErrCancelled
	case "gone":
		return secret.String{}, ErrGone
	default:
		return secret.New(a), nil
	}
}

func (p *person) prompts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

// oneUse is a vault without a seed that accepts each of these codes once.
func oneUse(codes ...string) func(open) error {
	var mu sync.Mutex
	good := map[string]bool{}
	for _, c := range codes {
		good[c] = true
	}
	return func(o open) error {
		if err := withoutSeed(o); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if !good[o.code] {
			return fault.New(fault.CodeRejected, "the code is wrong")
		}
		good[o.code] = false
		return nil
	}
}

const threeRoles = `
[source typed]
access_key_id = AKIAI44QH8DHBEXAMPLE
mfa_serial = arn:aws:iam::111122223333:mfa/paula
[source other]
access_key_id = AKIAIOSFODNN7EXAMPLE
mfa_serial = arn:aws:iam::111122223333:mfa/paul
[profile a]
role_arn = arn:aws:iam::444455556666:role/a
source_profile = typed
[profile b]
role_arn = arn:aws:iam::444455556666:role/b
source_profile = typed
[profile c]
role_arn = arn:aws:iam::444455556666:role/c
source_profile = other
[profile long]
role_arn = arn:aws:iam::444455556666:role/long
source_profile = typed
duration_seconds = 7200
[profile each]
role_arn = arn:aws:iam::444455556666:role/each
source_profile = typed
mfa = each
`

// as asks for a profile with a person at the terminal.
func (w *world) as(profile string, who Terminal) (Answer, error) {
	return w.Credentials(w.t.Context(), Request{Profile: profile, Files: w.files, Terminal: who})
}

func TestOnePromptForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(oneUse("111111"))
		people := make([]*person, 50)
		var wg sync.WaitGroup
		for i := range people {
			people[i] = &person{after: 5 * time.Second, answers: []string{"111111"}}
			wg.Go(func() {
				if _, err := w.as([]string{"a", "b"}[i%2], people[i]); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		asked := 0
		for _, p := range people {
			asked += p.prompts()
		}
		if asked != 1 {
			t.Errorf("%d prompts, want 1", asked)
		}
		w.aws.wantCalls(t, 2, 2) // a check for a kept session, the session; two roles
	})
}

func TestTwoDevicesAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(oneUse("111111", "222222"))
		slow, quick := &person{after: 30 * time.Second, answers: []string{"111111"}}, &person{after: time.Second, answers: []string{"222222"}}
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := w.as("a", slow); err != nil {
				t.Error(err)
			}
		})
		start := time.Now()
		if _, err := w.as("c", quick); err != nil {
			t.Error(err)
		}
		if waited := time.Since(start); waited > 10*time.Second {
			t.Errorf("waited %v for another device's prompt", waited)
		}
		wg.Wait()
	})
}

func TestWrongCodeAsksAgainWithTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(oneUse("333333"))
		p := &person{after: time.Second, answers: []string{"111111", "222222", "333333"}}
		if _, err := w.as("a", &again{p}); err != nil {
			t.Fatal(err)
		}
		if p.prompts() != 3 || p.asked[0].Reason != "" || p.asked[2].Reason != "the code is wrong" {
			t.Errorf("asked %+v", p.asked)
		}
		// At most three times.
		w.logout("")
		p = &person{after: time.Second, answers: []string{"1", "2", "3", "4"}}
		if _, err := w.as("a", &again{p}); !fault.Is(err, fault.CodeRejected) || p.prompts() != 3 {
			t.Errorf("asked %d times: %v", p.prompts(), err)
		}
	})
}

// again is a person who can be prompted more than once at one terminal.
type again struct{ *person }

func TestWrongDeviceIsNotAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(func(o open) error {
			if err := withoutSeed(o); err != nil {
				return err
			}
			return fault.New(fault.CodeRejected, "no such device: %w", ErrWrongDevice)
		})
		p := &person{after: time.Second, answers: []string{"111111", "222222"}}
		if _, err := w.as("a", p); !errors.Is(err, ErrWrongDevice) || p.prompts() != 1 {
			t.Errorf("asked %d times: %v", p.prompts(), err)
		}
	})
}

// TestDecliningCountsForThePlace: declining ends the requests of that terminal only, and is not remembered.
func TestDecliningCountsForThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(oneUse("111111", "222222"))
		p := &person{after: 2 * time.Second, answers: []string{""}}
		elsewhere := &person{after: 2 * time.Second, answers: []string{"111111"}}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if _, err := w.as([]string{"a", "b"}[i%2], &again{p}); !errors.Is(err, ErrCancelled) ||
					!fault.Is(err, fault.LoginNeeded) {
					t.Errorf("got %v", err)
				}
			})
		}
		time.Sleep(time.Second) // the prompt is open
		wg.Go(func() {
			if _, err := w.as("a", elsewhere); err != nil {
				t.Errorf("at another terminal: %v", err)
			}
		})
		wg.Wait()
		if p.prompts() != 1 || elsewhere.prompts() != 1 {
			t.Errorf("%d and %d prompts, want 1 and 1", p.prompts(), elsewhere.prompts())
		}

		// A single request fails at once; the next one is prompted again.
		w.logout("")
		for _, answer := range []string{"", "222222"} {
			q := &person{answers: []string{answer}}
			if _, err := w.as("a", q); errors.Is(err, ErrCancelled) != (answer == "") || q.prompts() != 1 {
				t.Errorf("%q: asked %d times: %v", answer, q.prompts(), err)
			}
		}
	})
}

// TestDecliningAtAWindow: declining at a window ends the requests that would be prompted there next, but not a request
// that has a terminal.
func TestDecliningAtAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "[settings]\nmfa_prompt = gui,tty\n"+threeRoles)
		w.aws.onEachOpen(oneUse("111111"))
		window := &person{after: 2 * time.Second, answers: []string{""}}
		terminal := &person{after: time.Second, answers: []string{"111111"}}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				_, err := w.Credentials(t.Context(), Request{Profile: "a", Files: w.files, Window: window})
				if !errors.Is(err, ErrCancelled) {
					t.Errorf("without a terminal: %v", err)
				}
			})
		}
		wg.Go(func() {
			_, err := w.Credentials(t.Context(), Request{Profile: "b", Files: w.files, Window: window, Terminal: terminal})
			if err != nil {
				t.Errorf("with a terminal: %v", err)
			}
		})
		wg.Wait()
		if window.prompts() != 1 || terminal.prompts() != 1 {
			t.Errorf("asked %d and %d times", window.prompts(), terminal.prompts())
		}
	})
}

// TestOffer: requests at other terminals are told where the prompt is open, once for each terminal. They can take
// the prompt over, bring the code, or give up.
func TestOffer(t *testing.T) {
	for name, tt := range map[string]struct {
		says   string // at the other terminal
		asked  int    // how often that terminal is prompted
		cancel bool   // its request fails
	}{
		"Enter":           {"here", 1, false},
		"the code itself": {"111111", 0, false},
		"Ctrl-C":          {"no", 0, true},
		"nothing":         {"", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, threeRoles)
				w.aws.onEachOpen(oneUse("111111"))
				first := &person{after: 20 * time.Second, answers: []string{"111111"}}
				other := &person{after: 5 * time.Second, answers: []string{"111111"}, offered: tt.says}
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, err := w.as("a", first); err != nil {
						t.Error(err)
					}
				})
				time.Sleep(time.Second)
				for range 3 {
					wg.Go(func() {
						if _, err := w.as("b", &again{other}); errors.Is(err, ErrCancelled) != tt.cancel {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if first.prompts() != 1 || other.prompts() != tt.asked || first.open+other.open != 0 {
					t.Errorf("asked %d and %d times, %d still open", first.prompts(), other.prompts(), first.open+other.open)
				}
				if want := []string{"typed on " + first.seat() + " by aws"}; !slices.Equal(other.offers, want) {
					t.Errorf("offers %q, want %q", other.offers, want)
				}
			})
		})
	}
}

// TestTakenOver: a prompt that was taken over comes back if the other terminal disconnects.
func TestTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(oneUse("111111"))
		first := &person{after: 20 * time.Second, answers: []string{"never", "111111"}}
		other := &person{after: 5 * time.Second, answers: []string{"gone"}, offered: "here"}
		var wg sync.WaitGroup
		for _, p := range []*person{first, other} {
			wg.Go(func() {
				if _, err := w.as("a", p); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Second)
		}
		wg.Wait()
		if first.prompts() != 2 || other.prompts() != 1 {
			t.Errorf("asked %d and %d times", first.prompts(), other.prompts())
		}
	})
}

func TestNextTerminalWhereTheFirstGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(oneUse("111111"))
		gone, stays := &person{after: 3 * time.Second, answers: []string{"gone"}}, &person{after: time.Second, answers: []string{"111111"}}
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := w.as("a", gone); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(2 * time.Second)
		if _, err := w.as("a", stays); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if gone.prompts() != 1 || stays.prompts() != 1 {
			t.Errorf("asked %d and %d times", gone.prompts(), stays.prompts())
		}
	})
}

// TestLoginSatisfiesEveryWaiter: a login with a code answers the prompt that is open elsewhere, and removes it
// from that screen.
func TestLoginSatisfiesEveryWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(oneUse("111111"))
		p := &person{} // never answers
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				if _, err := w.as([]string{"a", "b"}[i%2], p); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(10 * time.Second)
		_, err := w.Credentials(t.Context(), Request{Profile: "typed", Files: w.files, Login: true, Code: secret.New("111111")})
		if err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if p.prompts() != 1 || p.open != 0 {
			t.Errorf("%d prompts, %d still open", p.prompts(), p.open)
		}
	})
}

// TestLoginIsAskedWhereItIsTyped: while a prompt is open elsewhere, a login is prompted where it was typed. The
// other prompt disappears, and the answer serves both requests.
func TestLoginIsAskedWhereItIsTyped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(oneUse("111111"))
		elsewhere := &person{} // nobody is there
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := w.as("a", elsewhere); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(5 * time.Second)
		if got := w.Waiting(); len(got) != 1 || got[0] != (Waiting{"typed", "arn:aws:iam::111122223333:mfa/paula", 1}) {
			t.Errorf("waiting: %+v", got)
		}
		here := &person{after: time.Second, answers: []string{"111111"}}
		if _, err := w.Credentials(t.Context(), Request{Profile: "typed", Files: w.files, Terminal: here, Login: true}); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if elsewhere.prompts() != 1 || elsewhere.open != 0 || here.prompts() != 1 {
			t.Errorf("asked %d (%d open) and %d times", elsewhere.prompts(), elsewhere.open, here.prompts())
		}
		if got := w.Waiting(); len(got) != 0 {
			t.Errorf("still waiting: %+v", got)
		}
	})
}

func TestPromptTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(oneUse())
		ctx, cancel := context.WithTimeout(t.Context(), 49*time.Second)
		defer cancel()
		_, err := w.Credentials(ctx, Request{Profile: "a", Files: w.files, Terminal: &person{}})
		f := fault.Of(err)
		if f.Kind != fault.LoginNeeded || f.Hint != "broker login typed --code 123456" {
			t.Errorf("got %v, hint %q", err, f.Hint)
		}
		time.Sleep(flightTimeout) // let everything in the bubble end
	})
}

// TestOrder: a window is tried once, after the terminals, and nothing is tried if no place is set.
func TestOrder(t *testing.T) {
	for _, tt := range []struct {
		prompt           string
		terminal, window []string
		wantT, wantW     int
		wantErr          bool
	}{
		{"tty,gui", []string{"111111"}, []string{"111111"}, 1, 0, false},
		{"gui,tty", []string{"111111"}, []string{"111111"}, 0, 1, false},
		{"tty,gui", []string{"gone"}, []string{"111111"}, 1, 1, false},
		{"gui", []string{"111111"}, []string{"gone"}, 0, 1, true},
		{"tty", []string{"gone"}, []string{"111111"}, 1, 0, true},
	} {
		t.Run(fmt.Sprint(tt.prompt, tt.terminal, tt.window), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "[settings]\nmfa_prompt = "+tt.prompt+"\n"+threeRoles)
				w.aws.onEachOpen(oneUse("111111"))
				terminal, window := &person{answers: tt.terminal}, &person{answers: tt.window}
				_, err := w.Credentials(t.Context(), Request{Profile: "a", Files: w.files, Terminal: terminal, Window: window})
				if (err != nil) != tt.wantErr || err != nil && !fault.Is(err, fault.LoginNeeded) {
					t.Errorf("got %v", err)
				}
				if terminal.prompts() != tt.wantT || window.prompts() != tt.wantW {
					t.Errorf("terminal %d, window %d", terminal.prompts(), window.prompts())
				}
			})
		})
	}
}

// TestProcess: the source's program is asked before people. After one of its codes was rejected, the code of the
// next period is used.
func TestProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles+"[source dongle]\naccess_key_id = AKIAZZZZZZZZZZZZZZZZ\nmfa_serial = arn:aws:iam::111122223333:mfa/d\nmfa_process = ykman code\n")
		w.aws.onEachOpen(oneUse("222222"))
		var at []time.Time
		w.cfg.Process = func(_ context.Context, command string) (secret.String, error) {
			at = append(at, time.Now())
			return secret.New([]string{"111111", "222222"}[len(at)-1]), nil
		}
		p := &person{answers: []string{"333333"}}
		if _, err := w.as("dongle", p); err != nil {
			t.Fatal(err)
		}
		if len(at) != 2 || p.prompts() != 0 || !at[1].After(at[0].Truncate(codeStep).Add(codeStep-1)) {
			t.Errorf("ran at %v, asked %d times", at, p.prompts())
		}
	})
}

// TestNobodyIsAskedEarly: while the old session works, nobody is prompted for the next one, except by a login.
func TestNobodyIsAskedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(oneUse("111111", "222222"))
		if _, err := w.as("typed", &person{answers: []string{"111111"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11*time.Hour + 50*time.Minute)
		p := &person{answers: []string{"222222"}}
		if _, err := w.as("typed", p); err != nil || p.prompts() != 0 {
			t.Errorf("asked %d times: %v", p.prompts(), err)
		}
		if _, err := w.Credentials(t.Context(), Request{Profile: "typed", Files: w.files, Terminal: p, Login: true}); err != nil ||
			p.prompts() != 1 {
			t.Errorf("a login: asked %d times: %v", p.prompts(), err)
		}
	})
}

// TestRolesThatNeedTheirOwnCode: a role over an hour and a role with mfa = each need their own codes.
func TestRolesThatNeedTheirOwnCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(oneUse("111111", "222222", "333333"))
		for i, profile := range []string{"a", "long", "each"} {
			code := []string{"111111", "222222", "333333"}[i]
			p := &person{answers: []string{code}}
			a, err := w.as(profile, p)
			if err != nil || p.prompts() != 1 || a.Subject == "" {
				t.Errorf("%s: asked %d times: %v", profile, p.prompts(), err)
			}
		}
	})
}

// TestRoleThatAllowsLess: the maximum of a role is learnt from AWS's refusal, and remembered.
func TestRoleThatAllowsLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(func(o open) error {
			if err := withoutSeed(o); err != nil {
				return err
			}
			if o.call.Operation == AssumeRole {
				return fault.New(fault.Failed, "too long: %w", ErrDurationTooLong)
			}
			return nil
		})
		p := &again{&person{answers: []string{"111111", "222222", "333333"}}}
		a, err := w.as("long", p)
		if err != nil || p.prompts() != 2 { // one for the refused call, one for the session
			t.Fatalf("asked %d times: %v", p.prompts(), err)
		}
		if life := a.Expires.Sub(a.Issued); life != time.Hour {
			t.Errorf("lives %v", life)
		}
		w.logout("")
		if _, err := w.as("long", p); err != nil || p.prompts() != 3 {
			t.Errorf("not remembered: asked %d times in all: %v", p.prompts(), err)
		}
		if _, err := w.Credentials(t.Context(), Request{Profile: "long", Files: w.files, MinTTL: 2 * time.Hour}); !fault.Is(
			err,
			fault.Failed,
		) {
			t.Errorf("two hours of a role that allows one hour: %v", err)
		}
	})
}

func TestMinTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registry)
		min := func(profile string, ttl time.Duration) (Answer, error) {
			return w.Credentials(t.Context(), Request{Profile: profile, Files: w.files, MinTTL: ttl})
		}
		first, err := min("dev", 30*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(35 * time.Minute)
		second, err := min("dev", 30*time.Minute)
		if err != nil || second.AccessKeyID == first.AccessKeyID {
			t.Errorf("got the one that ends too soon: %v", err)
		}
		calls, _ := w.aws.calls()
		long, err := min("dev", 2*time.Hour)
		if n, _ := w.aws.calls(); n != calls+1 {
			t.Errorf("two hours took %d calls with the key", n-calls)
		}
		if err != nil || long.Expires.Sub(long.Issued) != 2*time.Hour {
			t.Errorf("two hours: %v, %v", long.Expires.Sub(long.Issued), err)
		}
		for profile, ttl := range map[string]time.Duration{"deep": 2 * time.Hour, "dev": 13 * time.Hour, "security": 37 * time.Hour} {
			if _, err := min(profile, ttl); !fault.Is(err, fault.Failed) {
				t.Errorf("%s for %v: %v", profile, ttl, err)
			}
		}
	})
}

func TestFreshMFANeedsADevice(t *testing.T) {
	for what, chain := range map[string]profiles.Chain{
		"no device": {Roles: []profiles.Role{{ARN: "role/a", FreshMFA: true}}},
		"a chain":   {Roles: []profiles.Role{{ARN: "role/a"}, {ARN: "role/b", FreshMFA: true}}},
	} {
		if _, err := NewPlan(chain, Defaults{}); !fault.Is(err, fault.Config) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestFailuresPointToThePlan: a failure without a better hint points to broker explain.
func TestFailuresPointToThePlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, registry)
		w.aws.onEachAssume(func(Call) error { return fault.New(fault.Denied, "no") })
		if _, err := w.ask("dev"); fault.Of(err).Hint != "broker explain dev" {
			t.Errorf("hint %q", fault.Of(err).Hint)
		}
	})
}

// TestDecliningWithoutASeat: if the system does not name terminals, declining at one counts for that terminal only.
func TestDecliningWithoutASeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(oneUse("111111"))
		first := &person{after: 5 * time.Second, answers: []string{""}, nowhere: true}
		other := &person{after: 5 * time.Second, answers: []string{"111111"}, nowhere: true}
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := w.as("a", first); !errors.Is(err, ErrCancelled) {
				t.Error(err)
			}
		})
		time.Sleep(time.Second)
		wg.Go(func() {
			if _, err := w.as("a", other); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
	})
}

// TestOfferWithoutASeat: a prompt at a terminal without a name is offered to the other terminals too.
func TestOfferWithoutASeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles)
		w.aws.onEachOpen(oneUse("111111"))
		first := &person{after: time.Hour, answers: []string{"never"}, nowhere: true}
		other := &person{after: 5 * time.Second, answers: []string{"111111"}, offered: "here"}
		var wg sync.WaitGroup
		for _, p := range []*person{first, other} {
			wg.Go(func() {
				if _, err := w.as("a", p); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Second)
		}
		wg.Wait()
		if other.prompts() != 1 {
			t.Errorf("asked %d times", other.prompts())
		}
	})
}

// TestCodeForItsEndpoint: a code that a request brings goes to the endpoint of that request, not to the endpoint
// of another request for the same device. The requests do not wait for each other.
func TestCodeForItsEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, threeRoles+"endpoint_url = http://127.0.0.1:4566\n")
		told := map[string]string{}
		w.aws.onEachOpen(func(o open) error {
			if err := withoutSeed(o); err != nil {
				return err
			}
			told[o.code] = o.call.Endpoint.URL
			return nil
		})
		local := &person{after: 20 * time.Second, answers: []string{"222222"}}
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := w.as("each", local); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Second)
		began := time.Now()
		_, err := w.Credentials(t.Context(), Request{Profile: "typed", Files: w.files, Login: true, Code: secret.New("111111")})
		if waited := time.Since(began); err != nil || waited > time.Second {
			t.Errorf("%v, after %v", err, waited)
		}
		wg.Wait()
		if want := map[string]string{"111111": "", "222222": "http://127.0.0.1:4566"}; !maps.Equal(told, want) {
			t.Errorf("codes were sent to %v, want %v", told, want)
		}
	})
}
