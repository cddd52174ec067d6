package cli

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	fzf "github.com/junegunn/fzf/src"
	"golang.org/x/term"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/tty"
)

// pickProfile lets the person at the terminal choose a profile. The most recently used profiles come first. Without
// a terminal the error is usage.
func (p *program) pickProfile(ctx context.Context, usage error) (string, error) {
	if !hasTerminal() {
		return "", usage
	}
	if err := p.refuseLocked(ctx); err != nil {
		return "", err
	}
	set, err := p.set()
	if err != nil {
		return "", err
	}
	list := byUse(set, audit.Recent(p.paths.Audit()))
	if len(list) == 0 {
		return "", fault.New(fault.NotFound, "there is no usable profile yet").WithHint("broker profiles list")
	}
	i, err := p.pick(ctx, "profile", rows(list))
	if err != nil {
		return "", err
	}
	return list[i].Name, nil
}

// byUse returns the usable profiles: first the recently used ones, then the others by name.
func byUse(set *profiles.Set, recent []string) []profiles.Summary {
	usable := map[string]profiles.Summary{}
	var names []string
	for _, s := range set.List() {
		if s.Problem == "" && s.Kind != profiles.KindOther {
			usable[s.Name] = s
			names = append(names, s.Name)
		}
	}
	var list []profiles.Summary
	add := func(name string) {
		if s, ok := usable[name]; ok {
			delete(usable, name)
			list = append(list, s)
		}
	}
	for _, asked := range recent {
		if chain, err := set.Resolve(asked); err == nil { // the name may be an alias
			add(chain.Profile)
		}
	}
	for _, name := range names {
		add(name)
	}
	return list
}

// rows returns the lines of a list, in the columns of `broker list`.
func rows(list []profiles.Summary) []string {
	var b strings.Builder
	t := newTable(&b, 0)
	for _, s := range list {
		t.row(cellsOf(s)...)
	}
	_ = t.print() // a Builder never fails
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// pick lets the person at the terminal choose a line by typing parts of it, wherever stdin and stdout go. The first
// line is offered first. It uses the whole screen and always restores it.
//
// The list follows the typed text with a small delay, so a quick Enter may choose a line that was at the top a
// moment before. Therefore pick compares the choice with the typed text. It rejects a line that does not match the
// text, and asks before it takes a line that is not the best match.
//
// Errors: fault.Interrupted after Ctrl-C or a signal, fault.NotConfirmed if nothing was chosen (Esc), fault.Failed if
// the terminal cannot be used.
func (p *program) pick(ctx context.Context, title string, lines []string) (int, error) {
	person, err := p.openTerminal()
	if err != nil {
		return 0, err
	}
	defer func() { _ = person.Close() }()
	p.echo.restore()
	if state, err := term.GetState(int(person.Fd())); err == nil {
		defer func() { _ = term.Restore(int(person.Fd()), state) }()
	}
	signals := make(chan os.Signal, 1)
	tty.NotifyEnd(signals)
	ended := make(chan struct{})
	go endOnSignal(ctx, ended)
	color := "--color=16"
	if os.Getenv("NO_COLOR") != "" { // https://no-color.org
		color = "--no-color"
	}
	said, err := list(lines, nil, "--print-query", "--no-multi", "--layout=reverse", "--info=inline-right",
		"--no-separator", color, "--no-mouse", "--bind=ctrl-c:print("+interruptedKey+")+accept-or-print-query",
		"--prompt="+title+"> ", "--header=type a part; Enter takes it, Esc leaves")
	close(ended)
	signal.Stop(signals) // returns when a signal that ended fzf has reached signals, too
	nothing := fault.New(fault.NotConfirmed, "nothing was chosen")
	switch {
	case err != nil:
		return 0, err
	case slices.Contains(said, interruptedKey), len(signals) > 0, ctx.Err() != nil:
		return 0, fault.ErrInterrupted
	case len(said) != 2:
		return 0, nothing
	}
	query, chosen := said[0], said[1]
	if query == "" {
		return index(chosen, lines)
	}
	fit, err := list(lines, &query)
	switch {
	case err != nil:
		return 0, err
	case !slices.Contains(fit, chosen):
		return 0, nothing
	case chosen != fit[0]:
		_, line, _ := strings.Cut(chosen, "\t")
		answer, err := person.line(ctx, "Take "+strings.Join(strings.Fields(line), " ")+"? [y/N] ")
		if err != nil {
			return 0, err
		}
		if !yesIs(answer) {
			return 0, nothing
		}
	}
	return index(chosen, lines)
}

// interruptedKey is printed for Ctrl-C, which fzf otherwise does not distinguish from Esc. Lines begin with a
// number.
const interruptedKey = "^C"

// list runs fzf over the lines and returns what it prints. With a query it shows nothing and prints all matching
// lines, the best first. Each line starts with a number that is neither shown nor searched.
func list(lines []string, query *string, options ...string) ([]string, error) {
	// Ignore the person's own fzf options, because they may run programs.
	opts, err := fzf.ParseOptions(false, append(options, "--delimiter=\t", "--with-nth=2", "--tiebreak=index"))
	if err != nil {
		return nil, fault.New(fault.Internal, "the list to choose from: %w", err)
	}
	input := make(chan string, len(lines))
	for i, line := range lines {
		input <- strconv.Itoa(i) + "\t" + line
	}
	close(input)
	var printed []string
	opts.Input, opts.Filter, opts.Printer = input, query, func(line string) { printed = append(printed, line) }
	if code, err := fzf.Run(opts); err != nil || code == fzf.ExitError {
		return nil, fault.New(fault.Failed, "the list to choose from: %w", err)
	}
	return printed, nil
}

// index returns the number that list put before a line.
func index(chosen string, lines []string) (int, error) {
	number, _, _ := strings.Cut(chosen, "\t")
	i, err := strconv.Atoi(number)
	if err != nil || i < 0 || i >= len(lines) {
		return 0, fault.New(fault.Internal, "the list to choose from answered %q", chosen)
	}
	return i, nil
}

// endOnSignal ends fzf when ctx ends. fzf has no context, but it restores the terminal on SIGTERM. It may not
// handle the signal yet, so endOnSignal repeats it.
func endOnSignal(ctx context.Context, ended <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-ended:
		return
	}
	for {
		endList()
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ended:
			return
		}
	}
}
