// Package guard decides whether a guarded session may be handed out: it asks a person, and keeps what people allowed
// beforehand. It protects against accidents. A program of the same user can allow what it likes with `broker allow`,
// which the audit log shows.
package guard

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"broker/internal/agent"
	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/profiles"
)

// patience is how long a prompt waits for its answer.
const patience = 5 * time.Minute

// Kernel reports facts about processes.
type Kernel interface {
	Find(pid int) (peer.Process, error)
	Parents(peer.Process) iter.Seq[peer.Process]
	Terminal(peer.Process) string
	Arguments(peer.Process) []string
	Dir(peer.Process) string
}

// Scope is where an allowance holds: in the tree of a process, at one terminal. The zero Scope is the whole machine.
type Scope struct {
	Root     peer.Process
	Terminal string // path of the controlling terminal of the tree; may be empty
}

// String names the scope for people.
func (s Scope) String() string {
	switch {
	case s == Scope{}:
		return "everywhere"
	case s.Terminal != "":
		return "in " + strings.TrimPrefix(s.Terminal, "/dev/")
	}
	return "in one script"
}

// Allowance is a confirmation given beforehand.
type Allowance struct {
	Profile  string // exact name
	Role     string // ARN of the role; empty for a source
	Account  string // may be empty
	Elevated bool   // it allows the full role of a profile with read_only = true
	Scope    Scope
	Until    time.Time // it ends earlier if the clock is set back: see end
	Reason   string    // why, in the words of the person; for the answer to a prompt, all its Reasons
	Answer   bool      // it is the answer to a prompt
	Shown    []string  // the Reasons of that prompt

	end time.Time // Until with a monotonic reading, which a change of the clock does not move
}

// Guard keeps allowances. They end with the daemon and with a lock. Use New.
type Guard struct {
	kernel Kernel
	now    func() time.Time

	mu         sync.Mutex
	allowances []Allowance
	open       map[*openPrompt]bool
}

// openPrompt is a prompt that waits for its answer. Other requests of the same scope wait for its end.
type openPrompt struct {
	scope    Scope
	profile  string
	declined bool // by a no or Ctrl-C; set before done is closed
	waiting  int  // requests that wait for its end
	done     chan struct{}
	cancel   context.CancelFunc
}

// New returns a Guard. The kernel is the one of this machine if it is nil.
func New(kernel Kernel) *Guard {
	if kernel == nil {
		kernel = machine{}
	}
	return &Guard{kernel: kernel, now: time.Now, open: map[*openPrompt]bool{}}
}

// tree returns a process and its parents, nearest first. It is empty if the process has ended.
func (g *Guard) tree(pid int) []peer.Process {
	p, err := g.kernel.Find(pid)
	if err != nil {
		return nil
	}
	return slices.Insert(slices.Collect(g.kernel.Parents(p)), 0, p)
}

// Agent returns the coding agent that a process or one of its parents is, or "".
func (g *Guard) Agent(pid int) string { return g.agentOf(g.tree(pid)) }

// AgentAbove returns the coding agent that one of the parents of a process is, or "".
func (g *Guard) AgentAbove(pid int) string {
	tree := g.tree(pid)
	return g.agentOf(tree[min(1, len(tree)):])
}

func (g *Guard) agentOf(tree []peer.Process) string {
	for _, p := range tree {
		arguments := g.kernel.Arguments(p)
		if name := cmp.Or(agent.Of(arguments), agent.Of(peer.Known(arguments))); name != "" {
			return name
		}
	}
	return ""
}

// ScopeOf returns the scope of a process: the topmost of its parents on the same terminal. Without a terminal it is
// its parent, such as a script. The error means that the system does not tell.
func (g *Guard) ScopeOf(pid int) (Scope, error) {
	tree := g.tree(pid)
	if len(tree) < 2 {
		return Scope{}, fault.New(fault.Failed, "Broker cannot tell in which terminal or script this command runs; use --everywhere")
	}
	terminal := g.kernel.Terminal(tree[0])
	if parent := peer.ToolOf(g.kernel.Arguments(tree[1])); terminal == "" && (tree[1].PID == 1 || parent == "systemd") {
		return Scope{}, fault.New(fault.Failed, "no script runs this command, but %s, which runs all services; use --everywhere",
			fault.Line(cmp.Or(parent, "init")))
	}
	if terminal == "" {
		return Scope{Root: tree[1]}, nil
	}
	root := tree[0]
	for _, p := range tree[1:] {
		if g.kernel.Terminal(p) != terminal {
			break
		}
		root = p
	}
	return Scope{root, terminal}, nil
}

// has reports whether a process belongs to the scope.
func (g *Guard) has(s Scope, tree []peer.Process) bool {
	if s == (Scope{}) {
		return true
	}
	return slices.Contains(tree, s.Root) && g.kernel.Terminal(tree[0]) == s.Terminal
}

// Allow adds an allowance. It replaces one for the same profile, scope and kind. Answers for other reasons stay.
func (g *Guard) Allow(a Allowance) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.allowances = slices.DeleteFunc(g.allowances, func(old Allowance) bool {
		return old.Profile == a.Profile && old.Role == a.Role && old.Account == a.Account && old.Scope == a.Scope &&
			old.Elevated == a.Elevated && old.Answer == a.Answer && slices.Equal(old.Shown, a.Shown)
	})
	a.end, a.Until = a.Until, a.Until.Round(0) // the monotonic clock stops while the machine sleeps
	g.allowances = append(g.allowances, a)
}

// Deny removes the allowances of a profile that hold for a process, or all of the profile if pid is 0. It returns
// how many there were.
func (g *Guard) Deny(profile string, pid int) (n int) {
	var tree []peer.Process
	if pid != 0 {
		tree = g.tree(pid)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tidyLocked()
	g.allowances = slices.DeleteFunc(g.allowances, func(a Allowance) bool {
		is := a.Profile == profile && (pid == 0 || g.has(a.Scope, tree))
		if is {
			n++
		}
		return is
	})
	return n
}

// Clear removes all allowances and cancels all prompts.
func (g *Guard) Clear() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.allowances = nil
	for p := range g.open {
		p.cancel()
	}
}

// current returns the allowances that have not ended, and forgets the others.
func (g *Guard) current() []Allowance {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tidyLocked()
	return slices.Clone(g.allowances)
}

// tidyLocked forgets the allowances that have ended by one of the two clocks.
func (g *Guard) tidyLocked() {
	now := g.now()
	g.allowances = slices.DeleteFunc(g.allowances, func(a Allowance) bool {
		return !now.Before(a.end) || !now.Round(0).Before(a.Until)
	})
}

// List returns the current allowances, the one that ends first at the front. It omits those of a script or shell that
// has ended.
func (g *Guard) List() []Allowance {
	list := slices.DeleteFunc(g.current(), func(a Allowance) bool {
		if a.Scope == (Scope{}) {
			return false
		}
		root, err := g.kernel.Find(a.Scope.Root.PID)
		return err != nil || root != a.Scope.Root
	})
	slices.SortFunc(list, func(a, b Allowance) int {
		return cmp.Or(a.Until.Compare(b.Until), strings.Compare(a.Profile, b.Profile))
	})
	return list
}

// Holds reports whether an allowance holds for a process.
func (g *Guard) Holds(a Allowance, pid int) bool { return g.has(a.Scope, g.tree(pid)) }

// Elevated returns until when a process gets the full role of a profile, and why. The time is zero if it does not.
// of returns the exact name of the profile and the ARN of its role now; it is called only if something is elevated.
func (g *Guard) Elevated(
	pid int, of func() (profile, role string, err error),
) (until time.Time, reason string, err error) {
	list := slices.DeleteFunc(g.current(), func(a Allowance) bool { return !a.Elevated })
	if len(list) == 0 {
		return time.Time{}, "", nil
	}
	profile, role, err := of()
	if err != nil {
		return time.Time{}, "", err
	}
	tree := g.tree(pid)
	for _, a := range list {
		if a.Profile == profile && a.Role == role && a.Until.After(until) && g.has(a.Scope, tree) {
			until, reason = a.Until, a.Reason
		}
	}
	return until, reason, nil
}

// Handout is a session that is about to be handed out.
type Handout struct {
	Profile string // exact name
	Role    string // ARN; may be empty
	Account string // may be empty
	Guard   profiles.Guard
	// Commands returns the patterns of guard_commands.
	Commands func() ([]profiles.CommandPattern, error)
	PID      int // of the process that asks
	// Outside is why the session does not belong to the trusted directory in which that process works, or "".
	Outside string
	// Published means that the session goes into a section that every program can read.
	Published bool
	Agent     string // the coding agent that asks; empty for none
	// Far means that the process only carries the request of another host, such as ssh. What a person allowed in the
	// terminal of that process is not for the other host.
	Far bool
}

// byAgent reports whether the profile lets a person confirm what agents get, and an agent can get this session.
func (h *Handout) byAgent() bool { return h.Guard.Agents.Ask && (h.Agent != "" || h.Published) }

// Choice is what a person answered.
type Choice int

// The choices.
const (
	No Choice = iota
	Once
	ForAWhile // for ConfirmedFor in this terminal
)

var (
	// ErrNobody means that no person can be asked.
	ErrNobody = errors.New("nobody can be asked")
	// ErrInterrupted means that the person typed Ctrl-C at the prompt.
	ErrInterrupted = errors.New("interrupted")
)

// Person is who can be asked.
type Person interface {
	// Confirm shows the prompt. The error is ErrNobody, ErrInterrupted, or that of ctx.
	Confirm(ctx context.Context, p Prompt) (Choice, error)
}

// Check returns nil if the session may be handed out. how says who confirmed it, for the audit log; it is empty if
// nothing had to be confirmed. asked means that a person was asked, also for another request of the same terminal: that
// may have taken minutes. person may be nil.
// All errors are faults of the kind NotConfirmed, except those of a wrong guard_commands.
func (g *Guard) Check(ctx context.Context, h Handout, person Person) (how string, asked bool, err error) {
	if h.Guard.Confirm == profiles.Never && !h.Guard.Production && h.Outside == "" && !h.byAgent() {
		return "", false, nil
	}
	tree := g.tree(h.PID)
	pattern, from := "", tree
	if h.Guard.Production {
		if pattern, from, err = g.dangerous(tree, h.Commands); err != nil {
			return "", false, err
		}
	}
	// The command of a process that has ended is unknown.
	gone := h.Guard.Production && len(tree) == 0
	if pattern == "" && !gone && h.Guard.Confirm == profiles.Never && h.Outside == "" && !h.byAgent() {
		return "", false, nil
	}
	p := g.prompt(h, from, pattern)
	p.Agent = h.Agent != "" && h.Guard.Agents != profiles.Agents{}
	scope := Scope{} // of windows, for a process without a terminal
	if !p.Agent && !h.Far && len(tree) > 0 && g.kernel.Terminal(tree[0]) != "" {
		scope, _ = g.ScopeOf(h.PID)
	}
	p.atTerminal = scope != Scope{}
	p.MayLast = h.Guard.Confirm != profiles.Always && pattern == "" && p.atTerminal && !h.byAgent()
	for {
		if how := g.allowed(h, p, tree); how != "" {
			return how, asked, nil
		}
		if person == nil {
			return "", asked, p.nobody()
		}
		asked = true
		asking, cancel := context.WithTimeout(ctx, patience)
		mine := &openPrompt{scope: scope, profile: h.Profile, done: make(chan struct{}), cancel: cancel}
		other := g.begin(mine)
		if other == nil {
			how, err := g.ask(asking, h, p, mine, person)
			return how, true, err
		}
		cancel()
		select {
		case <-other.done:
		case <-ctx.Done():
			return "", true, p.unanswered(ctx.Err())
		}
		if other.declined && other.profile == h.Profile {
			return "", true, p.declined()
		}
	}
}

// begin opens a prompt. If another one of its scope is open, it returns that one instead. All prompts without a scope,
// which open windows, are of one scope.
func (g *Guard) begin(p *openPrompt) (other *openPrompt) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for other := range g.open {
		if other.scope == p.scope {
			other.waiting++
			return other
		}
	}
	g.open[p] = true
	return nil
}

// ask lets a person answer a prompt, and ends it. It returns how the person confirmed the session.
func (g *Guard) ask(ctx context.Context, h Handout, p Prompt, open *openPrompt, person Person) (how string, err error) {
	defer g.end(open)
	choice, err := person.Confirm(ctx, p)
	switch {
	case errors.Is(err, ErrNobody):
		return "", p.nobody()
	case errors.Is(err, ErrInterrupted):
		open.declined = true
		return "", p.interrupted()
	case err != nil:
		return "", p.unanswered(err)
	case choice == No:
		open.declined = true
		return "", p.declined()
	case choice == ForAWhile && p.MayLast:
		g.Allow(Allowance{Profile: h.Profile, Role: h.Role, Account: h.Account, Scope: open.scope,
			Until: g.now().Add(profiles.ConfirmedFor), Reason: p.why(), Answer: true, Shown: p.Reasons})
		return "confirmed for " + profiles.FormatDuration(profiles.ConfirmedFor) + " " + open.scope.String() + ": " + p.why(), nil
	}
	return "confirmed once: " + p.why(), nil
}

// end ends a prompt, and lets the requests continue that wait for it.
func (g *Guard) end(p *openPrompt) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, p)
	p.cancel()
	close(p.done)
}

// allowed returns how a session was allowed beforehand, or "". An answer counts for prompts all of whose reasons its
// prompt showed; what `broker allow` allowed always counts.
func (g *Guard) allowed(h Handout, p Prompt, tree []peer.Process) string {
	if h.Far {
		tree = nil // only what holds everywhere
	}
	for _, a := range g.current() {
		isNew := func(reason string) bool { return !slices.Contains(a.Shown, reason) }
		if a.Profile != h.Profile || a.Role != h.Role || a.Account != h.Account || a.Elevated || a.Answer &&
			(!p.MayLast || slices.ContainsFunc(p.Reasons, isNew)) || !g.has(a.Scope, tree) {
			continue
		}
		if a.Answer {
			return "confirmed earlier " + a.Scope.String() + ": " + p.why()
		}
		return "allowed " + a.Scope.String() + ": " + a.Reason
	}
	return ""
}

// dangerous returns the pattern that the command line of a process or of one of its parents matches, and the tree from
// that process upwards. If none matches, it returns "" and the whole tree.
func (g *Guard) dangerous(tree []peer.Process, commands func() ([]profiles.CommandPattern, error)) (
	string, []peer.Process, error,
) {
	patterns, err := commands()
	if err != nil {
		return "", nil, err
	}
	for i, p := range tree {
		arguments := compared(g.kernel.Arguments(p))
		for _, pattern := range patterns {
			if pattern.Matches(arguments) {
				return pattern.String(), tree[i:], nil
			}
		}
	}
	return "", tree, nil
}

// maxCompared is how many bytes of a command line are compared with patterns.
const maxCompared = 64 << 10

// compared returns the arguments that are compared. One that is too long, such as JSON, does not hide the next ones.
func compared(arguments []string) (list []string) {
	left := maxCompared
	for _, argument := range arguments {
		if len(argument) <= left {
			left -= len(argument)
			list = append(list, argument)
		}
	}
	return list
}

// machine is the kernel of this machine.
type machine struct{}

func (machine) Find(pid int) (peer.Process, error)            { return peer.Find(pid) }
func (machine) Parents(p peer.Process) iter.Seq[peer.Process] { return p.Parents() }
func (machine) Terminal(p peer.Process) string                { return p.Terminal() }
func (machine) Arguments(p peer.Process) []string             { return p.Arguments() }
func (machine) Dir(p peer.Process) string                     { return p.Dir() }
