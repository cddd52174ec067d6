package guard

import (
	"path/filepath"
	"slices"
	"strings"

	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/profiles"
)

// maxShown is how many bytes of a command line or path a question shows.
const maxShown = 200

// Question is what a person is asked. Its texts are safe to print.
type Question struct {
	Profile string
	Why     string // why a confirmation is needed
	Role    string // the role and its account; may be empty
	Command string // the command line of the program that needs the session; may be empty
	Dir     string // its working directory; may be empty
	MayLast bool   // a yes may last for a while in this terminal
}

// question describes a handout.
func (g *Guard) question(h Handout, tree []peer.Process, pattern string) Question {
	q := Question{Profile: fault.Line(h.Profile), Why: "confirm is set for it"}
	switch {
	case pattern != "":
		q.Why = "the command matches the guarded command " + fault.Line(pattern)
	case h.Guard.Production:
		q.Why = "it is a production profile"
	}
	if _, role, ok := strings.Cut(h.Role, ":role/"); ok {
		q.Role = fault.Line(role)
	}
	if h.Account != "" {
		q.Role = strings.TrimSpace(q.Role + " in account " + fault.Line(h.Account))
	}
	if p, arguments := g.program(tree); len(arguments) > 0 {
		q.Command, q.Dir = shown(strings.Join(arguments, " ")), shown(g.kernel.Dir(p))
	}
	return q
}

// program returns the process that people know, and its arguments: the command of `broker exec`, or the program that
// started credproc.
func (g *Guard) program(tree []peer.Process) (peer.Process, []string) {
	for _, p := range tree {
		arguments := g.kernel.Arguments(p)
		if len(arguments) == 0 {
			continue
		}
		switch filepath.Base(arguments[0]) {
		case "credproc":
			continue
		case "broker":
			if i := slices.Index(arguments, "--"); i >= 0 && i+1 < len(arguments) {
				arguments = arguments[i+1:]
			}
		}
		return p, arguments
	}
	return peer.Process{}, nil
}

func shown(s string) string {
	if s = fault.Line(s); len(s) > maxShown {
		return strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return s
}

// Lines returns the lines above the question.
func (q Question) Lines() []string {
	lines := []string{q.Profile + " needs a confirmation: " + q.Why}
	for _, row := range []struct{ name, text string }{
		{"role", q.Role}, {"command", q.Command}, {"directory", q.Dir},
	} {
		if row.text != "" {
			lines = append(lines, "  "+row.name+strings.Repeat(" ", len("directory ")-len(row.name))+row.text)
		}
	}
	return lines
}

// Text returns the question in one line, with its answers.
func (q Question) Text() string {
	text := "Hand out a session of " + q.Profile + "? y = once, "
	if q.MayLast {
		text += "a = all requests in this terminal for " + profiles.FormatDuration(profiles.ConfirmedFor) + ", "
	}
	return text + "Enter = no:"
}

// Parse returns the choice that a person typed. Everything else than a yes is a no.
func (q Question) Parse(typed string) Choice {
	switch strings.ToLower(strings.TrimSpace(typed)) {
	case "y", "yes":
		return Once
	case "a", "all":
		if q.MayLast {
			return ForAWhile
		}
	}
	return No
}

func (q Question) declined() error {
	return fault.New(fault.NotConfirmed, "the session of %s was not confirmed, so nothing was handed out", q.Profile)
}

func (q Question) unanswered() error {
	return fault.New(fault.NotConfirmed, "%s needs a confirmation (%s), and nobody answered", q.Profile, q.Why).
		WithHint("broker allow %s --for 15m --reason WHY", q.Profile)
}

func (q Question) nobody() error {
	return fault.New(fault.NotConfirmed, "%s needs a confirmation (%s), and nobody can be asked here", q.Profile, q.Why).
		WithHint("broker allow %s --for 15m --reason WHY", q.Profile)
}
