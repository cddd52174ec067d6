package cli

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	fzf "github.com/junegunn/fzf/src"
	"golang.org/x/term"

	"broker/internal/audit"
	"broker/internal/fault"
	"broker/internal/profiles"
)

// pickProfile lets the person at the terminal choose a profile, those used
// latest first. Without a terminal the error is usage.
func (p *program) pickProfile(ctx context.Context, usage error) (string, error) {
	if !hasTerminal() {
		return "", usage
	}
	set, err := p.set()
	if err != nil {
		return "", err
	}
	list := byUse(set, audit.Recent(p.paths.Audit()))
	if len(list) == 0 {
		return "", fault.New(fault.NotFound, "there is no profile yet that could be used").WithHint("broker profiles list")
	}
	i, err := pick(ctx, "profile", rows(list))
	if err != nil {
		return "", err
	}
	return list[i].Name, nil
}

// byUse is what can be used: first what was given lately, then the rest by name.
func byUse(set *profiles.Set, recent []string) []profiles.Summary {
	usable := map[string]profiles.Summary{}
	var names []string
	for _, s := range set.List() {
		if s.Problem == "" {
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
		if chain, err := set.Resolve(asked); err == nil { // asked for by an alias, perhaps
			add(chain.Profile)
		}
	}
	for _, name := range names {
		add(name)
	}
	return list
}

// rows are the lines of a list: name, account, role and region, in columns.
func rows(list []profiles.Summary) []string {
	cells := make([][]string, 0, len(list))
	var widths [3]int
	for _, s := range list {
		role := s.RoleARN[strings.LastIndexByte(s.RoleARN, '/')+1:]
		if s.Kind == profiles.KindSource {
			role = "(source)"
		}
		name := s.Name
		if len(s.Aliases) > 0 {
			name += " (" + strings.Join(s.Aliases, ", ") + ")"
		}
		row := []string{dash(name), dash(s.AccountID), dash(role), dash(s.Region)}
		for i := range widths {
			widths[i] = max(widths[i], len([]rune(row[i])))
		}
		cells = append(cells, row)
	}
	lines := make([]string, 0, len(cells))
	for _, row := range cells {
		lines = append(lines, fmt.Sprintf("%-*s  %-*s  %-*s  %s", widths[0], row[0], widths[1], row[1], widths[2], row[2], row[3]))
	}
	return lines
}

// pick lets the person at the terminal choose one of some lines by typing parts
// of it, whatever stdin and stdout are; the first line is offered first. It takes
// the whole screen, which is given back, as it was, however this ends.
//
// Errors: fault.NotConfirmed where nothing was chosen (Esc, Ctrl-C, the end of
// ctx), fault.Failed where the terminal cannot be used.
func pick(ctx context.Context, title string, lines []string) (int, error) {
	tty, err := openTerminal()
	if err != nil {
		return 0, err
	}
	defer func() { _ = tty.Close() }()
	if state, err := term.GetState(int(tty.Fd())); err == nil {
		defer func() { _ = term.Restore(int(tty.Fd()), state) }()
	}
	// Nothing of the person's own options of fzf: they may run programs. A number stands before each line,
	// which is neither shown nor searched, and is what comes back.
	opts, err := fzf.ParseOptions(false, []string{
		"--no-multi", "--layout=reverse", "--info=hidden", "--no-separator", "--color=16", "--no-mouse", "--tiebreak=index", "--prompt=" + title + "> ",
		"--delimiter=\t", "--with-nth=2", "--accept-nth=1", "--header=type a part; Enter takes it, Esc leaves",
	})
	if err != nil {
		return 0, fault.New(fault.Internal, "the list to choose from: %w", err)
	}
	input := make(chan string, len(lines))
	for i, line := range lines {
		input <- strconv.Itoa(i) + "\t" + line
	}
	close(input)
	chosen := ""
	opts.Input, opts.Printer = input, func(line string) { chosen = line }

	ended := make(chan struct{})
	defer close(ended)
	go endOnSignal(ctx, ended)
	code, err := fzf.Run(opts)
	i, wrong := strconv.Atoi(chosen)
	switch {
	case err != nil:
		return 0, fault.New(fault.Failed, "the list to choose from: %w", err)
	case code != fzf.ExitOk || ctx.Err() != nil:
		return 0, fault.New(fault.NotConfirmed, "nothing was chosen")
	case wrong != nil || i < 0 || i >= len(lines):
		return 0, fault.New(fault.Internal, "the list to choose from answered %q", chosen)
	}
	return i, nil
}

// endOnSignal ends fzf when ctx ends. It knows no context, but gives the terminal
// back on SIGTERM, which it may not listen to yet.
func endOnSignal(ctx context.Context, ended <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-ended:
		return
	}
	for {
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ended:
			return
		}
	}
}
