package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"broker/internal/fault"
	"broker/internal/profiles"
	"broker/internal/wire"
)

func (p *program) doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "check everything, and print the command that fixes each problem",
		UsageText: "broker doctor\n" +
			"broker doctor --fix\n" +
			"broker doctor --deep --json",
		Description: "Checks files, keys, profiles, the keyring, the daemon, the programs and the audit log. It works while\n" +
			"Broker is locked, starts no daemon, calls no AWS service without --deep, and prints no secret. It ends with\n" +
			"exit code 1 if there is an error; a warning is not an error.",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "deep", Usage: "also look for keys in shell history, startup files of shells and .env files, and ask AWS for second keys"},
			&cli.BoolFlag{Name: "fix", Usage: "after asking, run the printed commands that are safe: permissions, links, the daemon"},
			&cli.BoolFlag{Name: "yes", Usage: "with --fix: do not ask"},
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.Bool("fix") && c.Bool("json"):
				return fault.New(fault.Usage, "--fix cannot be combined with --json").WithHint("broker doctor --fix")
			case c.Bool("yes") && !c.Bool("fix"):
				return fault.New(fault.Usage, "--yes needs --fix").WithHint("broker doctor --fix --yes")
			}
			return p.doctor(c.Context, c.Bool("deep"), c.Bool("json"), c.Bool("fix"), c.Bool("yes"))
		},
	}
}

// level says how bad a finding is.
type level string

const (
	bad   level = "error"   // something does not work, or a key is in danger
	risky level = "warning" // something may not work, or is not as safe as it could be
	fine  level = "ok"
)

// finding is one result of a check.
type finding struct {
	Group   string     `json:"group"`
	Level   level      `json:"level"`
	Text    string     `json:"text"`
	Command fault.Hint `json:"command,omitempty"` // fixes it
	safe    bool       // --fix may run the command
}

// examination is one run of all checks, and what several checks need.
type examination struct {
	*program
	deep      bool
	set       *profiles.Set // nil if the files cannot be read
	settings  profiles.Settings
	err       error // why the files cannot be read
	plain     []profiles.Plain
	plainErr  error // why the AWS files cannot be read
	status    wire.Status
	statusErr error
	findings  []finding
}

// need is what a check must have read.
type need int

const (
	needsNothing  need = iota
	needsPlain         // x.plain
	needsProfiles      // x.set
	needsSettings      // x.set and x.settings
)

// checks lists all checks. If one finds nothing, well is printed as ok, or as not checked if what it needs cannot be
// read.
var checks = []struct {
	group, well string
	need        need
	check       func(*examination, context.Context) []finding
}{
	{"files", "the registry and the AWS files can be read", needsNothing, (*examination).checkFiles},
	{"files", "only you can change Broker's files, and only you can read secrets", needsNothing, (*examination).checkPermissions},
	{"keys", "the AWS files hold no long-lived key", needsPlain, (*examination).checkPlainKeys},
	{"keys", "this shell sets no variable that overrides a profile", needsSettings, (*examination).checkShell},
	{"keys", "each source has an MFA device", needsProfiles, (*examination).checkSources},
	{"keys", "no key is older than max_age, and no rotation has stopped", needsSettings, (*examination).checkRotation},
	{"keys", "", needsSettings, (*examination).checkKeysInAWS},
	{"keys", "no key is in shell history, startup files or .env files", needsNothing, (*examination).checkDeep},
	{"profiles", "the profiles and sources in the registry can be used", needsProfiles, (*examination).checkProfiles},
	{"profiles", "AWS tools ask this Broker for each linked profile", needsProfiles, (*examination).checkLinked},
	{"profiles", "", needsProfiles, (*examination).checkLogins},
	{"profiles", "AWS denied no role within the last day", needsNothing, (*examination).checkDenied},
	{"keyring", "the keyring works", needsSettings, (*examination).checkKeyring},
	{"daemon", "", needsNothing, (*examination).checkDaemon},
	{"daemon", "", needsNothing, (*examination).checkService},
	{"daemon", "", needsNothing, (*examination).checkClock},
	{"programs", "broker, brokerd and credproc are of one version", needsNothing, (*examination).checkPrograms},
	{"audit log", "each line follows the one before it", needsNothing, (*examination).checkAudit},
	{"tools", "no tool on the PATH needs another delivery than credential_process", needsNothing, (*examination).checkTools},
}

// examine runs all checks.
func (p *program) examine(ctx context.Context, deep bool) *examination {
	x := &examination{program: p, deep: deep}
	if x.set, x.err = new(profiles.Store).Load(p.files()); x.err == nil {
		x.settings, x.err = x.set.Settings()
	}
	x.plain, _, x.plainErr = profiles.PlainKeys(p.files())
	x.status, x.statusErr = p.client.Status(ctx)
	var missed []string
	for _, c := range checks {
		found := c.check(x, ctx)
		switch {
		case x.lacks(c.need) && c.well != "":
			missed = append(missed, c.well)
		case len(found) == 0 && c.well != "":
			found = []finding{{Level: fine, Text: c.well}}
		}
		for _, f := range found {
			first, _, _ := strings.Cut(string(f.Command), " && ")
			again := func(o finding) bool { return string(o.Command) == first }
			aboutMode := strings.HasPrefix(first, "chmod ") || strings.HasPrefix(first, "ls -ld ")
			if aboutMode && slices.ContainsFunc(x.findings, again) {
				continue // two checks found the same permission
			}
			f.Group = c.group
			x.findings = append(x.findings, f)
		}
	}
	if len(missed) > 0 {
		x.findings = append(x.findings, finding{Group: "not checked", Level: risky,
			Text: "until the error in files is fixed: " + strings.Join(missed, "; ")})
	}
	return x
}

// lacks reports whether what a check needs could not be read. checkFiles reports why.
func (x *examination) lacks(what need) bool {
	switch what {
	case needsPlain:
		return x.plainErr != nil && x.err != nil
	case needsProfiles:
		return x.set == nil
	case needsSettings:
		return x.err != nil
	}
	return false
}

// count returns the number of findings of a level.
func (x *examination) count(of level) (n int) {
	for _, f := range x.findings {
		if f.Level == of {
			n++
		}
	}
	return n
}

func (p *program) doctor(ctx context.Context, deep, asJSON, fix, yes bool) error {
	x := p.examine(ctx, deep)
	if asJSON {
		err := p.printJSON(struct {
			Errors   int       `json:"errors"`
			Warnings int       `json:"warnings"`
			Findings []finding `json:"findings"`
		}{x.count(bad), x.count(risky), x.findings})
		if err != nil {
			return err
		}
	} else {
		x.print()
	}
	if fix {
		ran, err := x.fix(ctx, yes)
		if err != nil {
			return err
		}
		if ran {
			x = p.examine(ctx, deep)
			p.say("")
			x.print()
		}
	}
	if x.count(bad) > 0 {
		return exitError(1)
	}
	return nil
}

// print shows the findings by group, with a summary.
func (x *examination) print() {
	group := ""
	for _, f := range x.findings {
		if f.Group != group {
			group = f.Group
			x.say("%s", group)
		}
		x.say("  %-8s  %s", f.Level, fault.Line(f.Text))
		if command := f.Command.Shown(); command != "" {
			x.raw("            " + command) // not wrapped, so that it can be copied
		}
	}
	x.say("\n%s, %s", plural(x.count(bad), "error"), plural(x.count(risky), "warning"))
}

// fix runs the safe commands after asking. ran means that at least one was run.
func (x *examination) fix(ctx context.Context, yes bool) (ran bool, err error) {
	var commands []fault.Hint
	for _, f := range x.findings {
		if f.safe && f.Level != fine && !slices.Contains(commands, f.Command) {
			commands = append(commands, f.Command)
		}
	}
	if len(commands) == 0 {
		x.say("--fix has nothing to run")
		return false, nil
	}
	x.say("\n--fix runs")
	for _, command := range commands {
		x.raw("  " + command.Shown())
	}
	if !yes && !hasTerminal() {
		return false, fault.New(fault.NotConfirmed, "there is no terminal to ask on").WithHint("broker doctor --fix --yes")
	}
	if !yes {
		if err := x.confirm(ctx, "Run "+plural(len(commands), "command")+"?"); err != nil {
			return false, err
		}
	}
	for _, command := range commands {
		x.raw("\n$ " + command.Shown())
		if err := x.execute(ctx, command); err != nil {
			x.warn([]string{command.Shown() + ": " + err.Error()}) // the others may still help
		}
	}
	return true, nil
}

// execute runs a command without a shell. In it, "broker" is this program.
func (x *examination) execute(ctx context.Context, command fault.Hint) error {
	if runtime.GOOS == "windows" {
		return errors.New("on Windows, run it yourself")
	}
	w, ok := command.Words()
	if !ok {
		return errors.New("it needs a shell, so run it yourself")
	}
	if w[0] == "broker" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		w[0] = self
	}
	cmd := exec.CommandContext(ctx, w[0], w[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, x.stdout, x.stderr
	x.echo.restore()
	return cmd.Run()
}
