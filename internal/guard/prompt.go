package guard

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"unicode"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/peer"
	"broker/internal/profiles"
)

// maxShown is how many bytes of a command line or path a prompt shows.
const maxShown = 200

// Prompt asks a person to confirm a handout. Its texts are safe to print.
type Prompt struct {
	Profile string
	Reasons []string // why a confirmation is needed; at least one
	Role    string   // the role and its account; may be empty
	Command string   // the command line of the program that needs the session; may be empty
	Dir     string   // its working directory; may be empty
	Note    string   // what the yes means; may be empty
	MayLast bool     // a yes may last for a while in this terminal
	// Agent means that a coding agent asks: it may control the terminal of the program, so nobody is asked there.
	Agent bool

	atTerminal bool // the program has a terminal, for which broker allow can allow it
}

// prompt returns the prompt for a handout. The tree begins with the process that a person should recognize.
func (g *Guard) prompt(h Handout, tree []peer.Process, pattern string) Prompt {
	p := Prompt{Profile: fault.Line(h.Profile)}
	if pattern != "" {
		p.Reasons = append(p.Reasons, "the command matches the guarded command "+fault.Line(pattern))
	}
	if h.Outside != "" {
		p.Reasons = append(p.Reasons, fault.Line(single(h.Outside)))
	}
	if h.byAgent() {
		p.Reasons = append(p.Reasons, "the coding agent "+fault.Line(h.Agent)+" asks for it")
		if h.Agent == "" {
			p.Reasons[len(p.Reasons)-1] = "the profile has agents = ask, and coding agents could read the session"
		}
	}
	switch gone := len(tree) == 0; {
	case pattern != "": // only a production profile has guarded commands
	case h.Guard.Production && (gone || h.Guard.Confirm != profiles.Never):
		p.Reasons = append(p.Reasons, "it is a production profile")
	case h.Guard.Confirm != profiles.Never:
		p.Reasons = append(p.Reasons, "confirm is set for it")
	}
	if h.Published && h.Guard.Production {
		p.Note = "while it is published, guarded commands are not seen"
	}
	if _, role, ok := strings.Cut(h.Role, ":role/"); ok {
		p.Role = fault.Line(role)
	}
	if h.Account != "" {
		p.Role = strings.TrimSpace(p.Role + " in account " + fault.Line(h.Account))
	}
	if process, arguments := g.program(tree); len(arguments) > 0 {
		p.Command = fault.Short(commandLine(audit.Redact(arguments)), maxShown)
		p.Dir = fault.Short(single(g.kernel.Dir(process)), maxShown)
	}
	return p
}

// program returns the process that people know, and its arguments: not credproc, but the program that started it.
func (g *Guard) program(tree []peer.Process) (peer.Process, []string) {
	for _, p := range tree {
		if peer.Helper(g.kernel.Arguments(p)) {
			continue
		}
		arguments := peer.Known(g.kernel.Arguments(p))
		if len(arguments) == 0 {
			continue
		}
		return p, arguments
	}
	return peer.Process{}, nil
}

// commandLine joins arguments so that none looks like another row of the prompt: blanks are single, and characters
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

// why returns the reasons in one line.
func (p Prompt) why() string { return strings.Join(p.Reasons, "; ") }

// Lines returns the lines above Text.
func (p Prompt) Lines() []string {
	lines := []string{p.Profile + " needs a confirmation: " + p.Reasons[0]}
	type row struct{ name, text string }
	var rows []row
	for _, reason := range p.Reasons[1:] {
		rows = append(rows, row{"also", reason})
	}
	for _, row := range append(rows, row{"role", p.Role}, row{"command", p.Command}, row{"directory", p.Dir}, row{"note", p.Note}) {
		if row.text != "" {
			lines = append(lines, "  "+row.name+strings.Repeat(" ", len("directory ")-len(row.name))+row.text)
		}
	}
	return lines
}

// Text returns the question and its answers, in one line.
func (p Prompt) Text() string {
	text := "Hand out a session of " + p.Profile + "? y = once, "
	if p.MayLast {
		reason := "this reason"
		if len(p.Reasons) > 1 {
			reason = "these reasons"
		}
		text += "a = each one for " + reason + " in this terminal for " + profiles.FormatDuration(profiles.ConfirmedFor) + ", "
	}
	return text + "Enter = no:"
}

// Parse returns the choice that a person typed. Everything but a yes is a no.
func (p Prompt) Parse(typed string) Choice {
	switch strings.ToLower(strings.TrimSpace(typed)) {
	case "y", "yes":
		return Once
	case "a":
		if p.MayLast {
			return ForAWhile
		}
	}
	return No
}

func (p Prompt) declined() error {
	return fault.New(fault.NotConfirmed, "the session of %s was not confirmed, so nothing was handed out", p.Profile)
}

func (p Prompt) interrupted() error {
	return fault.New(fault.NotConfirmed, "the prompt to confirm %s was interrupted, so nothing was handed out", p.Profile)
}

func (p Prompt) unanswered(err error) error {
	why := "nobody answered"
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		why = "the prompt failed: " + fault.Line(err.Error())
	}
	return p.refused(why)
}

func (p Prompt) nobody() error {
	if p.Agent {
		return p.refused("Broker does not ask at the terminal of an agent; a person can allow it in another terminal")
	}
	return p.refused("nobody can be asked here")
}

func (p Prompt) refused(why string) error {
	f := fault.New(fault.NotConfirmed, "%s needs a confirmation (%s), and %s", p.Profile, p.why(), why)
	if !p.atTerminal { // a command in a terminal would allow that terminal only
		return f.WithHint("broker allow %s --for 15m --reason WHY --everywhere", p.Profile)
	}
	return f.WithHint("broker allow %s --for 15m --reason WHY", p.Profile)
}
