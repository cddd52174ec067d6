package guard

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"broker/internal/audit"
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

	terminal bool // the program has a terminal
}

// question describes a handout.
func (g *Guard) question(h Handout, tree []peer.Process, pattern string) Question {
	q := Question{Profile: fault.Line(h.Profile), Why: "confirm is set for it",
		terminal: len(tree) > 0 && g.kernel.Terminal(tree[0]) != ""}
	switch {
	case pattern != "":
		q.Why = "the command matches the guarded command " + fault.Line(pattern)
	case h.Outside != "":
		q.Why = fault.Line(single(h.Outside))
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
		q.Command, q.Dir = shown(commandLine(audit.Redact(arguments))), shown(single(g.kernel.Dir(p)))
	}
	return q
}

// program returns the process that people know, and its arguments: the command of `broker exec`, or the program that
// started credproc.
func (g *Guard) program(tree []peer.Process) (peer.Process, []string) {
	for _, p := range tree {
		if peer.Helper(g.kernel.Arguments(p)) {
			continue
		}
		arguments := peer.Known(g.kernel.Arguments(p))
		if len(arguments) == 0 {
			continue
		}
		if i := slices.Index(arguments, "--"); arguments[0] == "broker" && i >= 0 && i+1 < len(arguments) {
			arguments = peer.Known(arguments[i+1:])
		}
		return p, arguments
	}
	return peer.Process{}, nil
}

// commandLine joins arguments so that none looks like another row of the question: blanks are single, and characters
// that may be wider than one column are escaped.
func commandLine(arguments []string) string {
	words := make([]string, 0, len(arguments))
	size := 0
	for _, argument := range arguments {
		word := single(argument)
		if word == "" || strings.ContainsRune(word, ' ') || strings.ContainsFunc(word,
			func(r rune) bool { return r > unicode.MaxASCII }) {
			word = strconv.QuoteToASCII(word)
		}
		words = append(words, word)
		if size += len(word); size > maxShown {
			break
		}
	}
	return strings.Join(words, " ")
}

// single makes blanks single. With many of them, the terminal would break the line, and the rest would look like a row.
func single(s string) string { return strings.Join(strings.Fields(s), " ") }

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
		text += "a = each one of " + q.Profile + " in this terminal for " + profiles.FormatDuration(profiles.ConfirmedFor) + ", "
	}
	return text + "Enter = no:"
}

// Parse returns the choice that a person typed. Everything else than a yes is a no.
func (q Question) Parse(typed string) Choice {
	switch strings.ToLower(strings.TrimSpace(typed)) {
	case "y", "yes":
		return Once
	case "a":
		if q.MayLast {
			return ForAWhile
		}
	}
	return No
}

func (q Question) declined() error {
	return fault.New(fault.NotConfirmed, "the session of %s was not confirmed, so nothing was handed out", q.Profile)
}

func (q Question) unanswered(err error) error {
	why := "nobody answered"
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		why = "the prompt failed: " + fault.Line(err.Error())
	}
	return q.refused(why)
}

func (q Question) nobody() error { return q.refused("nobody can be asked here") }

func (q Question) refused(why string) error {
	f := fault.New(fault.NotConfirmed, "%s needs a confirmation (%s), and %s", q.Profile, q.Why, why)
	if !q.terminal { // a command in a terminal would allow that terminal only
		return f.WithHint("broker allow %s --for 15m --reason WHY --everywhere", q.Profile)
	}
	return f.WithHint("broker allow %s --for 15m --reason WHY", q.Profile)
}
