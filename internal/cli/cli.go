// Package cli owns the command line of broker: one file for each command, and
// the one way in which all of them read arguments, ask questions and fail. It refuses to decide
// anything about credentials; it asks the daemon, the vault and the files.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"broker/internal/client"
	"broker/internal/fault"
	"broker/internal/harden"
	"broker/internal/paths"
	"broker/internal/profiles"
	"broker/internal/tty"
	"broker/internal/version"
	"broker/internal/wire"
)

// program is what every command works with.
type program struct {
	stdin      io.Reader
	stdout     io.Writer
	stderr     io.Writer
	text       io.Writer // stdout, for what a person reads
	paths      paths.Paths
	client     client.Client  // with the Transport that it was made with
	store      profiles.Store // for what a command asks of the settings alone
	interrupts interruption
	// names is how many arguments stood before "--"; exec takes the rest as a command.
	names int
}

// Main is the program broker: it returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return newProgram(stdin, stdout, stderr).main(args)
}

func newProgram(stdin io.Reader, stdout, stderr io.Writer) *program {
	return &program{stdin: stdin, stdout: stdout, text: fault.Writer(stdout), stderr: fault.Writer(stderr),
		interrupts: newInterruption()}
}

func (p *program) main(args []string) int {
	err := p.run(args)
	if err == nil {
		return 0
	}
	if p.interrupts.Err() != nil {
		err = fault.ErrInterrupted // whatever came of it
	}
	var exit exitError
	if errors.As(err, &exit) {
		return int(exit)
	}
	f := fault.Of(err)
	_, _ = io.WriteString(p.stderr, f.Report("broker"))
	return f.Kind.ExitCode()
}

// patience is how long a command waits for an answer: unlike credproc it has no
// SDK behind it that gives up after a minute, and a person may have to find his device.
const patience = 150 * time.Second

// exitError ends the program with a code and no message: all was said before.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func (p *program) run(args []string) error {
	if err := harden.Process(); err != nil {
		return fault.New(fault.Config, "%w", err)
	}
	var err error
	if p.paths, err = paths.FromEnv(); err != nil {
		return fault.New(fault.Failed, "%w", err)
	}
	files := profiles.Original(p.paths.Overlays(), p.files())
	p.paths.Config, p.paths.Credentials = files.Config, files.Credentials
	p.client.Paths, p.client.Version, p.client.Wait = p.paths, version.String(), patience

	return p.command(p.interrupts, args)
}

// command runs one command. args begins with the name of the program.
func (p *program) command(ctx context.Context, args []string) error {
	app := p.app()
	ordered, names := reorder(app, args[1:])
	p.names = names
	return app.RunContext(ctx, append(args[:1:1], ordered...))
}

// app is the table of commands.
func (p *program) app() *cli.App {
	app := &cli.App{
		Name:                   "broker",
		Usage:                  "keeps AWS keys in the OS keyring and hands out role sessions",
		UsageText:              "broker COMMAND [ARGUMENTS]",
		HideVersion:            true,
		HideHelpCommand:        true,
		Reader:                 p.stdin,
		Writer:                 p.text,
		ErrWriter:              p.stderr,
		EnableBashCompletion:   true,
		UseShortOptionHandling: false,
		ExitErrHandler:         func(*cli.Context, error) {},
		OnUsageError:           usageError,
		CommandNotFound:        nil,
		Flags: []cli.Flag{
			cli.HelpFlag, &cli.BoolFlag{Name: "version", Usage: "print the version", DisableDefaultText: true},
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.Bool("version"):
				p.printVersion()
				return nil
			case c.Args().Present():
				return fault.New(fault.Usage, "there is no command %q", c.Args().First()).WithHint("broker help")
			}
			return cli.ShowAppHelp(c)
		},
		Commands: []*cli.Command{
			p.setupCommand(),
			p.addCommand(),
			p.importCommand(),
			p.mfaCommand(),
			p.removeCommand(),
			p.loginCommand(),
			p.logoutCommand(),
			p.lockCommand(),
			p.unlockCommand(),
			p.execCommand(),
			p.shellCommand(),
			p.exportCommand(),
			p.publishCommand(),
			p.unpublishCommand(),
			p.consoleCommand(),
			p.explainCommand(),
			p.profilesCommand(),
			p.configCommand(),
			p.statusCommand(),
			p.keyringCommand(),
			p.daemonCommand(),
			p.serviceCommand(),
			p.completionCommand(),
			p.versionCommand(),
			p.helpCommand(),
		},
	}
	for _, c := range app.Commands {
		finish(c)
		p.guard(c, c.Name)
	}
	return app
}

// finish gives a command and those below it what all have in common.
func finish(c *cli.Command) {
	c.OnUsageError = usageError
	c.HideHelpCommand = true
	for _, sub := range c.Subcommands {
		finish(sub)
	}
	if len(c.Subcommands) > 0 && c.Action == nil {
		c.Action = func(ctx *cli.Context) error {
			if ctx.Args().Present() {
				return fault.New(fault.Usage, "there is no command %q", c.Name+" "+ctx.Args().First()).WithHint("broker %s --help", c.Name)
			}
			return cli.ShowSubcommandHelp(ctx)
		}
	}
}

func usageError(c *cli.Context, err error, _ bool) error {
	f := fault.New(fault.Usage, "%s", err)
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != c.App.Name {
		return f.WithHint("%s --help", typed(c))
	}
	return f.WithHint("broker help")
}

// typed is a command as it is typed, such as "broker profiles list".
func typed(c *cli.Context) fault.Hint { return fault.Hintf("%s", strings.Fields(c.Command.HelpName)) }

// one returns the only argument of a command.
func one(c *cli.Context, what string) (string, error) {
	if c.Args().Len() > 1 {
		return "", fault.New(fault.Usage, "%s takes one %s, got %q as well", c.Command.Name, what, c.Args().Get(1)).
			WithHint("%s %s", typed(c), c.Args().First())
	}
	if c.Args().First() == "" {
		return "", fault.New(fault.Usage, "%s needs one %s", c.Command.Name, what).
			WithHint("%s %s", typed(c), strings.ToUpper(what))
	}
	return c.Args().First(), nil
}

// none refuses arguments.
func none(c *cli.Context) error {
	if c.Args().Present() {
		return fault.New(fault.Usage, "%s takes no argument, got %q", c.Command.Name, c.Args().First()).
			WithHint("%s", typed(c))
	}
	return nil
}

func (p *program) files() profiles.Files { return profiles.FilesOf(p.paths) }

// set reads the files as they are now, and says on stderr what is wrong with them.
func (p *program) set() (*profiles.Set, error) {
	set, err := new(profiles.Store).Load(p.files())
	if err != nil {
		return nil, err
	}
	for _, w := range set.Warnings() {
		p.warn([]string{w.String()})
	}
	return set, nil
}

// settings is set with what the registry's [settings] say.
func (p *program) settings() (*profiles.Set, profiles.Settings, error) {
	set, err := p.set()
	if err != nil {
		return nil, profiles.Settings{}, err
	}
	settings, err := set.Settings()
	return set, settings, err
}

// table begins a table, with a header unless that is empty. Flush prints it.
func (p *program) table(header string) *tabwriter.Writer {
	w := tabwriter.NewWriter(p.text, 0, 0, 2, ' ', 0)
	if header != "" {
		_, _ = fmt.Fprintln(w, header)
	}
	return w
}

// find turns what a person typed into the exact name of a profile or source.
func (p *program) find(typed string) (string, error) {
	set, err := p.set()
	if err != nil {
		return "", err
	}
	return set.Find(typed)
}

func (p *program) warn(warnings []string) {
	for _, w := range warnings {
		_, _ = fmt.Fprintf(p.stderr, "warning: %s\n", fault.Line(w))
	}
}

func (p *program) say(format string, args ...any) {
	_, _ = fmt.Fprintf(p.text, format+"\n", args...)
}

// ask sends a request that may find the keyring locked: where a person is at
// the terminal it asks for the passphrase, gives it to the daemon, and asks again.
func (p *program) ask(ctx context.Context, req wire.Request) (wire.Response, error) {
	resp, err := p.client.Do(ctx, req)
	if !fault.Is(err, fault.KeyringLocked) || !hasTerminal() {
		return resp, err
	}
	if err := p.unlockDaemon(ctx, err); err != nil {
		return wire.Response{}, err
	}
	return p.client.Do(ctx, req)
}

// hasTerminal reports whether a person can be asked.
func hasTerminal() bool { return tty.Exists() }
