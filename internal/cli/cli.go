// Package cli implements the command line of broker. Each command has a file of its own, and all commands read
// arguments, prompt and fail in the same way. The package decides nothing about credentials: it asks the daemon,
// the vault and the files.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/harden"
	"broker/internal/lazyregexp"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/tty"
	"broker/internal/version"
	"broker/internal/wire"
)

// program is the state that all commands share.
type program struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer // writes to problems, and escapes control characters
	text   io.Writer // writes to stdout, and escapes control characters
	// problems is where warnings and errors go.
	problems io.Writer
	silence  func()          // ends progress
	warned   map[string]bool // warnings that were printed already
	paths    paths.Paths
	client   client.Client  // keeps the Transport that it was created with
	store    profiles.Store // for commands that need only the settings

	// now and pause are time.Now and a pause, but for tests.
	now   func() time.Time
	pause func(ctx context.Context, d time.Duration) error

	echo       *echo
	interrupts interruption
	// commands is the command tree, as far as app has built it. names is the number of names before the command that
	// exec runs.
	commands *cli.App
	typed    []string // the words of the command line after "broker"
	names    int
	within   bool // another command runs this one and prints the next step
	// auditOptional means that this command ends audit = required, so it works without its line in the audit log.
	auditOptional bool
}

// Main runs the program broker and returns its exit code. Under the name docker-credential-broker, it is Docker's
// helper.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return newProgram(stdin, stdout, stderr).main(asDockerHelper(args))
}

func newProgram(stdin io.Reader, stdout, stderr io.Writer) *program {
	e := new(echo)
	return &program{stdin: stdin, stdout: stdout, problems: stderr, text: fault.Writer(stdout),
		stderr: fault.Writer(stderr), silence: func() {}, warned: map[string]bool{}, now: time.Now, pause: pause,
		echo: e, interrupts: newInterruption(e.restore)}
}

func (p *program) main(args []string) int {
	if code, is := attend(args[1:]); is {
		return code
	}
	err := p.run(args)
	p.echo.restore()
	if err == nil {
		return 0
	}
	if p.interrupts.Err() != nil {
		err = fault.ErrInterrupted // whatever error the interruption caused
	}
	if exit, ok := errors.AsType[exitError](err); ok {
		return int(exit)
	}
	return p.fail(err)
}

// fail prints the error and returns its exit code.
func (p *program) fail(err error) int {
	f := fault.Of(err)
	if at := locate(p.commands, p.typed); f.Kind == fault.Usage && f.Hint == "" && at.command != nil {
		f = f.WithHint("broker %s --help", at.path)
	}
	text := flow("broker: "+f.Error(), columns(p.problems)) + "\n"
	if hint := f.ShownHint(); hint != "" {
		text += "hint: " + hint + "\n" // not wrapped, so that it can be copied
	}
	_, _ = io.WriteString(p.stderr, text)
	return f.Kind.ExitCode()
}

// patience is how long a command waits for an answer. It is longer than for credproc: no SDK gives up after a
// minute, and a person may have to fetch the MFA device.
const patience = 150 * time.Second

// exitError ends the program with an exit code and no message, because the message was already printed.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func (p *program) run(args []string) error {
	words := args[1:]
	p.commands = p.app(words...)
	completes := len(words) > 0 && words[len(words)-1] == completionFlag
	if completes {
		words = words[:len(words)-1]
	}
	in := read(p.commands, words)
	p.typed = words
	p.names = len(in.words)
	switch {
	case completes: // see below: the paths must be known first
	case len(in.commands) > 0 && len(in.words) > 0 && in.unknown == "" && !takesNames(in.command):
		return noCommand(in.path, in.commands, in.words[0])
	case in.version:
		p.printVersion()
		return nil
	case in.help, len(in.commands) > 0 && len(in.rest) == 0 && !acts(in.command):
		p.help(p.commands, in.path, in.command)
		return nil
	case in.bare != "":
		return fault.New(fault.Usage, "%s needs a value", in.bare).WithHint("broker %s --help", in.path)
	}
	if err := harden.Process(); err != nil {
		return fault.New(fault.Config, "%w", err)
	}
	var err error
	needsNone := slices.Contains([]string{"help", "version", "completion"}, strings.Join(in.path, " "))
	if p.paths, err = paths.FromEnv(); err != nil && !needsNone {
		return fault.New(fault.Failed, "%w", err).WithHint("%s", client.NameHome())
	}
	files := profiles.Original(p.paths.PrivateFiles(), p.files())
	p.paths.Config, p.paths.Credentials = files.Config, files.Credentials
	p.client.Paths, p.client.Version, p.client.Wait = p.paths, version.String(), patience
	p.client.Shows = func() {
		p.interrupts.catch() // a signal then ends the exchange, which restores the terminal
		p.echo.restore()
		p.silence()
	}
	if completes {
		p.completion(words)
		return nil
	}
	return p.commands.RunContext(p.interrupts, append(args[:1:1], in.ordered...))
}

// command runs another command of this program.
func (p *program) command(ctx context.Context, words ...string) error {
	app := p.app(words...)
	in := read(app, words)
	p.names = len(in.words)
	p.within = true
	defer func() { p.within = false }()
	return app.RunContext(ctx, append([]string{"broker"}, in.ordered...))
}

// app builds the command tree: only the command that the first word names, or all commands if there is none. Most runs
// need one command, and the flags of all of them take time and memory.
func (p *program) app(words ...string) *cli.App {
	type command struct {
		name  string
		build func(*program) *cli.Command
	}
	groups := []struct {
		title    string // in `broker help`
		commands []command
	}{
		{"Set up", []command{
			{"setup", (*program).setupCommand},
			{"add", (*program).addCommand},
			{"import", (*program).importCommand},
			{"mfa", (*program).mfaCommand},
			{"rotate", (*program).rotateCommand},
			{"remove", (*program).removeCommand},
			{"keyring", (*program).keyringCommand},
			{"config", (*program).configCommand},
			{"completion", (*program).completionCommand},
		}},
		{"Every day", []command{
			{"exec", (*program).execCommand},
			{"shell", (*program).shellCommand},
			{"export", (*program).exportCommand},
			{"console", (*program).consoleCommand},
			{"token", (*program).tokenCommand},
			{"login", (*program).loginCommand},
			{"logout", (*program).logoutCommand},
			{"publish", (*program).publishCommand},
			{"unpublish", (*program).unpublishCommand},
			{"forward", (*program).forwardCommand},
			{"status", (*program).statusCommand},
			{"allow", (*program).allowCommand},
			{"deny", (*program).denyCommand},
			{"elevate", (*program).elevateCommand},
			{"lock", (*program).lockCommand},
			{"unlock", (*program).unlockCommand},
			{"log", (*program).logCommand},
			{"doctor", (*program).doctorCommand},
		}},
		{"Profiles", []command{
			{"list", func(p *program) *cli.Command { return p.listCommand("broker list") }},
			{"explain", (*program).explainCommand},
			{"profiles", (*program).profilesCommand},
			{"accounts", (*program).accountsCommand},
			{"policy", (*program).policyCommand},
		}},
		{"Daemon", []command{
			{"daemon", (*program).daemonCommand},
			{"service", (*program).serviceCommand},
			{"version", (*program).versionCommand},
			{"help", (*program).helpCommand},
		}},
	}
	meant := func(c command) bool { return len(words) > 0 && c.name == words[0] }
	known := false
	for _, g := range groups {
		known = known || slices.ContainsFunc(g.commands, meant)
	}
	var list []*cli.Command
	for _, g := range groups {
		for _, c := range g.commands {
			if !known || meant(c) {
				built := c.build(p)
				built.Category = g.title
				finish(built)
				p.guard(built, built.Name)
				list = append(list, built)
			}
		}
	}
	return &cli.App{
		Name:                   "broker",
		Usage:                  "keeps AWS keys in the OS keyring and hands out role sessions",
		UsageText:              "broker setup\nbroker exec prod -- aws s3 ls\nbroker status",
		HideVersion:            true,
		HideHelp:               true,
		Reader:                 p.stdin,
		Writer:                 p.text,
		ErrWriter:              p.stderr,
		UseShortOptionHandling: false,

		DisableSliceFlagSeparator: true, // the value of --session-tag may contain a comma
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              usageError,
		CommandNotFound:           nil,
		Action:                    group,
		Commands:                  list,
	}
}

// finish sets on a command and its subcommands what all commands have in common.
func finish(c *cli.Command) {
	c.OnUsageError = usageError
	c.HideHelp = true
	for _, sub := range c.Subcommands {
		finish(sub)
	}
	if len(c.Subcommands) > 0 && c.Action == nil {
		c.Action = group
	}
}

// acts reports whether a command does something without a subcommand. Then it has options too.
func acts(c *cli.Command) bool { return c != nil && len(c.Flags) > 0 }

// takesNames reports whether a command with subcommands also takes other words.
func takesNames(c *cli.Command) bool { return c != nil && c.ArgsUsage != "" }

// group is the action of a command with subcommands. It does nothing: run has already printed the help or refused a
// word.
func group(*cli.Context) error { return nil }

// flagPattern matches an error of package flag about the value of an option.
var flagPattern = lazyregexp.New(`^invalid (boolean )?value (.*) for (?:flag )?-(\S+): (.*)$`)

func usageError(c *cli.Context, err error, _ bool) error {
	f := fault.New(fault.Usage, "%s", err)
	if m := flagPattern.FindStringSubmatch(err.Error()); m != nil {
		why := m[4]
		switch {
		case why == "parse error" && m[1] != "":
			why = "it is neither true nor false"
		case why == "parse error":
			why = "it is not a whole number"
		}
		f = fault.New(fault.Usage, "%s does not take %s: %s", dashed(m[3]), m[2], why)
	} else if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		f = fault.New(fault.Usage, "there is no option %s", dashed(name))
		var names []string
		for _, flag := range c.Command.VisibleFlags() {
			names = append(names, flag.Names()...)
		}
		if near := profiles.Nearest(name, slices.Values(names), 1); len(near) > 0 {
			f = fault.New(fault.Usage, "%w; did you mean %s?", f, dashed(near[0]))
		}
	}
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != c.App.Name {
		return f.WithHint("%s --help", typed(c))
	}
	return f.WithHint("broker help")
}

// typed returns a command as a person types it, such as "broker profiles list".
func typed(c *cli.Context) fault.Hint { return fault.Hintf("%s", strings.Fields(c.Command.HelpName)) }

// named returns a command as messages name it, such as "profiles list".
func named(c *cli.Context) string { return strings.TrimPrefix(c.Command.HelpName, "broker ") }

// one returns the only argument of a command.
func one(c *cli.Context, what string) (string, error) {
	if c.Args().Len() > 1 {
		return "", fault.New(fault.Usage, "%s takes one %s, got %q as well", named(c), what, c.Args().Get(1)).
			WithHint("%s %s", typed(c), c.Args().First())
	}
	if c.Args().First() == "" {
		return "", fault.New(fault.Usage, "%s needs one %s", named(c), what).WithHint("%s --help", typed(c))
	}
	return c.Args().First(), nil
}

// none returns an error if the command has arguments. The only one may be meant for --map.
func none(c *cli.Context) error {
	if !c.Args().Present() {
		return nil
	}
	hint := typed(c)
	reads := slices.ContainsFunc(c.Command.Flags, func(flag cli.Flag) bool { return flag.Names()[0] == "map" })
	if reads && c.Args().Len() == 1 && !c.IsSet("map") {
		hint += fault.Hintf(" --map %s", c.Args().First())
	}
	return fault.New(fault.Usage, "%s takes no argument, got %q", named(c), c.Args().First()).WithHint("%s", hint)
}

func (p *program) files() profiles.Files { return profiles.FilesOf(p.paths) }

// set reads the files as they are now, and prints their warnings on stderr.
func (p *program) set() (*profiles.Set, error) {
	set, err := new(profiles.Store).Load(p.files())
	if err != nil {
		return nil, err
	}
	if p.paths.Door != "" { // the files of a door name the aliases as profiles, and nothing here can be changed
		return set, nil
	}
	for _, w := range set.Warnings() {
		p.warn([]string{w.String()})
	}
	return set, nil
}

// settings returns set, with the [settings] of the registry.
func (p *program) settings() (*profiles.Set, profiles.Settings, error) {
	set, err := p.set()
	if err != nil {
		return nil, profiles.Settings{}, err
	}
	settings, err := set.Settings()
	return set, settings, err
}

// find returns the exact name of the profile or source that a person typed. A door is asked for any name, because a
// far host has no registry.
func (p *program) find(typed string) (string, error) {
	set, err := p.set()
	if err != nil {
		return "", err
	}
	name, err := set.Find(typed)
	if err != nil && p.paths.Door != "" {
		return typed, nil
	}
	return name, err
}

// warn prints each warning once, because both this program and the daemon read the files.
func (p *program) warn(warnings []string) {
	for _, w := range warnings {
		if !p.warned[w] {
			p.warned[w] = true
			p.caution(w)
		}
	}
}

// caution prints a warning even if it was printed before.
func (p *program) caution(warning string) {
	p.silence()
	_, _ = io.WriteString(p.stderr, flow("warning: "+fault.Line(warning), columns(p.problems))+"\n")
}

// say prints sentences for a person, wrapped to the width of the terminal.
func (p *program) say(format string, args ...any) {
	p.raw(flow(fmt.Sprintf(format, args...), columns(p.stdout)))
}

// raw prints a line that another program may read. It is not wrapped.
func (p *program) raw(line string) { _, _ = io.WriteString(p.text, line+"\n") }

// ask sends a request. If the keyring is locked and there is a terminal, it prompts for the passphrase, gives the
// daemon the key and sends the request again.
func (p *program) ask(ctx context.Context, req wire.Request) (wire.Response, error) {
	resp, err := p.do(ctx, req)
	// A door takes no passphrase, and what listens there may lie.
	if !fault.Is(err, fault.KeyringLocked) || p.paths.Door != "" || !hasTerminal() {
		return resp, err
	}
	if err := p.unlockDaemon(ctx, err); err != nil {
		return wire.Response{}, err
	}
	return p.do(ctx, req)
}

// hasTerminal reports whether a person can be prompted.
func hasTerminal() bool { return tty.Exists() }
