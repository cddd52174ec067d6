package guard

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/profiles"
)

// tree is a machine of pretended processes.
type tree map[int]process

type process struct {
	parent    int
	terminal  string
	arguments []string
}

func (t tree) Find(pid int) (peer.Process, error) {
	if _, ok := t[pid]; !ok {
		return peer.Process{}, errors.New("ended")
	}
	return peer.Process{PID: pid, Start: fmt.Sprint("boot/", pid)}, nil
}

func (t tree) Parents(p peer.Process) iter.Seq[peer.Process] {
	return func(yield func(peer.Process) bool) {
		for pid := t[p.PID].parent; pid != 0; pid = t[pid].parent {
			parent, err := t.Find(pid)
			if err != nil || !yield(parent) {
				return
			}
		}
	}
}

func (t tree) Terminal(p peer.Process) string    { return t[p.PID].terminal }
func (t tree) Arguments(p peer.Process) []string { return t[p.PID].arguments }
func (t tree) Dir(peer.Process) string           { return "/work" + strings.Repeat(" ", 60) + "role      reader" }

// answering is a person who answers each prompt alike, and counts them.
type answering struct {
	choice Choice
	err    error
	mu     sync.Mutex
	asked  []Prompt
	hold   chan struct{} // if it is not nil, each answer waits for a value
}

func (a *answering) Confirm(ctx context.Context, p Prompt) (Choice, error) {
	a.mu.Lock()
	a.asked = append(a.asked, p)
	a.mu.Unlock()
	if a.hold != nil {
		select {
		case <-a.hold:
		case <-ctx.Done():
			return No, ctx.Err()
		}
	}
	return a.choice, a.err
}

func commands(patterns ...string) func() ([]profiles.CommandPattern, error) {
	return func() (list []profiles.CommandPattern, err error) {
		for _, p := range patterns {
			list = append(list, strings.Fields(p))
		}
		return list, nil
	}
}

// office has two terminals: in pts/1 the shell 10 runs the tool 20, which runs credproc 21; in pts/2 it is 30, 40 and
// 41. The script 50 has no terminal and runs 60, which runs 61.
func office() tree {
	return tree{
		1:  {},
		10: {1, "/dev/pts/1", []string{"-bash"}}, 20: {10, "/dev/pts/1", []string{"terraform", "plan"}},
		21: {20, "/dev/pts/1", []string{"credproc", "prod"}},
		30: {1, "/dev/pts/2", []string{"-bash"}}, 40: {30, "/dev/pts/2", []string{"aws", "s3", "ls"}},
		41: {40, "/dev/pts/2", []string{"credproc", "prod"}},
		50: {1, "", []string{"sh", "nightly"}}, 60: {50, "", []string{"aws", "s3", "ls"}}, 61: {60, "", []string{"credproc", "prod"}},
	}
}

const (
	prodRole    = "arn:aws:iam::111122223333:role/admin"
	prodAccount = "111122223333"
)

func handout(pid int, g profiles.Guard) Handout {
	return Handout{Profile: "prod", Role: prodRole, Account: prodAccount, Guard: g, PID: pid,
		Commands: commands("terraform destroy")}
}

var production = profiles.Guard{Confirm: profiles.First, Production: true}

// TestCheckByChoice: what a person answers decides, also about the next requests.
func TestCheckByChoice(t *testing.T) {
	for name, c := range map[string]struct {
		guard       profiles.Guard
		choice      Choice
		err         error
		asked       int // prompts for three requests from one terminal
		elsewhere   int // and for one more from another
		refused     bool
		explanation string
	}{
		"no guard":                   {profiles.Guard{}, No, nil, 0, 0, false, ""},
		"no":                         {production, No, nil, 3, 1, true, "was not confirmed"},
		"once":                       {production, Once, nil, 3, 1, false, "confirmed once"},
		"for a while":                {production, ForAWhile, nil, 1, 1, false, "confirmed for 15m"},
		"always, for a while":        {profiles.Guard{Confirm: profiles.Always}, ForAWhile, nil, 3, 1, false, "confirmed once"},
		"Ctrl-C":                     {production, No, ErrInterrupted, 3, 1, true, "was interrupted"},
		"nobody":                     {production, Once, ErrNobody, 3, 1, true, "nobody can be asked here"},
		"no answer":                  {production, Once, context.DeadlineExceeded, 3, 1, true, "nobody answered"},
		"production, but no confirm": {profiles.Guard{Production: true}, No, nil, 0, 0, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g, person := New(office()), &answering{choice: c.choice, err: c.err}
			check := func(pid int) (string, error) {
				how, _, err := g.Check(t.Context(), handout(pid, c.guard), person)
				if err != nil {
					how = err.Error()
					if !fault.Is(err, fault.NotConfirmed) {
						t.Errorf("%v is not of the kind NotConfirmed", err)
					}
				}
				return how, err
			}
			how, err := check(21)
			if (err != nil) != c.refused || !strings.Contains(how, c.explanation) {
				t.Errorf("%q, %v", how, err)
			}
			_, _ = check(21)
			_, _ = check(20)
			if n := len(person.asked); n != c.asked {
				t.Errorf("%d prompts for three requests, want %d", n, c.asked)
			}
			_, _ = check(41)
			if n := len(person.asked); n != c.asked+c.elsewhere {
				t.Errorf("%d prompts with the other terminal, want %d", n, c.asked+c.elsewhere)
			}
		})
	}
}

// TestGuardedCommand: a command of guard_commands needs a yes of its own, whatever was answered before, but not what
// `broker allow` allowed.
func TestGuardedCommand(t *testing.T) {
	machine := office()
	g, person := New(machine), &answering{choice: ForAWhile}
	check := func() error {
		_, _, err := g.Check(t.Context(), handout(21, production), person)
		return err
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	machine[20] = process{10, "/dev/pts/1", []string{"/usr/bin/terraform", "-chdir=x", "destroy", "-auto-approve"}}
	person.choice = No
	if err := check(); err == nil || len(person.asked) != 2 {
		t.Errorf("%v after %d prompts", err, len(person.asked))
	}
	if q := person.asked[1]; q.MayLast || !slices.Equal(q.Reasons, []string{"the command matches the guarded command terraform destroy"}) ||
		q.Command != "terraform -chdir=x destroy -auto-approve" || q.Dir != "/work role reader" ||
		q.Role != "admin in account 111122223333" {
		t.Errorf("%+v", q)
	}
	scope, err := g.ScopeOf(21)
	if err != nil {
		t.Fatal(err)
	}
	g.Allow(Allowance{Profile: "prod", Role: prodRole, Account: prodAccount, Scope: scope,
		Until: time.Now().Add(time.Hour), Reason: "tear down"})
	if err := check(); err != nil || len(person.asked) != 2 {
		t.Errorf("%v after %d prompts", err, len(person.asked))
	}
}

// TestPromptNamesTheTool: the command is the tool's, not that of the shell that its SDK starts for credproc.
func TestPromptNamesTheTool(t *testing.T) {
	machine, person := office(), &answering{choice: No}
	machine[20] = process{10, "/dev/pts/1", []string{"node", "/usr/bin/osls", "info"}}
	machine[22] = process{20, "/dev/pts/1", []string{"/bin/sh", "-c", `"/usr/bin/credproc" prod`}}
	machine[23] = process{22, "/dev/pts/1", []string{"/usr/bin/credproc", "prod"}}
	if _, _, err := New(machine).Check(t.Context(), handout(23, production), person); err == nil {
		t.Error("no is a yes")
	}
	if len(person.asked) != 1 || person.asked[0].Command != "osls info" || person.asked[0].Dir != "/work role reader" {
		t.Errorf("%+v", person.asked)
	}
}

// TestNobodyToAsk: without a person, only an allowance helps.
func TestNobodyToAsk(t *testing.T) {
	g := New(office())
	h := handout(61, production)
	if _, _, err := g.Check(t.Context(), h, nil); !fault.Is(err, fault.NotConfirmed) ||
		fault.Of(err).Hint.Shown() != "broker allow prod --for 15m --reason WHY --everywhere" {
		t.Errorf("%v", err)
	}
	scope, err := g.ScopeOf(60) // broker allow, run by the script 50
	if err != nil {
		t.Fatal(err)
	}
	g.Allow(Allowance{Profile: "prod", Role: prodRole, Account: prodAccount, Scope: scope,
		Until: time.Now().Add(time.Hour), Reason: "nightly"})
	if how, asked, err := g.Check(t.Context(), h, nil); err != nil || asked || !strings.HasSuffix(how, ": nightly") {
		t.Errorf("%q, %v, %v", how, asked, err)
	}
	if _, _, err := g.Check(t.Context(), handout(21, production), nil); err == nil {
		t.Error("allowed in another tree")
	}
}

// TestOnePromptInATerminal: a terminal shows one prompt at a time. A no is also the answer to those that waited for
// it, and a yes for a while is too.
func TestOnePromptInATerminal(t *testing.T) {
	for choice, asked := range map[Choice]int{No: 1, ForAWhile: 1, Once: 3} {
		g, person := New(office()), &answering{choice: choice, hold: make(chan struct{})}
		errs := make(chan error)
		for range 3 {
			go func() {
				_, _, err := g.Check(t.Context(), handout(21, production), person)
				errs <- err
			}()
		}
		for waiting := 0; waiting < 2; time.Sleep(time.Millisecond) {
			g.mu.Lock()
			for p := range g.open {
				waiting = p.waiting
			}
			g.mu.Unlock()
		}
		for done := 0; done < 3; {
			select {
			case person.hold <- struct{}{}:
			case err := <-errs:
				if (err == nil) != (choice != No) {
					t.Errorf("%v: %v", choice, err)
				}
				done++
			}
		}
		if n := len(person.asked); n != asked {
			t.Errorf("%v: %d prompts, want %d", choice, n, asked)
		}
	}
}

// TestAWaitCountsAsAsked: a request that waited for the prompt of another was asked, since minutes may have passed.
func TestAWaitCountsAsAsked(t *testing.T) {
	g, person := New(office()), &answering{choice: ForAWhile, hold: make(chan struct{})}
	asked := make(chan bool)
	for range 2 {
		go func() {
			_, did, err := g.Check(t.Context(), handout(21, production), person)
			asked <- did && err == nil
		}()
	}
	for waiting := 0; waiting < 1; time.Sleep(time.Millisecond) {
		g.mu.Lock()
		for p := range g.open {
			waiting = p.waiting
		}
		g.mu.Unlock()
	}
	person.hold <- struct{}{}
	if first, second := <-asked, <-asked; !first || !second || len(person.asked) != 1 {
		t.Errorf("asked: %v, %v, after %d prompts", first, second, len(person.asked))
	}
}

// TestHintForAProcessWithoutATerminal: what is allowed for a terminal does not hold for a process that left it, so the
// hint is for all programs. A parent with a terminal that runs the guarded command changes nothing.
func TestHintForAProcessWithoutATerminal(t *testing.T) {
	machine := office()
	machine[20] = process{10, "/dev/pts/1", []string{"terraform", "destroy"}}
	machine[21] = process{20, "", []string{"credproc", "prod"}}
	_, _, err := New(machine).Check(t.Context(), handout(21, production), nil)
	if got := fault.Of(err).Hint.Shown(); !strings.HasSuffix(got, " --everywhere") {
		t.Errorf("%v, hint: %s", err, got)
	}
}

// TestYesIsForWhatWasShown: a yes for a while, and an allowance, are for one role and account.
func TestYesIsForWhatWasShown(t *testing.T) {
	g, person := New(office()), &answering{choice: ForAWhile}
	if _, _, err := g.Check(t.Context(), handout(21, production), person); err != nil {
		t.Fatal(err)
	}
	g.Allow(Allowance{Profile: "prod", Role: prodRole, Account: prodAccount, Until: time.Now().Add(time.Hour), Reason: "x"})
	for _, change := range []func(*Handout){
		func(h *Handout) { h.Role, h.Account = "arn:aws:iam::555566667777:role/admin", "555566667777" },
		func(h *Handout) { h.Role = "" },
		func(h *Handout) { h.Profile = "other" },
	} {
		h := handout(21, production)
		change(&h)
		if _, _, err := g.Check(t.Context(), h, nil); err == nil {
			t.Errorf("allowed: %+v", h)
		}
	}
}

// TestProcessThatEnded: nobody can compare the command of a process that has ended, so a person must confirm it.
func TestProcessThatEnded(t *testing.T) {
	g := New(office())
	if _, _, err := g.Check(t.Context(), handout(99, profiles.Guard{Production: true}), nil); !fault.Is(err,
		fault.NotConfirmed) {
		t.Errorf("%v", err)
	}
}

// TestSleepEndsAllowances: the monotonic clock stops while the machine sleeps, and the wall clock can be set back.
func TestSleepEndsAllowances(t *testing.T) {
	start := time.Now()
	for name, now := range map[string]time.Time{
		"after a sleep": start.Add(2 * time.Hour).Round(0), // no monotonic reading
		"after an hour": start.Add(time.Hour),
	} {
		g := New(office())
		g.Allow(Allowance{Profile: "prod", Until: start.Add(time.Hour), Reason: "x"})
		g.now = func() time.Time { return now }
		if list := g.List(); len(list) != 0 {
			t.Errorf("%s: %v", name, list)
		}
	}
}

// TestClear: a lock ends what was allowed and the prompts.
func TestClear(t *testing.T) {
	g, person := New(office()), &answering{hold: make(chan struct{})}
	errs := make(chan error)
	go func() {
		_, _, err := g.Check(t.Context(), handout(21, production), person)
		errs <- err
	}()
	for open := false; !open; {
		g.mu.Lock()
		open = len(g.open) > 0
		g.mu.Unlock()
	}
	g.Allow(Allowance{Profile: "prod", Role: prodRole, Account: prodAccount, Until: time.Now().Add(time.Hour), Reason: "x"})
	g.Clear()
	if err := <-errs; !fault.Is(err, fault.NotConfirmed) || len(g.List()) != 0 || len(g.open) != 0 {
		t.Errorf("%v, %v, %d open", err, g.List(), len(g.open))
	}
}

// TestRandomTrees compares a Guard with a plain model of who was allowed what, until when: for random trees of
// processes and terminals.
func TestRandomTrees(t *testing.T) {
	r := rand.New(rand.NewPCG(14, 11))
	names := []string{"prod", "stage"}
	for range 300 {
		machine := tree{1: {}}
		for pid := 2; pid < 40; pid++ {
			p := process{parent: 1 + r.IntN(pid-1)}
			if p.terminal = machine[p.parent].terminal; r.IntN(3) == 0 {
				p.terminal = []string{"", "/dev/pts/1", "/dev/pts/2"}[r.IntN(3)]
			}
			machine[pid] = p
		}
		g := New(machine)
		now := time.Unix(1e9, 0)
		g.now = func() time.Time { return now }
		type grant struct {
			profile  string
			elevated bool
			root     int // 0 for everywhere
			terminal string
			until    time.Time
			reason   string
		}
		var model []grant
		within := func(pid, root int) bool {
			for ; pid != 0; pid = machine[pid].parent {
				if pid == root {
					return true
				}
			}
			return false
		}
		holds := func(m grant, pid int) bool {
			return now.Before(m.until) && (m.root == 0 || within(pid, m.root) && machine[pid].terminal == m.terminal)
		}
		for range 60 {
			pid, profile, elevated := 2+r.IntN(38), names[r.IntN(2)], r.IntN(3) == 0
			switch r.IntN(5) {
			case 0: // allow
				a := Allowance{Profile: profile, Role: prodRole, Account: prodAccount, Elevated: elevated,
					Until: now.Add(time.Duration(1+r.IntN(100)) * time.Minute), Reason: fmt.Sprint(r.Int())}
				m := grant{profile, elevated, 0, "", a.Until, a.Reason}
				if r.IntN(4) > 0 {
					m.terminal = machine[pid].terminal
					if m.root = machine[pid].parent; m.terminal != "" {
						m.root = pid
						for up := machine[pid].parent; machine[up].terminal == m.terminal; up = machine[up].parent {
							m.root = up
						}
					}
					var err error
					if a.Scope, err = g.ScopeOf(pid); (err != nil) != (m.root == 1 && m.terminal == "") {
						t.Fatal(err)
					}
					if err != nil { // no script: its parent runs all services
						continue
					}
				}
				g.Allow(a)
				model = slices.DeleteFunc(model, func(o grant) bool {
					return o.profile == m.profile && o.elevated == m.elevated && o.root == m.root && o.terminal == m.terminal
				})
				model = append(model, m)
			case 1: // deny
				everywhere, from := r.IntN(3) == 0, pid
				if everywhere {
					from = 0
				}
				n, want := g.Deny(profile, from), 0
				model = slices.DeleteFunc(model, func(m grant) bool {
					is := m.profile == profile && now.Before(m.until) && (everywhere || holds(m, pid))
					if is {
						want++
					}
					return is
				})
				if n != want {
					t.Fatalf("deny removed %d, want %d", n, want)
				}
			case 2:
				now = now.Add(time.Duration(r.IntN(30)) * time.Minute)
			default:
				allowed, until, reason := false, time.Time{}, ""
				for _, m := range model {
					if m.profile != profile || !holds(m, pid) {
						continue
					}
					if !m.elevated {
						allowed = true
					} else if m.until.After(until) {
						until, reason = m.until, m.reason
					}
				}
				h := handout(pid, production)
				h.Profile = profile
				if _, _, err := g.Check(t.Context(), h, nil); (err == nil) != allowed {
					t.Fatalf("process %d: %v, want allowed %v", pid, err, allowed)
				}
				got, why, err := g.Elevated(pid, func() (string, string, error) { return profile, h.Role, nil })
				if err != nil || !got.Equal(until) || why != reason {
					t.Fatalf("process %d is elevated until %v for %q, want %v for %q (%v)", pid, got, why, until, reason, err)
				}
			}
		}
	}
}

// TestLongArgument: an argument of any size does not hide the command behind it, nor that of a parent.
func TestLongArgument(t *testing.T) {
	machine := office()
	long := strings.Repeat("x ", maxCompared)
	for _, arguments := range [][]string{{"terraform", long, "destroy"}, {long, "terraform", "destroy"}, {"terraform", "destroy", long}} {
		machine[20] = process{10, "/dev/pts/1", arguments}
		person := &answering{choice: Once}
		if _, _, err := New(machine).Check(t.Context(), handout(21, production), person); err != nil {
			t.Fatal(err)
		}
		if why := person.asked[0].why(); !strings.Contains(why, "terraform destroy") {
			t.Errorf("%.20q: %s", arguments, why)
		}
	}
}

// TestPromptIsSafe: texts chosen by others cannot control the terminal or fill it.
func TestPromptIsSafe(t *testing.T) {
	machine := office()
	machine[20] = process{10, "/dev/pts/1", []string{"terraform", "plan" + strings.Repeat(" ", 48) + "role      reader 漢字", "\x1b[2J\xff\n" + strings.Repeat("x", 1<<20)}}
	g, person := New(machine), &answering{choice: Once}
	h := handout(21, production)
	h.Profile, h.Role = "p\x1b[2J", "arn:aws:iam::1:role/\x9b"
	h.Outside = "/x/.broker:1: unknown key " + strings.Repeat(" ", 60) + "role      reader"
	if _, _, err := g.Check(t.Context(), h, person); err != nil {
		t.Fatal(err)
	}
	q := person.asked[0]
	for _, line := range append(q.Lines(), q.Text()) {
		if strings.ContainsFunc(line, func(r rune) bool { return !fault.Printable(r) }) || len(line) > 300 {
			t.Errorf("%q", line)
		}
		if strings.Contains(line, "   role") || strings.Contains(line, "漢") {
			t.Errorf("a text looks like a row: %q", line)
		}
	}
}

// TestOutsideItsDirectory: a session that does not belong to the directory of the process is confirmed like one with
// confirm = first, whatever guard its profile has.
func TestOutsideItsDirectory(t *testing.T) {
	const why = "it does not belong to /home/me/infra (.broker)"
	for name, c := range map[string]struct {
		guard   profiles.Guard
		mayLast bool
		also    string
	}{
		"no guard":      {profiles.Guard{}, true, ""},
		"never":         {profiles.Guard{Confirm: profiles.Never}, true, ""},
		"first":         {production, true, "; it is a production profile"},
		"always":        {profiles.Guard{Confirm: profiles.Always}, false, "; confirm is set for it"},
		"only commands": {profiles.Guard{Production: true}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g, person := New(office()), &answering{choice: ForAWhile}
			h := handout(21, c.guard)
			h.Outside = why
			for range 2 {
				if _, _, err := g.Check(t.Context(), h, person); err != nil {
					t.Fatal(err)
				}
			}
			asked := 2
			if c.mayLast {
				asked = 1
			}
			if q := person.asked[0]; len(person.asked) != asked || q.why() != why+c.also || q.MayLast != c.mayLast {
				t.Errorf("%d prompts: %+v", len(person.asked), q)
			}
			h.PID = 61 // where nobody allowed anything
			_, _, err := g.Check(t.Context(), h, nil)
			if !fault.Is(err, fault.NotConfirmed) || !strings.Contains(err.Error(), "("+why+c.also+")") ||
				fault.Of(err).Hint.Shown() != "broker allow prod --for 15m --reason WHY --everywhere" {
				t.Errorf("%v", err)
			}
			g.Allow(Allowance{Profile: "prod", Role: prodRole, Account: prodAccount, Until: time.Now().Add(time.Hour), Reason: "nightly"})
			if how, asked, err := g.Check(t.Context(), h, nil); err != nil || asked || how != "allowed everywhere: nightly" {
				t.Errorf("%q, %v, %v", how, asked, err)
			}
		})
	}
	// A guarded command is the first of two reasons.
	machine := office()
	machine[20] = process{10, "/dev/pts/1", []string{"terraform", "destroy"}}
	person := &answering{choice: Once}
	h := handout(21, production)
	h.Outside = why
	if _, _, err := New(machine).Check(t.Context(), h, person); err != nil || person.asked[0].MayLast ||
		!slices.Equal(person.asked[0].Reasons, []string{"the command matches the guarded command terraform destroy", why}) {
		t.Errorf("%v: %+v", err, person.asked)
	}
}

// TestAnswerCountsForShownReasons: a yes for a while counts for later prompts whose reasons it showed, and for no other
// reason.
func TestAnswerCountsForShownReasons(t *testing.T) {
	const here, there = "it does not belong to /here (.broker)", "it does not belong to /there (.broker)"
	g, person := New(office()), &answering{choice: ForAWhile}
	for i, c := range []struct {
		outside string
		guard   profiles.Guard
		shown   []string // nil if nobody is asked
	}{
		{here, production, []string{here, "it is a production profile"}},
		{here, production, nil},
		{"", production, nil},
		{here, profiles.Guard{}, nil},
		{there, profiles.Guard{}, []string{there}},
		{there, production, []string{there, "it is a production profile"}},
		{there, production, nil},
		{here, production, nil}, // the first answer is still there
	} {
		person.asked = nil
		h := handout(21, c.guard)
		h.Outside = c.outside
		if _, _, err := g.Check(t.Context(), h, person); err != nil {
			t.Fatal(err)
		}
		var shown []string
		for _, q := range person.asked {
			shown = append(shown, q.Reasons...)
			lines := strings.Join(q.Lines(), "\n")
			for _, reason := range q.Reasons {
				if !strings.Contains(lines, reason) {
					t.Errorf("%d: %s", i, lines)
				}
			}
		}
		if !slices.Equal(shown, c.shown) {
			t.Errorf("%d: asked for %q, want %q", i, shown, c.shown)
		}
	}
	if list := g.List(); len(list) != 3 || list[0].Reason != here+"; it is a production profile" {
		t.Errorf("%+v", list)
	}
}

// TestPublishedNote: a published session is read without a question, so its prompt says what is not seen.
func TestPublishedNote(t *testing.T) {
	for _, published := range []bool{false, true} {
		person := &answering{choice: Once}
		h := handout(21, production)
		h.Published = published
		if _, _, err := New(office()).Check(t.Context(), h, person); err != nil {
			t.Fatal(err)
		}
		const note = "  note      while it is published, guarded commands are not seen"
		if slices.Contains(person.asked[0].Lines(), note) != published {
			t.Errorf("published %v: %q", published, person.asked[0].Lines())
		}
	}
}

// TestEndedScriptIsNotListed: what was allowed in a script ends with the script.
func TestEndedScriptIsNotListed(t *testing.T) {
	machine := office()
	g := New(machine)
	scope, err := g.ScopeOf(60)
	if err != nil {
		t.Fatal(err)
	}
	g.Allow(Allowance{Profile: "prod", Scope: scope, Until: time.Now().Add(time.Hour), Reason: "x"})
	g.Allow(Allowance{Profile: "prod", Until: time.Now().Add(time.Hour), Reason: "y"})
	if list := g.List(); len(list) != 2 {
		t.Errorf("%+v", list)
	}
	delete(machine, 50)
	if list := g.List(); len(list) != 1 || list[0].Reason != "y" {
		t.Errorf("%+v", list)
	}
}
